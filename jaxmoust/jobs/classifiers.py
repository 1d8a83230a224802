"""Jobs on classifiers: `train` one on a pool, `evaluate` it on a test set, let it `score` a synthetic set."""

import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import accuracy
from jaxmoust.analysis.scores import SCORES
from jaxmoust.build import Config, RealData
from jaxmoust.core.state import TrainState
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers import share
from jaxmoust.data.sources import registry as sources
from jaxmoust.data.sources.registry import Source
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.jobs.clip_scores import score_by_clip
from jaxmoust.jobs.cross_scores import CrossFit
from jaxmoust.jobs.job import (
    Resolve,
    Work,
    base_size,
    evaluation_batch_size,
    evaluation_stream,
    finished,
    open_real_data,
    run_fit,
    training_stream,
    write_array,
)
from jaxmoust.runtime import checkpoint, parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.paths import atomic_write
from jaxmoust.train import predict
from jaxmoust.train.loop import Task
from jaxmoust.train.warm_start import trained_variables

CLASSIFIER_SECTIONS = ("seed", "task", "data", "sampler", "model", "augment", "method", "optim", "train", "eval")
EVALUATE_SECTIONS = ("task", "checkpoint", "data", "eval")
SCORE_SECTIONS = ("task", "checkpoint", "set", "score", "folds", "eval")
SET_FIELDS = ("synthetic", "n_synthetic", "scores", "drop_lowest", "drop_per_class")
OPTIONAL_SET_FIELDS = {"keep_above": ""}  # configurations that are older than these fields run as they did

# Into how many windows of steps the record of what was drawn is cut, and how many draws of each are counted at most.
NUM_WINDOWS = 32
NUM_COUNTED = 1 << 18


def train(config: Config, resolve: Resolve = Path) -> Work:
    """Trains a classifier on a pool of real and synthetic images (verb `train`)."""
    machine = parallel.Machine.all()
    real, training = plan_train(config, machine)
    pool, scores = _open_pool(config["data"], real, resolve)
    training, before = _started(training, resolve)
    recipe, start = training.recipe, training.task.warm_start()
    num_draws = recipe.num_steps * recipe.batch_size
    sampler = build.make_sampler(config["sampler"], pool, config["seed"], num_draws, scores)
    eval_data = evaluation_stream(real.test, real.shape, config, machine, real.decoded, real.map_dir, real.test_crop)
    stream_from = training_stream(pool, sampler, real, recipe, machine)

    def work(folder: RunFolder) -> dict:
        given = (stream_from, eval_data, folder, machine, config["seed"], "train", start)
        _, evaluation, seconds = run_fit(training, *given)
        if machine.primary:
            drawn = count_draws(sampler, recipe.num_steps, recipe.batch_size)
            atomic_write(folder.path / "draws.json", json.dumps(drawn))
        expected = sampler.expected(0, num_draws).sum(1)
        return {
            **_judged(evaluation, real.test, real.shape, folder, machine),
            "steps": recipe.num_steps,
            "n_base": base_size(real),
            "n_synthetic": int(pool.counts()[1:].sum()),
            "share": float(expected[1:].sum() / expected.sum()),
            "sampler": repr(sampler),
            "data_digest": real.base.digest,
            "test_digest": real.test.digest,
            "synthetic_origins": [*before.get("synthetic_origins", []), *(made.origin for made in pool.sources[1:])],
            "synthetic_digests": [*before.get("synthetic_digests", []), *(made.digest for made in pool.sources[1:])],
            "synthetic_sizes": [*before.get("synthetic_sizes", []), *(len(made) for made in pool.sources[1:])],
            "seconds": seconds,
        }

    return work


