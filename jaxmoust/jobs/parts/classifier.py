"""Classifiers as other jobs need them: built, evaluated, opened again, with the data that they were trained on."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import accuracy, metrics
from jaxmoust.core.state import TrainState
from jaxmoust.core.tree import zeros_of
from jaxmoust.data.source import Source
from jaxmoust.jobs.parts.inputs import Output
from jaxmoust.jobs.parts.streams import Form, form_of, write_array
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Evaluation, variables_of
from jaxmoust.train.warm_start import read_state

# What the probabilities of one run may take on the disk.
MOST_KEPT_BYTES = 2**30


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: its task and state, the shape it was trained on, how it sees images, and its result."""

    task: Classify
    state: TrainState
    shape: tuple[int, int, int]
    form: Form
    result: dict[str, Any]


def open_classifier(output: Output, evaluated: Source) -> Classifier:
    """Opens what `train` left, for images of the same classes. Raises: ValueError: other classes, no checkpoint."""
    check_classes(output, evaluated)
    return open_trained(output)


def open_trained(output: Output) -> Classifier:
    """Opens what `train` left. Raises: ValueError: no checkpoint."""
    shape = image_shape(output)
    task = build.make_classify(output.config, shape, len(output.result["class_names"]))
    assert output.folder, "a classifier is opened once it is trained"
    state = read_state(output.folder, output.which)
    if (base := task.base()) is not None:  # of an adapter or a probe, whose run keeps no more than it has learnt
        whole = task.whole(variables_of(state), base)
        state = TrainState(state.step, whole["params"], whole["stats"], None, None)
    return Classifier(task, state, shape, form_of(task.model, shape, output.config["data"]), output.result)


def to_time(output: Output) -> Classifier:
    """What `train` left; of a training that is yet to run, an untrained network, which takes as long."""
    if output.folder:
        return open_trained(output)
    shape = image_shape(output)
    task = build.make_classify(output.config, shape, len(output.result["class_names"]))
    zeros = zeros_of(task.shapes)
    state = TrainState(np.int32(0), zeros["params"], zeros["stats"], None, None)
    return Classifier(task, state, shape, form_of(task.model, shape, output.config["data"]), output.result)


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


def learnt_from_synthetic(result: dict[str, Any]) -> bool:
    """Whether a classifier, or the one it started from, was trained on synthetic images."""
    return bool(result["n_synthetic"] or result.get("synthetic_digests"))


def seen_by(classifier: Output, images: Source) -> bool:
    """Whether a classifier, or the one it started from, was trained on a synthetic set, a part of it, or a longer one.

    Sets that were sampled in the same way hold the same images, as far as the shorter one goes. Results of earlier
    versions, without digests, have the number of synthetic images only; any number counts then. Without sizes, the part
    that the configuration takes counts.
    """
    trained, done = classifier.config, classifier.result
    parts = {trained["data"]["n_synthetic"], *done.get("synthetic_sizes", ())}
    digests = {images.digest, *(images.subset(np.arange(n)).digest for n in parts if 0 < n <= len(images))}
    known = done.get("synthetic_digests")
    if images.origin and images.origin in done.get("synthetic_origins", ()):
        return True
    return bool(done["n_synthetic"]) if known is None else not digests.isdisjoint(known)


def keeping(task: Classify, keep: str, test: Source) -> Classify:
    """A task whose evaluations return what is to be kept. Raises: ValueError: more than MOST_KEPT_BYTES of it."""
    num_bytes = 2 * len(test) * len(test.class_names)
    if keep == "probabilities" and num_bytes > MOST_KEPT_BYTES:
        raise ValueError(
            f"config.eval.keep 'probabilities' of {len(test):,} images and {len(test.class_names):,} classes would "
            f"take {num_bytes / 2**30:.1f} GiB a run, expected at most {MOST_KEPT_BYTES / 2**30:g} GiB. "
            "Set it to 'ranks'."
        )
    return dataclasses.replace(task, keep=keep)


def accuracies(
    evaluation: Evaluation, test: Source, shape: tuple[int, int, int], folder: RunFolder, machine: Machine
) -> dict[str, Any]:
    """Every metric, Top-1 with its interval, and what is had by class.

    Leaves of every test image ranks.npy, losses.npy, the class that was named with its probability (predicted.npy,
    confidence.npy), and probabilities.npy if they are to be kept.
    """
    arrays, num_classes = evaluation.arrays, len(test.class_names)
    rank, probabilities = arrays["rank"], arrays.get("probabilities")
    said = (rank, arrays["loss"], arrays["predicted"], arrays["confidence"], probabilities)
    answers = metrics.Answers(test.labels, num_classes, *said)
    by_class = {"per_class": metrics.or_none(accuracy.per_class(rank, test.labels, num_classes))}
    write_array(folder.path / "ranks.npy", rank, machine)
    write_array(folder.path / "losses.npy", arrays["loss"], machine)
    write_array(folder.path / "predicted.npy", arrays["predicted"].astype(np.min_scalar_type(num_classes)), machine)
    write_array(folder.path / "confidence.npy", arrays["confidence"].astype(np.float16), machine)
    if probabilities is not None:
        write_array(folder.path / "probabilities.npy", metrics.to_half(probabilities), machine)
        by_class |= {f"{name}_per_class": metrics.by_class(name, answers) for name in ("auroc", "auprc")}
    return {
        **metrics.measure(answers),
        "top1_interval": accuracy.wilson(int(np.sum(rank < 1)), len(rank)),
        "n": len(rank),
        "loss": evaluation.metrics["loss"],
        **by_class,
        "class_names": test.class_names,
        "image_shape": shape,
    }


def score_summary(name: str, values: np.ndarray) -> dict[str, Any]:
    """What the record of a score says of its values."""
    quantiles = np.quantile(values, (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)).tolist()
    return {"score": name, "mean": float(values.mean(dtype=np.float64)), "quantiles": quantiles}
