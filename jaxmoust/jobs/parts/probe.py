"""What a linear probe stands on: features of real images and of sets, left by `jaxmoust features` or made here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmoust.config import Config
from jaxmoust.core.augment.augment import Augment
from jaxmoust.data.mixture import as_tuple
from jaxmoust.data.pool import Pool
from jaxmoust.data.real import RealData
from jaxmoust.data.samplers.base import Sampler
from jaxmoust.data.source import REAL, Source
from jaxmoust.jobs.parts.inputs import Inputs, Output
from jaxmoust.jobs.parts.streams import Form, evaluation_stream, form_of
from jaxmoust.runtime import parallel
from jaxmoust.train import predict
from jaxmoust.train.classify import Classify
from jaxmoust.train.probe import Rows, spread

# Sections that features depend on.
SAME = ("model", "augment")
_DRAWS_AT_ONCE = 1 << 20


def num_views(config: Config, augment: Augment) -> int:
    """How many views of a training image there are, the image as it is among them."""
    return 1 if augment == Augment() else 1 + config["probe"]["views"]


def weights_of(config: Config, inputs: Inputs) -> str:
    """The content address of the weights that a network starts from; "" of a hub's name."""
    refs = (config["model"].get("weights", ""), config["method"]["pretrained"])
    return inputs.digest([ref for ref in refs if ref])


def check(config: Config) -> None:
    """Refuses what means nothing to a probe. Raises: ValueError: blended labels, random crops, a best checkpoint."""
    idle = {
        "augment.mixup": config["augment"]["mixup"],
        "augment.cutmix": config["augment"]["cutmix"],
        "data.random_crop": config["data"]["random_crop"],
        "train.best_metric": config["train"]["best_metric"],
        "train.eval_steps": config["train"]["eval_steps"],
    }
    if used := [f"config.{name} {value!r}" for name, value in idle.items() if value]:
        raise ValueError(
            f"{', '.join(used)} with method.learn 'probe', which is fitted at once on features of single images: "
            "expected 0 or ''. Leave it out, or learn 'lora' or 'full'."
        )


@dataclass(frozen=True)
class Features:
    """Features of the images of a run: read where they were left, computed where not.

    Args:
        config: the run's. task: its own. real: its real images. sets: the synthetic sets, as much as is used of each.
        given: what was left, in the order of `probe.features`; () where nothing was.
        places: where the base set's images are among the training images that were left.
    """

    config: Config
    task: Classify
    real: RealData
    sets: Sequence[Source]
    given: tuple[Output, ...]
    places: np.ndarray

    @classmethod
    def checked(
        cls, config: Config, task: Classify, real: RealData, sets: Sequence[Source], inputs: Inputs
    ) -> "Features":
        """Opens what was left of features.

        Raises: ValueError: features of other images, by another network, under another augmentation, or of fewer views.
        """
        refs = config["probe"]["features"]
        whole = [real.distinct, real.test, *([real.validation] if real.validation else [])]
        if refs and len(refs) != len(whole) + len(sets):
            raise ValueError(
                f"config.probe.features names {len(refs)} for {len(sets)} synthetic sets: expected those of the "
                "training images, of the test images, of the validation images if any, and then of each set, or none."
            )
        given = tuple(inputs.output(ref, "features", "features") for ref in refs)
        places, digests = np.arange(len(real.keys)), [source.digest for source in whole]
        if given and given[0].result["images_digest"] != digests[0]:  # of a larger base set, perhaps
            left = inputs.real(given[0].config["data"])
            if np.isin(real.keys, left.keys).all():
                places, digests[0] = np.searchsorted(left.keys, real.keys), left.distinct.digest
        digests += [inputs.synthetic(ref).digest for ref in as_tuple(config["data"]["synthetic"])] if given else []
        views = num_views(config, task.augment)
        for number, (output, digest) in enumerate(zip(given, digests, strict=False)):
            form = form_of(task.model, real.shape, config["data"])
            _check_alike(output, digest, config, form, inputs, 1 if 0 < number < len(whole) else views)
        return cls(config, task, real, sets, given, places)

    def read(self, machine: parallel.Machine) -> tuple[list[np.ndarray], np.ndarray, np.ndarray | None]:
        """Returns features of the base set and of each set [V, N, F], of the test images [T, F], and to select on."""
        views = num_views(self.config, self.task.augment)
        if self.given:
            train, test, *of_sets = (read_features(output) for output in self.given)
            select = np.asarray(of_sets.pop(0)[0]) if self.real.validation else None
            of_sets = [of[:views, : len(source)] for of, source in zip(of_sets, self.sets, strict=True)]
            return [train[:views, self.places], *of_sets], np.asarray(test[0]), select
        base = self.task.base()

        def of(source: Source, count: int) -> np.ndarray:
            return compute(self.task, base, source, self.real, self.config, machine, count)

        select = of(self.real.validation, 1)[0] if self.real.validation else None
        return [of(source, views) for source in (self.real.distinct, *self.sets)], of(self.real.test, 1)[0], select