def plan_train(
    config: Config, machine: parallel.Machine, open_real: Callable[[Config], RealData] | None = None
) -> tuple[RealData, build.Training]:
    """Opens the real images of a classifier's configuration and builds its training; refuses another verb's."""
    build.check_sections(config, CLASSIFIER_SECTIONS, "classify")
    of_sets = {*SET_FIELDS, *OPTIONAL_SET_FIELDS}
    real = (open_real or open_real_data)({k: v for k, v in config["data"].items() if k not in of_sets})
    if missing := sorted(set(SET_FIELDS) - set(config["data"])):
        raise ValueError(f"config.data lacks {missing}: name the synthetic sets to mix in, () and 0 for none.")
    num_classes = len(real.base.class_names)
    metrics = ("top1", "loss", "top5") if num_classes > 5 else ("top1", "loss")
    return real, build.make_training(build.make_classify, config, real.shape, num_classes, metrics, machine)


def _started(training: build.Training, resolve: Resolve) -> tuple[build.Training, dict]:
    """Finds the run that a training starts from, if any: (the training, that run's result; {} where there is none).

    Raises: ValueError: a folder of another kind of run, or of one that has not finished.
    """
    folder = resolve(training.task.pretrained)
    if not training.task.pretrained or not (folder / "checkpoints").is_dir():
        return training, {}  # from nothing, or from a public checkpoint
    _, done = finished(folder, "classify", "train")
    task = dataclasses.replace(training.task, pretrained=str(folder))
    return dataclasses.replace(training, task=task), done


def learnt_from_synthetic(done: dict) -> bool:
    """Whether a classifier, or what it started from, has learnt from synthetic images."""
    return bool(done["n_synthetic"] or done.get("synthetic_digests"))


def _open_pool(data: Config, real: RealData, resolve: Resolve) -> tuple[Pool, dict[str, np.ndarray]]:
    """Joins the real images and the synthetic sets that a data section names, filtered; and reads the sets' scores.

    Raises: ValueError: what does not fit together; scores of other sets or images, or by who may know the test images.
    """
    refs, score_refs = (_as_tuple(data[name]) for name in ("synthetic", "scores"))
    made = [build.open_set(resolve(ref), real.base, data["n_synthetic"]) for ref in refs]
    if score_refs and len(score_refs) not in (1, len(refs)):
        raise ValueError(
            f"data.scores names {len(score_refs)} for {len(refs)} synthetic sets: name one for each set, or one name "
            "that every set has in its folder scores/."
        )
    pool, scores = Pool.from_sources([real.base, *made]), {}
    for i, source in enumerate(made if score_refs else ()):
        set_folder = resolve(refs[i])
        of_set = _read_scores(score_refs[i % len(score_refs)], set_folder, resolve, real.test)
        scores[source.name] = of_set[: len(source)]
    data = {**OPTIONAL_SET_FIELDS, **data}
    pool = build.filtered(pool, data["drop_lowest"], data["drop_per_class"], scores, data["keep_above"])
    return pool, scores


def _read_scores(ref: str, set_folder: Path, resolve: Resolve, test: Source) -> np.ndarray:
    """Opens what `score` or `domain` left: a folder, or the name of one in the set's own folder scores/.

    A scorer that learnt from a data set's training images is known not to have seen its test images: the test set must
    be that one. Of CLIP, and of scores that are older than this record, nothing is known.
    """
    beside = set_folder / "scores" / ref
    folder = beside if beside.is_dir() else resolve(ref)
    if not folder.is_dir():
        raise ValueError(
            f"data.scores {ref!r} is neither a folder nor in {beside.parent}. Run `jaxmoust score --workdir={beside} "
            f"--config.set={set_folder} ...` first."
        )
    _, result = finished(folder, ("score", "clip_score", "domain"), "score")
    held = synthetic.open_synthetic(set_folder).digest
    if result["set_digest"] != held:
        raise ValueError(
            f"The scores {folder} are of a set with digest {result['set_digest']}, {set_folder} has {held}. "
            "Score this set."
        )
    if result.get("test_digest", test.digest) != test.digest:
        raise ValueError(
            f"The scores {folder} are by a classifier that learnt from data with other test images than these: it may "
            "have seen some that this one is judged on. Score the set by one that learnt from the training images of "
            "the same data."
        )
    return np.load(folder / "scores.npy")


def _as_tuple(refs: str | tuple) -> tuple:
    return ((refs,) if refs else ()) if isinstance(refs, str) else tuple(refs)


