"""Features of images by a named extractor: what fidelity and memorisation are measured in.

An extractor is a classifier that `train` left, a pre-trained ViT, CLIP's image tower, or Inception; its name holds a
digest of its parameters and is part of the name of everything that is measured with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmoust.core.state import TrainState
from jaxmoust.core.tree import named_leaves
from jaxmoust.data.source import digest_bytes
from jaxmoust.models.classifiers import inception
from jaxmoust.models.classifiers.backbone import load_backbone
from jaxmoust.models.classifiers.preprocessing import Preprocessing
from jaxmoust.models.classifiers.pretrained import load_variables
from jaxmoust.models.stable_diffusion.clip import load_clip
from jaxmoust.runtime import parallel
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Batch, Images, gather_rows, gathered, normalize, variables_of
from jaxmoust.train.predict import check_finite


@dataclass(frozen=True, eq=False)
class Extractor:
    """A frozen network that maps images to vectors.

    Args:
        name: KIND-DIGEST, such as "clip-0a1b2c3d".
        features: `features(variables, image [B, H, W, C] in [-1, 1]) -> [B, F]` float32.
        variables: its parameters.
        preprocessing: what brings images to what it reads, in colour; None: it takes them as they come.
    """

    name: str
    features: Callable[[Any, jax.Array], Any]
    variables: Any
    preprocessing: Preprocessing | None = None

    def __call__(self, variables: Any, image: jax.Array) -> jax.Array:
        """Features [B, F] of uint8 images [B, H, W, C], prepared where it asks for that."""
        return self.features(variables, normalize(image))


def of_classifier(task: Classify, state: TrainState, kind: str = "classifier") -> Extractor:
    """The pooled features that a trained classifier's head is linear in; of its averaged parameters if it has any."""
    variables = variables_of(state)
    return Extractor(named(kind, variables), task.features, variables)


def of_vit(path: str | Path, num_heads: int = 0, heads_field: str = "config.extractor.num_heads") -> Extractor:
    """The features of a public network, a ViT or another that `load_backbone` reads, at the size it was trained for."""
    backbone = load_backbone(path, num_heads=num_heads, heads_field=heads_field)

    def features(variables: Any, image: jax.Array) -> Any:
        return backbone.features(variables, image / 2 + 0.5)

    return Extractor(f"vit-{backbone.digest[:8]}", features, backbone.variables, backbone.preprocessing)


def of_clip(path: str | Path) -> Extractor:
    """The projected image features of a CLIP in a local folder."""
    return of_loaded_clip(*load_clip(path))


def of_loaded_clip(clip: Any, params: Any) -> Extractor:
    """The same of a CLIP that is open already, as `load_clip` gives it."""
    prepare = clip.image.preprocessing
    return Extractor(named("clip", params, repr(prepare)), clip.image_features, params, prepare)


def of_inception(path: str | Path) -> Extractor:
    """The 2,048 features of the Inception that FID is published with, from its weights as .safetensors or .npz."""
    model = inception.InceptionV3()
    variables = load_variables(path, model, image_px=75)

    def features(variables: Any, image: jax.Array) -> Any:
        collections = {"params": variables["params"], "batch_stats": variables["stats"]}
        return model.apply(collections, inception.prepare(image), method="features")

    return Extractor(named("inception", variables), features, variables)


# Extractors of a file or a folder by the name that a configuration gives them.
EXTRACTORS: dict[str, Callable[..., Extractor]] = {"vit": of_vit, "clip": of_clip, "inception": of_inception}


def named(kind: str, variables: Any, how: str = "") -> str:
    """KIND-DIGEST: the same parameters, and the same preparation of images, the same name."""
    leaves = sorted(named_leaves(variables).items())
    parts = [part for name, leaf in leaves for part in (name.encode(), np.ascontiguousarray(leaf).reshape(-1).data)]
    return f"{kind}-{digest_bytes(*parts, *filter(None, [how.encode()]))[:8]}"


def make_extract(extractor: Extractor, machine: parallel.Machine) -> Callable[..., np.ndarray]:
    """Places an extractor on all devices: returns `extract(data, mirrored=False) -> float32 [N, F]`.

    Its data are padded batches with image, mask and index, as many on every process; rows come in the source's order.
    `extract` raises `predict.NonFiniteRows` where the network says NaN.
    """
    variables = machine.replicate(extractor.variables)

    def run(mirrored: bool, variables: Any, batch: Batch) -> dict[str, jax.Array]:
        image = batch["image"][:, :, ::-1] if mirrored else batch["image"]
        return {"features": extractor(variables, image)}

    compiled = {mirrored: gathered(partial(run, mirrored), machine) for mirrored in (False, True)}

    def extract(data: Images, mirrored: bool = False) -> np.ndarray:
        rows = gather_rows(compiled[mirrored], variables, data, machine)["features"]
        return check_finite(rows, f"The extractor {extractor.name}")

    return extract
