"""Verb `train`, task `classify`: trains a classifier on real and synthetic images

Leaves checkpoints/, metrics.jsonl, result.json (Top-1, Top-5 of six classes or more, balanced accuracy, macro-F1, the
worst class, likelihood, calibration, n, per class), ranks.npy and losses.npy in --workdir; with
--config.eval.keep=probabilities those, too, and AUROC and AUPRC. Real images are the source "real" of the pool; a
synthetic set goes by the name it was written with.

  jaxmoust train --config=configs/classifier/digits_resnet.py --workdir=runs/real
  jaxmoust train --config=configs/classifier/digits_resnet.py:synthetic=runs/edm_set,share=0.5 --workdir=runs/mixed
"""

import dataclasses
import functools
import itertools
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxmoust import build
from jaxmoust.config import Config, unpack
from jaxmoust.core.state import TrainState
from jaxmoust.data.mixture import Mixture
from jaxmoust.data.pool import Pool
from jaxmoust.data.real import filtered, threshold
from jaxmoust.data.samplers.base import Sampler
from jaxmoust.data.source import Source
from jaxmoust.jobs.parts import probe
from jaxmoust.jobs.parts.classifier import accuracies, keeping
from jaxmoust.jobs.parts.inputs import BEST, Inputs
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.streams import (
    base_size,
    evaluation_stream,
    form_of,
    preparation_of,
    run_fit,
    training_stream,
)
from jaxmoust.models.classifiers.headed import Headed
from jaxmoust.models.stable_diffusion import memory
from jaxmoust.runtime import parallel
from jaxmoust.runtime.checkpoint import Checkpoints
from jaxmoust.runtime.folder import RunFolder, digest
from jaxmoust.runtime.paths import atomic_write
from jaxmoust.runtime.progress import MetricWriter
from jaxmoust.train.loop import Evaluation, seconds_a_step
from jaxmoust.train.probe import Probe, check_folds, nearest
from jaxmoust.train.probe import fit as fit_linear

# Into how many windows of steps the record of what was drawn is cut, and how many draws of each are counted at most.
NUM_WINDOWS = 32
NUM_COUNTED = 1 << 18