def count_draws(sampler: share.Sampler, num_steps: int, batch_size: int) -> dict:
    """Counts what a sampler draws of each source and class over training, in windows of whole steps.

    Of a long window stretches are counted that are spread over it evenly, as many draws as take a moment.

    Returns: a run's draws.json, which `study.draws.from_record` reads.
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


def evaluate(config: Config, resolve: Resolve = Path) -> Work:
    """Judges a trained classifier on a split of a data set (verb `evaluate`)."""
    build.check_sections(config, EVALUATE_SECTIONS, "evaluate")
    if not config["checkpoint"]:
        raise ValueError(
            "config.checkpoint is empty: give the folder of a trained classifier, --config.checkpoint=DIR."
        )
    machine = parallel.Machine.all()
    origin = resolve(config["checkpoint"])
    trained, done = finished(origin, "classify", "train")
    data = dict(config["data"])
    if not data.get("source"):
        data |= {name: trained["data"].get(name, "") for name in ("source", "path", "classes")}
    test = build.unpack("data", sources.open_source, {"name": data.pop("source"), **data})
    task, state, shape = load_classifier(origin, trained, done, test)
    eval_data = evaluation_stream(test, shape, config, machine, *held(trained))

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        evaluation = task.evaluate(machine.replicate(state), None, eval_data, machine)
        return {**_judged(evaluation, test, shape, folder, machine), "seconds": time.monotonic() - started}

    return work


def _stretches(start: int, stop: int) -> list[tuple[int, int]]:
    """All of a range of draws, or, of more than NUM_COUNTED, sixteen stretches of it."""
    if stop - start <= NUM_COUNTED:
        return [(start, stop)]
    firsts = [start + (stop - start) * i // 16 for i in range(16)]
    return [(first, first + NUM_COUNTED // 16) for first in firsts]


def score(config: Config, resolve: Resolve = Path) -> Work:
    """Scores every image of a synthetic set by a trained classifier, or by CLIP (verb `score`).

    A classifier that has learnt from the very set scores it only cross-fitted (config.folds): trained anew for each
    fold of the set, without it.

    Raises: ValueError: what cannot run, or, without folds, a classifier that has learnt from images of the set.
    """
    if config.get("task") == "clip_score":
        return score_by_clip(config, resolve)
    machine = parallel.Machine.all()
    plan_score(config, machine)
    origin = resolve(config["checkpoint"])
    trained, done = finished(origin, "classify", "train")
    made = synthetic.open_synthetic(resolve(config["set"]))
    task, state, shape = load_classifier(origin, trained, done, made)
    seen = seen_by(trained, done, made)
    if seen and not config["folds"]:
        raise ValueError(
            f"The classifier {origin} was itself trained on images of {config['set']}: how sure it is of them says "
            "what it remembers, not what they show. Score by one that was trained on real images, or on other sets; or "
            "cross-fit: --config.folds=2 trains it anew on each half of the set, to judge the other."
        )
    if seen:
        sets = [build.open_set(resolve(ref), made) for ref in _as_tuple(trained["data"]["synthetic"])]
        ask = CrossFit(config, trained, *plan_train(trained, machine), made, sets, machine).logits
    else:
        data = evaluation_stream(made, shape, config, machine, *held(trained))

        def ask(folder: RunFolder) -> np.ndarray:
            return predict.logits(task, state, data, machine)

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        logits = ask(folder)
        values = SCORES[config["score"]](logits, made.labels).astype(np.float32)
        write_array(folder.path / "scores.npy", values, machine)
        return {
            "n": len(values),
            **score_summary(config["score"], values),
            "folds": config["folds"] if seen else 0,
            "image_shape": shape,
            "own_shape": made.shape,
            "set_digest": made.digest,
            "data_digest": done["data_digest"],
            **({"test_digest": done["test_digest"]} if "test_digest" in done else {}),
            "seconds": time.monotonic() - started,
        }

    return work


def score_summary(name: str, values: np.ndarray) -> dict:
    """What the record of a score says of its values."""
    quantiles = np.quantile(values, (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)).tolist()
    return {"score": name, "mean": float(values.mean(dtype=np.float64)), "quantiles": quantiles}


def plan_score(config: Config, machine: parallel.Machine) -> None:
    """Refuses a configuration of the verb `score` that could not run, whatever classifier and set it names."""
    build.check_sections(config, SCORE_SECTIONS, "score")
    if not config["checkpoint"] or not config["set"]:
        raise ValueError(
            "config.checkpoint or config.set is empty: give the folders of a trained classifier and of a set, "
            "--config.checkpoint=DIR --config.set=DIR."
        )
    if config["score"] not in SCORES:
        raise ValueError(
            f"config.score is {config['score']!r}; allowed are {', '.join(SCORES)} (certainty is 1 less the entropy; "
            "the verb `domain` leaves the density ratio)."
        )
    if not isinstance(config["folds"], int) or config["folds"] < 0 or config["folds"] == 1:
        raise ValueError(f"config.folds is {config['folds']!r}; allowed are 0 (no cross-fitting) and 2 and up.")
    evaluation_batch_size(config, machine)


def held(trained: Config) -> tuple[str, str, float]:
    """Where the images of a classifier's configuration are held, decoded, and how much of one is judged."""
    data = trained["data"]
    return data.get("decoded", "auto"), data.get("map_dir", ""), data.get("test_crop", 1.0)


