"""Classifiers as other jobs see them: built, evaluated, opened again, and asked what they have learnt from."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import accuracy
from jaxmoust.config import Config
from jaxmoust.core.state import TrainState
from jaxmoust.data.real import RealData
from jaxmoust.data.source import Source
from jaxmoust.jobs.parts.inputs import Inputs, Output
from jaxmoust.jobs.parts.streams import write_array
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Evaluation
from jaxmoust.train.warm_start import read_state


def make_classifier(config: Config, inputs: Inputs, machine: Machine) -> tuple[RealData, build.Training]:
    """Opens the real images of a classifier's configuration and builds its training."""
    real = inputs.real(config["data"])
    num_classes = len(real.base.class_names)
    metrics = ("top1", "loss", "top5") if num_classes > 5 else ("top1", "loss")
    return real, build.make_training(build.make_classify, config, real.shape, num_classes, metrics, machine)


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: its task and state, the shape it sees, how its images are held, and its result."""

    task: Classify
    state: TrainState
    shape: tuple[int, int, int]
    held: tuple[str, str, float]
    result: dict[str, Any]


def open_classifier(output: Output, evaluated: Source) -> Classifier:
    """Opens what `train` left, for images of the same classes. Raises: ValueError: other classes, no checkpoint."""
    check_classes(output, evaluated)
    shape = image_shape(output)
    task = build.make_classify(output.config, shape, len(evaluated.class_names))
    assert output.folder, "a classifier is opened once it is trained"
    state = read_state(output.folder, output.which)
    return Classifier(task, state, shape, how_held(output.config), output.result)


def check_classes(output: Output, evaluated: Source) -> None:
    """Refuses a classifier of other classes than some images have."""
    if list(evaluated.class_names) != list(output.result["class_names"]):
        raise ValueError(
            f"{output.folder or 'The classifier'} was trained on classes {list(output.result['class_names'])}, these "
            f"are {list(evaluated.class_names)}."
        )


def image_shape(output: Output) -> tuple[int, int, int]:
    """The (H, W, C) that a classifier sees."""
    height, width, channels = output.result["image_shape"]
    return height, width, channels


def how_held(config: Config) -> tuple[str, str, float]:
    """Where the images of a classifier's configuration are held, decoded, and how much of one is evaluated."""
    data = config["data"]
    return data["decoded"], data["map_dir"], data["test_crop"]


def learnt_from_synthetic(result: dict[str, Any]) -> bool:
    """Whether a classifier, or what it started from, has learnt from synthetic images."""
    return bool(result["n_synthetic"] or result.get("synthetic_digests"))


def seen_by(classifier: Output, images: Source) -> bool:
    """Whether a classifier, or what it started from, has learnt from a synthetic set, a part of it, or a longer one.

    Sets that were drawn alike hold the same images, as far as the shorter one goes. A result of before digests were
    recorded says of synthetic images only how many there were; any count then. One of before sizes were recorded
    leaves the part that its configuration takes.
    """
    trained, done = classifier.config, classifier.result
    parts = {trained["data"]["n_synthetic"], *done.get("synthetic_sizes", ())}
    digests = {images.digest, *(images.subset(np.arange(n)).digest for n in parts if 0 < n <= len(images))}
    known = done.get("synthetic_digests")
    if images.origin and images.origin in done.get("synthetic_origins", ()):
        return True
    return bool(done["n_synthetic"]) if known is None else not digests.isdisjoint(known)


def accuracies(
    evaluation: Evaluation, test: Source, shape: tuple[int, int, int], folder: RunFolder, machine: Machine
) -> dict[str, Any]:
    """Top-1 and Top-5 with intervals and per class; the rank of every test image goes to ranks.npy."""
    rank = evaluation.arrays["rank"]
    write_array(folder.path / "ranks.npy", rank, machine)
    return {
        "top1": accuracy.top_k(rank, 1),
        "top1_interval": accuracy.wilson(int(np.sum(rank < 1)), len(rank)),
        "top5": accuracy.top_k(rank, 5),
        "n": len(rank),
        "loss": evaluation.metrics["loss"],
        "per_class": accuracy.per_class(rank, test.labels, len(test.class_names)).tolist(),
        "class_names": test.class_names,
        "image_shape": shape,
    }


def score_summary(name: str, values: np.ndarray) -> dict[str, Any]:
    """What the record of a score says of its values."""
    quantiles = np.quantile(values, (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)).tolist()
    return {"score": name, "mean": float(values.mean(dtype=np.float64)), "quantiles": quantiles}