class Train(Job):
    """Trains a classifier on a pool of real and synthetic images."""

    sections = build.CLASSIFIER
    images = ("base", "test", "validation")
    refers = ("data.synthetic", "method.pretrained", "model.weights", "probe.features")

    @functools.cached_property
    def mixture(self) -> Mixture:
        """What joins the real images."""
        return Mixture(**{f.name: self.config["data"][f.name] for f in dataclasses.fields(Mixture)})

    def contents(self) -> dict[str, str]:
        """The images, what it starts from, and the scores, wherever they lie."""
        folders = [_scores_of(ref, of_set, self.inputs) for ref, of_set in _scored(self.mixture)]
        scores = self.inputs.digest(folders)
        seen = {name: digest(how) for name, how in preparation_of(self.config).items()}
        return {**super().contents(), **({"data.scores": scores} if scores else {}), **seen}

    def check(self) -> None:
        """Builds the training, the pool and the sampler; of sets and scores that are yet to come, from their sizes."""
        self.real = self.inputs.real(self.config["data"])
        self.training = build.make_classifier(self.config, self.real, self.machine)
        self.training, self.before = _resolve_warm_start(self.config, self.training, self.inputs)
        self.pool, self.scores = open_pool(self.mixture, self.real.base, self.real.test, self.inputs)
        recipe = self.training.recipe
        self.num_draws = recipe.num_steps * recipe.batch_size
        section, seed = self.config["sampler"], build.order_seed(self.config)
        self.sampler = build.make_sampler(section, self.pool, seed, self.num_draws, self.scores)
        self.drawn = self.sampler.expected(0, self.num_draws)
        task = keeping(self.training.task, self.config["eval"]["keep"], self.real.test)
        self.training = dataclasses.replace(self.training, task=task)
        if self.pool.soft and task.logit_adjustment:
            raise ValueError(
                f"method.logit_adjustment {task.logit_adjustment:g} with a set of soft labels, where two classes share "
                "an image: expected 0.0, or sets whose images are of one class each (translate=False)."
            )
        self.form = form_of(task.model, self.real.shape, self.config["data"])
        self._warn_of_enlarged()
        self.class_shares = task.class_shares(self.drawn, self.real.base.class_names)
        self.probe = unpack("probe", Probe, self.config["probe"])
        if task.learn == "probe":
            probe.check(self.config)
            if not self.probe.l2 and not self.real.validation and self.drawn[0].any():  # chosen on real images
                labels = self.real.distinct.labels
                check_folds(self.probe.folds, len(labels), int((np.bincount(labels)[labels] > 1).sum()))
            sets = self.pool.sources[1:]
            self.features = probe.Features.checked(self.config, task, self.real, sets, self.inputs)

    def _warn_of_enlarged(self) -> None:
        """Says which sets a public network's preprocessing enlarges where it does not enlarge the real images."""
        how, (real, *sets) = self.form.preprocessing, self.pool.sources
        side = (how.resize_px or how.image_px) if how else 0
        for one in sets:
            if one.shape and min(one.shape[:2]) < side and (not real.shape or min(real.shape[:2]) >= side):
                said = (
                    f"The images of {one.name}, {min(one.shape[:2])} px, are enlarged to {side} px for the backbone, "
                    f"real ones are not: what that blurs counts as a difference. Write them with data.image_px={side}."
                )
                self.inputs.once(said, functools.partial(logging.warning, said))

    def promise(self) -> dict[str, Any]:
        """What is known of the classifier before it is trained."""
        sets, before = self.pool.sources[1:], self.before
        return {
            "class_names": self.real.base.class_names,
            "image_shape": self.real.shape,
            **self.form.said,
            "n_base": base_size(self.real),
            "n_synthetic": int(self.pool.counts()[1:].sum()),
            "data_digest": self.real.base.digest,
            "test_digest": self.real.test.digest,
            **({"n_validation": len(self.real.validation)} if self.real.validation else {}),
            **({"n_skipped": self.real.num_skipped} if self.real.num_skipped else {}),
            "synthetic_origins": [*before.get("synthetic_origins", []), *(one.origin for one in sets)],
            "synthetic_digests": [*before.get("synthetic_digests", []), *(one.digest for one in sets)],
            "synthetic_sizes": [*before.get("synthetic_sizes", []), *(len(one) for one in sets)],
        }

    def open(self) -> None:
        """Reads what the training starts from, and opens the streams."""
        real = self.real
        if self.training.task.learn == "probe":
            return
        self.start, self.base = self.training.task.warm_start(), self.training.task.base()
        given = (self.form, self.config, self.machine)
        self.eval_data = evaluation_stream(real.test, *given)
        self.select_data = evaluation_stream(real.validation, *given) if real.validation else None
        self.stream_from = training_stream(self.pool, self.sampler, real, self.training.recipe, self.machine)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Trains, evaluates, and counts what was drawn."""
        recipe, seed, task = self.training.recipe, self.config["seed"], self.training.task
        beside: dict[str, Any] = {}
        if task.learn == "probe":
            evaluation, beside, seconds = self._fit_probe(folder)
        else:
            frozen = task.frozen(self.class_shares, self.base)
            given = (self.stream_from, self.eval_data, folder, self.machine, seed, "train", self.start, frozen)
            _, evaluation, seconds = run_fit(self.training, *given, select_data=self.select_data)
        if self.machine.primary:
            drawn = count_draws(self.sampler, recipe.num_steps, recipe.batch_size)
            atomic_write(folder.path / "draws.json", json.dumps(drawn))
        of_sources = self.drawn.sum(1)
        return {
            **accuracies(evaluation, self.real.test, self.real.shape, folder, self.machine),
            **self.promise(),
            "steps": recipe.num_steps,
            "share": float(of_sources[1:].sum() / of_sources.sum()),
            "sampler": repr(self.sampler),
            **beside,
            "trained_on": folder.devices,
            "seconds": seconds,
        }

    def calibrate(self) -> float:
        """By one step, or by a probe on noise; what is evaluated at the end is not in it."""
        task, recipe = self.training.task, self.training.recipe
        if task.learn == "probe":
            views, rng = probe.num_views(self.config, task.augment), np.random.default_rng(0)
            features = [rng.normal(size=(views, len(one), task.num_features)) for one in self.pool.sources]
            rows = probe.rows_of(features, self.pool, self.sampler, self.num_draws, task)
            started = time.monotonic()
            fit_linear(rows, task.num_classes, dataclasses.replace(self.probe, l2=1e-3), 0)
            return 4 * (time.monotonic() - started)  # strengths and folds
        frozen = task.frozen(self.class_shares, task.base())
        return recipe.num_steps * seconds_a_step(self.training, self.machine, self.real.shape, frozen)

    @functools.cached_property
    def need_alone(self) -> memory.Need | None:
        """What a step of a public network takes where there is one device; None of a probe, and of other networks."""
        task, recipe = self.training.task, self.training.recipe
        if task.learn == "probe" or not isinstance(task.model, Headed):
            return None
        params, stats = jax.eval_shape(task.init, jax.random.key(0))
        rows = (1, recipe.batch_size // recipe.micro_batches)  # of one device
        batch = {name: jax.ShapeDtypeStruct(rows, np.int32) for name in ("label", "source", "slot")}
        batch["image"] = jax.ShapeDtypeStruct((*rows, *self.real.shape), np.uint8)

        def loss(params: Any, frozen: Any, batch: Any) -> jax.Array:
            def of_device(rows: Any) -> jax.Array:
                return task.loss(params, *frozen, rows, jax.vmap(jax.random.key)(rows["slot"]))[0]

            return jax.vmap(of_device, axis_name=parallel.AXIS)(batch).mean()

        frozen = (stats, task.frozen(self.class_shares))
        average = bool(recipe.ema_half_life_images)
        return memory.of_training(loss, params, frozen, batch, recipe.tx, average, recipe.micro_batches)

    def _fit_probe(self, folder: RunFolder) -> tuple[Evaluation, dict[str, Any], float]:
        """Fits the head on features, and leaves it as every training leaves what it has learnt."""
        started, task, recipe = time.monotonic(), self.training.task, self.training.recipe
        features, test, select = self.features.read(self.machine)
        rows = probe.rows_of(features, self.pool, self.sampler, self.num_draws, task)
        num_classes, labels = task.num_classes, self.real.test.labels
        shares, seed = self.class_shares, self.config["seed"]
        chosen_on = (select, one.labels) if (one := self.real.validation) and select is not None else None
        head = fit_linear(rows, num_classes, self.probe, seed, shares, task.logit_adjustment, chosen_on)
        evaluation = task.evaluation(task.answers_of(labels, test @ head.kernel + head.bias))
        votes = nearest(rows, num_classes, test)
        knn = 100.0 * float(np.mean(votes.argmax(1) == labels))
        seconds, step = time.monotonic() - started, recipe.num_steps
        state = TrainState(np.int32(step), {"head": {"kernel": head.kernel, "bias": head.bias}}, {}, None, None)
        with Checkpoints(folder.checkpoints, primary=self.machine.primary) as checkpoints:
            checkpoints.save(step, state, {"seconds": seconds}, evaluation.metrics)
        if self.machine.primary:
            with MetricWriter(folder.path, step) as writer:
                measured = {f"eval_{name}": value for name, value in evaluation.metrics.items()}
                writer.write(step, {"loss": head.loss, **measured})
        found = {"l2": head.l2, "l2_losses": {f"{l2:g}": loss for l2, loss in head.losses.items()}}
        return evaluation, {"learn": "probe", "knn_top1": knn, **found, "gradient_norm": head.gradient}, seconds


JOB = Train


def _resolve_warm_start(
    config: Config, training: build.Training, inputs: Inputs
) -> tuple[build.Training, dict[str, Any]]:
    """Finds the run that a training starts from, if any: (the training, that run's result; {} where there is none).

    Raises: ValueError: a folder of another kind of run, of one that has not finished, or of another network.
    """
    ref = training.task.pretrained
    if not ref or (ref not in inputs.planned and not (inputs.path(ref) / "checkpoints").is_dir()):
        return training, {}  # from scratch, or from a public checkpoint
    output = inputs.output(ref, "classify", "train")
    if not output.folder and output.config["model"] != config["model"]:
        raise ValueError(
            f"config.arms: an arm of the network {config['model']} is to begin as the classifier of one of "
            f"{output.config['model']}, expected one of the same network. Override the model of both or of none."
        )
    if output.folder:
        path = f"{output.folder}{BEST if output.which == 'best' else ''}"
        training = dataclasses.replace(training, task=dataclasses.replace(training.task, pretrained=path))
    return training, output.result


def open_pool(mixture: Mixture, base: Source, test: Source, inputs: Inputs) -> tuple[Pool, Mapping[str, np.ndarray]]:
    """Joins the real images and the synthetic sets, filtered, and reads the sets' scores.

    Raises: ValueError: what does not fit together; scores of other sets or images, or by a classifier that may have
    seen the test images.
    """
    sets = [inputs.synthetic(ref, base, mixture.n_synthetic) for ref in mixture.set_refs]
    pool, scores = Pool.from_sources([base, *sets]), {}
    level = threshold(mixture.keep_above, len(base.class_names))
    for source, (ref, set_ref) in zip(sets, _scored(mixture), strict=False):
        scores[source.name] = _read_scores(ref, set_ref, test, inputs, len(source), level)[: len(source)]
    return filtered(pool, mixture.drop_lowest, mixture.drop_per_class, scores, mixture.keep_above), scores


def _scored(mixture: Mixture) -> list[tuple[str, str]]:
    """The scores of each set with the set, as they are referred to; none where nothing is scored."""
    refs = mixture.score_refs
    return [(refs[i % len(refs)], of_set) for i, of_set in enumerate(mixture.set_refs)] if refs else []


def _scores_of(ref: str, set_ref: str, inputs: Inputs) -> str:
    """Where scores lie: in the set's own folder scores/, if there are any of that name; or where the name says."""
    beside = inputs.path(set_ref) / "scores" / ref
    return str(beside.absolute()) if beside.is_dir() else ref


def _read_scores(ref: str, set_ref: str, test: Source, inputs: Inputs, size: int, level: float | None) -> np.ndarray:
    """Opens what `score` or `domain` left: a folder, or the name of one in the set's own folder scores/.

    A scorer that was trained on a data set's training images has not seen that data set's test images: the test set
    must be that one. Of CLIP, and of scores that are older than this record, nothing is known.
    """
    if ref in inputs.planned:
        # Margins may be negative, the others lie in 0..1; density ratios are positive. A filter leaves something: how
        # much nobody knows yet.
        lowest = -1.0 if inputs.planned[ref].config.get("score") == "margin" else 0.1
        return np.linspace(lowest, 0.9 if level is None else max(0.9, level + 1.0), size)
    set_folder, folder = inputs.path(set_ref), inputs.path(_scores_of(ref, set_ref, inputs))
    if not folder.is_dir():
        beside = set_folder / "scores"
        raise ValueError(
            f"data.scores {ref!r} is neither a folder nor in {beside}. Run `jaxmoust score --workdir={beside / ref} "
            f"--config.set={set_folder} ...` first."
        )
    result = inputs.output(str(folder.absolute()), ("score", "clip_score", "domain"), "score").result
    digest = inputs.synthetic(set_ref).digest
    if result["set_digest"] != digest:
        raise ValueError(
            f"The scores {folder} are of a set with digest {result['set_digest']}, {set_folder} has {digest}. "
            "Score this set."
        )
    if result.get("test_digest", test.digest) != test.digest:
        raise ValueError(
            f"The scores {folder} are by a classifier that learnt from data with other test images than these: it may "
            "have seen some that this one is evaluated on. Score the set by one that learnt from the training images "
            "of the same data."
        )
    return np.load(folder / "scores.npy")


def count_draws(sampler: Sampler, num_steps: int, batch_size: int) -> dict:
    """Counts what a sampler draws of each source and class over training, in windows of whole steps.

    Of a long window stretches are counted that are spread over it evenly, as many draws as take a moment.

    Returns: a run's draws.json, which the page reads.
    """
    edges = [num_steps * w // NUM_WINDOWS for w in range(NUM_WINDOWS + 1)]
    edges = sorted(set(edges))
    pool, counts = sampler.pool, []
    shape = len(pool.source_names), len(pool.class_names)
    for a, b in itertools.pairwise(edge * batch_size for edge in edges):
        keys = np.concatenate([sampler.keys(*stretch) for stretch in _stretches(a, b)])
        counts.append(np.bincount(pool.cell(keys), minlength=shape[0] * shape[1]).reshape(shape).tolist())
    return {
        "step_edges": edges,
        "source_names": pool.source_names,
        "class_names": pool.class_names,
        "counts": counts,
    }


def _stretches(start: int, stop: int) -> list[tuple[int, int]]:
    """All of a range of draws, or, of more than NUM_COUNTED, sixteen stretches of it."""
    if stop - start <= NUM_COUNTED:
        return [(start, stop)]
    firsts = [start + (stop - start) * i // 16 for i in range(16)]
    return [(first, first + NUM_COUNTED // 16) for first in firsts]
