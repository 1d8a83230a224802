"""What looks alike to a public network, of which copies that were cut or mirrored are found, too."""

import logging
from collections.abc import Sequence

import numpy as np

from jaxmoust.data.near_duplicates import Look, near_by_features
from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.data.sources.scan_cache import load, save
from jaxmoust.jobs.parts.streams import evaluation_stream, prepared_form
from jaxmoust.models import hub
from jaxmoust.runtime import parallel
from jaxmoust.train import features

BATCH_SIZE = 32  # of a device
_SLOW_FROM = 1000  # images
_RULE = 1  # counts up when the same features come to tell other pairs
_LOG = logging.getLogger(__name__)


def by_features(backbone: str, address: str) -> Look:
    """Compares images by a network's features, which are computed once: the pairs of the same images are remembered.

    Args:
        backbone: a folder, a file, or a name on the hub.
        address: the digest of its content; "" of a name on the hub, which its commit tells apart.
    Raises: ValueError: no such network, or too many images that are near.
    """

    def look(sources: Sequence[Source]) -> np.ndarray:
        images = [source.digest.encode() for source in sources]

        def facts() -> str:
            return digest_bytes((address or hub.commit(backbone)).encode(), *images)

        what = f"near by features {_RULE}: {digest_bytes(*images)}"
        if (known := load(what, facts())) is None:
            known = _pairs(backbone, sources).astype("<i8").tobytes()
            save(what, facts(), known)
        return np.frombuffer(known, "<i8").astype(np.int64).reshape(-1, 2)

    return look


def _pairs(backbone: str, sources: Sequence[Source]) -> np.ndarray:
    machine, extractor = parallel.Machine.local(), features.of_vit(backbone, heads_field="")
    assert extractor.preprocessing, "a public network has one"
    form, count = prepared_form(extractor.preprocessing), sum(map(len, sources))
    if count >= _SLOW_FROM:
        _LOG.warning("Comparing %d images by their features (data.near_duplicates_by), once.", count)
    config = {"eval": {"batch_size": BATCH_SIZE * machine.num_devices}}
    extract = features.make_extract(extractor, machine)
    vectors = [extract(evaluation_stream(source, form, config, machine)) for source in sources]
    try:
        return near_by_features(np.concatenate(vectors))
    except ValueError as error:
        raise ValueError(f"data.near_duplicates_by {backbone}: {error}. Leave it out.") from error