def seen_by(trained: Config, done: dict, made: Source) -> bool:
    """Whether a classifier, or what it started from, has learnt from a synthetic set, a part of it, or a longer one.

    Sets that were drawn alike hold the same images, as far as the shorter one goes. A result of before digests were
    recorded says of synthetic images only how many there were; any count then. One of before sizes were recorded
    leaves the part that its configuration takes.
    """
    parts = {trained["data"]["n_synthetic"], *done.get("synthetic_sizes", ())}
    digests = {made.digest, *(made.subset(np.arange(n)).digest for n in parts if 0 < n <= len(made))}
    known = done.get("synthetic_digests")
    if made.origin and made.origin in done.get("synthetic_origins", ()):
        return True
    return bool(done["n_synthetic"]) if known is None else not digests.isdisjoint(known)


def load_classifier(origin: Path, trained: Config, done: dict, judged: Source) -> tuple[Task, TrainState, tuple]:
    """Opens what `train` left in a folder, to judge images of the same classes: (task, state, image shape)."""
    if list(judged.class_names) != list(done["class_names"]):
        raise ValueError(
            f"{origin} was trained on classes {done['class_names']}, these are {list(judged.class_names)}."
        )
    shape = tuple(done["image_shape"])
    task = build.make_classify(trained, shape, len(judged.class_names))
    tree, _ = checkpoint.restore_tree(origin / "checkpoints")
    averaged = trained_variables(tree) if "ema" in tree else None
    return task, TrainState(tree["step"], tree["params"], tree.get("stats", {}), None, averaged), shape


def _judged(evaluation, test: Source, shape: tuple, folder: RunFolder, machine: parallel.Machine) -> dict:
    """Top-1 and Top-5 with intervals and per class; the rank of every test image goes to ranks.npy."""
    rank = evaluation.arrays["rank"]
    write_array(folder.path / "ranks.npy", rank, machine)
    num_classes = len(test.class_names)
    return {
        "top1": accuracy.top_k(rank, 1),
        "top1_interval": accuracy.wilson(int(np.sum(rank < 1)), len(rank)),
        "top5": accuracy.top_k(rank, 5),
        "n": len(rank),
        "loss": evaluation.metrics["loss"],
        "per_class": accuracy.per_class(rank, test.labels, num_classes).tolist(),
        "class_names": test.class_names,
        "image_shape": shape,
    }


def open_classifier(origin: Path, judged: Source) -> tuple[Task, TrainState, tuple, tuple[str, str, float], dict]:
    """Opens a trained classifier for other jobs: (task, state, image shape, how its images are held, its result)."""
    trained, done = finished(origin, "classify", "train")
    return (*load_classifier(origin, trained, done, judged), held(trained), done)