def compute(
    task: Classify, base: Any, source: Source, real: RealData, config: Config, machine: parallel.Machine, count: int
) -> np.ndarray:
    """Computes so many views of a source's images, brought to the shape of the real ones: float32 [V, N, F]."""
    form = form_of(task.model, real.shape, config["data"])
    return predict.views(task, base, evaluation_stream(source, form, config, machine), machine, count)


def rows_of(features: Sequence[np.ndarray], pool: Pool, sampler: Sampler, num_draws: int, task: Classify) -> Rows:
    """What a probe is fitted on: of every image that is drawn its views, each weighted by how often it is drawn.

    Args: features: of each of the pool's sources, [V, N, F]; a source may hold its images several times over.
    """
    counts = np.zeros(len(pool), np.int64)
    for start in range(0, num_draws, _DRAWS_AT_ONCE):
        counts += np.bincount(sampler.keys(start, min(start + _DRAWS_AT_ONCE, num_draws)), minlength=len(pool))
    sizes = np.array([of.shape[1] for of in features])
    by_view = spread(counts, features[0].shape[0], sampler.seed)
    key, view = np.nonzero(by_view)
    source = pool.source(key)
    image = (np.cumsum(sizes) - sizes)[source] + (key - pool.offsets[source]) % sizes[source]
    joined = np.concatenate([of.swapaxes(0, 1) for of in features])  # [images, V, F]
    real = source == pool.source_names.index(REAL)
    weight = by_view[key, view] * np.where(real, task.lambda_real, task.lambda_syn)
    smoothing = 1 - (1 - task.smoothing) * (1 - np.where(real, 0.0, task.synthetic_smoothing))
    kept = weight > 0
    given = [joined[image, view], pool.label(key), weight, smoothing, image, real, view == 0]
    given = [one[kept] for one in given]
    if pool.soft:  # an image of two classes is a row of each, by its part
        soft = pool.soft.take(key[kept])
        both = np.flatnonzero(soft.weight > 0)
        seconds = [one[both] for one in given]
        seconds[1], seconds[2] = soft.second[both], seconds[2] * soft.weight[both]
        given[2] = given[2] * (1 - soft.weight)
        given = [np.concatenate(pair) for pair in zip(given, seconds, strict=True)]
        given = [one[given[2] > 0] for one in given]
    return Rows(*given)


def read_features(output: Output) -> np.ndarray:
    """What `jaxmoust features` left: float32 [V, N, F], read as it is asked for."""
    assert output.folder, "features are read once they are computed"
    return np.load(output.folder / "features.npy", mmap_mode="r")


def _check_alike(output: Output, digest: str, config: Config, form: Form, inputs: Inputs, views: int) -> None:
    """Refuses features that are not what this run would compute."""
    where, left, done = output.folder or "The features", output.config, output.result
    differing = [name for name in SAME if left[name] != config[name] and (name == "model" or views > 1)]
    if done["weights"] != weights_of(config, inputs):
        differing.append("its weights")
    if done.get("preprocessing") != form.said.get("preprocessing"):
        differing.append("the preprocessing of images")
    elif tuple(done["image_shape"]) != form.shape:
        differing.append("the shape of images")
    if differing:
        raise ValueError(
            f"{where}: features by another network or of other views than this run's: {', '.join(differing)} differ. "
            "Allowed are those of the same config.model, config.augment and image size: compute them anew."
        )
    if done["images_digest"] != digest:
        raise ValueError(
            f"{where}: features of other images than this run's. Allowed are those of its base set or a larger one, "
            "of its test images, and of its sets, in this order: compute them by `jaxmoust features`."
        )
    if done["num_views"] < views:
        raise ValueError(
            f"{where} has {done['num_views']} views of each image, the run asks for {views}: set probe.views to "
            f"{done['num_views'] - 1} or less, or compute more."
        )
