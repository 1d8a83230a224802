"""The jobs behind the verbs: one configuration in, one folder with a result out.

A job is `job(config, resolve) -> work`: it checks everything it can on plain dicts before anything is written, and
returns the work that is left, `work(folder) -> result`. `run` puts the two together. The same call continues what an
earlier one was interrupted in, and finds what an earlier one finished. `resolve` turns a reference to another folder
into its path: `Path` on the command line, a look-up in the store inside a study.
"""

import io
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import accuracy
from jaxmoust.analysis.scores import SCORES
from jaxmoust.build import Config, RealData
from jaxmoust.core.state import TrainState
from jaxmoust.data import loader, samplers, sources, synthetic
from jaxmoust.data.pool import Pool
from jaxmoust.data.sources import Source
from jaxmoust.generate import pixels
from jaxmoust.runtime import checkpoint, parallel
from jaxmoust.runtime.folder import RunFolder, atomic_write, differences, digest, environment, read_json
from jaxmoust.study import arms, findings
from jaxmoust.study.run import conduct
from jaxmoust.study.stages import Stage, Store, in_order
from jaxmoust.train import predict
from jaxmoust.train.loop import Recipe, Task, fit

Resolve = Callable[[str], Path]
Work = Callable[[RunFolder], dict]

GENERATOR_SECTIONS = ("seed", "task", "data", "model", "method", "augment", "optim", "train", "eval")
SAMPLE_SECTIONS = ("seed", "task", "generator", "name", "num_images", "shard_images", "sample")
CLASSIFIER_SECTIONS = ("seed", "task", "data", "sampler", "model", "augment", "method", "optim", "train", "eval")
EVALUATE_SECTIONS = ("task", "checkpoint", "data", "eval")
SCORE_SECTIONS = ("task", "checkpoint", "set", "score", "eval")
SET_FIELDS = ("synthetic", "n_synthetic", "scores", "drop_lowest", "drop_per_class")

# Into how many windows of steps the record of what was drawn is cut, and how many draws of each are counted at most.
NUM_WINDOWS = 32
NUM_COUNTED = 1 << 18

# The most images on which a generator's loss at fixed noise is measured, of each of its two sets.
NUM_EVAL_IMAGES = 512


class BadInput(ValueError):
    """What was asked for cannot be done; said before anything was written."""


def run(job: Callable[[Config, Resolve], Work], config: Config, workdir: Path, resolve: Resolve = Path) -> dict:
    """Does a job in its folder, or returns the result that the folder already holds.

    Raises: BadInput: the configuration, its data or the folder does not allow it; nothing was written.
    """
    machine = parallel.Machine.all()
    config = build.plain(config)
    try:
        if (result := _result_of(config, workdir)) is not None:
            return result
        work = job(config, resolve)
        folder = RunFolder.open(workdir, config, environment(machine.description), primary=machine.primary)
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e
    result = work(folder)
    folder.write_result(result)
    machine.barrier("finished")
    return result


def _result_of(config: Config, workdir: Path) -> dict | None:
    """What an earlier call with the same configuration left in the folder, if it finished."""
    if not (workdir / "result.json").is_file() or not (workdir / "config.json").is_file():
        return None
    return None if differences(read_json(workdir / "config.json"), config) else read_json(workdir / "result.json")


def fit_generator(config: Config, resolve: Resolve = Path) -> Work:
    """Trains a generator inside a data set (verb `fit`)."""
    machine = parallel.Machine.all()
    real, training = _plan_fit(config, machine)
    task, class_names = training.task, real.base.class_names
    eval_data = {
        name: _eval_stream(_some_of_each_class(source), real.shape, config, machine)
        for name, source in _judged_on(real).items()
    }
    pool = Pool.from_sources([real.base])
    stream_from = _train_stream(pool, samplers.Random(pool, config["seed"]), real.shape, training.recipe, machine)

    def work(folder: RunFolder) -> dict:
        title = f"fit {config['method']['name']}"
        state, evaluation, seconds = _fit(training, stream_from, eval_data, folder, machine, config["seed"], title)
        params = parallel.to_host(state.ema["params"] if state.ema else state.params)
        generator = pixels.Generator(task.model, task.method, params, len(class_names), real.shape)
        return {
            **evaluation.metrics,
            "steps": training.recipe.num_steps,
            "n_base": _n_base(real),
            "data_digest": real.base.digest,
            "image_shape": real.shape,
            "class_names": class_names,
            "generator": generator.digest,
            "method": config["method"]["name"],
            "seconds": seconds,
        }

    return work


def load_generator(workdir: Path) -> tuple[pixels.Generator, float, dict]:
    """Opens what `fit` left in a folder: (the generator, the label dropout it was trained with, the fit's result).

    Raises: ValueError: the folder holds no finished fit of a generator.
    """
    config, result = _finished(workdir, "diffuse", "fit")
    shape, num_classes = tuple(result["image_shape"]), len(result["class_names"])
    task = build.make_diffuse(config, shape, num_classes)
    averaged = config["optim"].get("ema_half_life_images")
    params, _ = checkpoint.restore_tree(workdir / "checkpoints", "ema" if averaged else "params")
    params = params["params"] if averaged else params
    return pixels.Generator(task.model, task.method, params, num_classes, shape), task.label_dropout, result


def sample(config: Config, resolve: Resolve = Path) -> Work:
    """Writes a synthetic set from a generator (verb `sample`)."""
    build.check_sections(config, SAMPLE_SECTIONS, "sample")
    if not config["generator"]:
        raise ValueError("config.generator is empty: give the folder of a fitted generator, --config.generator=DIR.")
    machine, everyone = parallel.Machine.local(), parallel.Machine.all()
    generator, label_dropout, fitted = load_generator(resolve(config["generator"]))
    sampling = build.make_sampling(config["sample"], generator.method, label_dropout)
    class_names = tuple(fitted["class_names"])
    spec = _spec(config, sampling, fitted["method"], class_names, generator.image_shape, generator.digest)

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        versions = environment()["packages"]
        shared = (everyone.process_index, everyone.process_count)
        pixels.write_set(generator, sampling, spec, folder.path, machine, *shared, versions)
        everyone.barrier("sampled")
        return {
            "n": spec.num_images,
            "generator": generator.digest,
            "method": fitted["method"],
            "n_base": fitted["n_base"],
            "class_names": spec.class_names,
            "seconds": time.monotonic() - started,
        }

    return work


def train(config: Config, resolve: Resolve = Path) -> Work:
    """Trains a classifier on a pool of real and synthetic images (verb `train`)."""
    machine = parallel.Machine.all()
    real, training = _plan_train(config, machine)
    pool, scores = _open_pool(config["data"], real.base, resolve)
    recipe = training.recipe
    num_draws = recipe.num_steps * recipe.batch_size
    sampler = build.make_sampler(config["sampler"], pool, config["seed"], num_draws, scores)
    eval_data = _eval_stream(real.test, real.shape, config, machine)
    stream_from = _train_stream(pool, sampler, real.shape, recipe, machine)

    def work(folder: RunFolder) -> dict:
        _, evaluation, seconds = _fit(training, stream_from, eval_data, folder, machine, config["seed"], "train")
        if machine.primary:
            atomic_write(folder.path / "draws.json", json.dumps(_draws(sampler, recipe)))
        drawn = sampler.expected(0, num_draws).sum(1)
        return {
            **_judged(evaluation, real.test, real.shape, folder, machine),
            "steps": recipe.num_steps,
            "n_base": _n_base(real),
            "n_synthetic": int(pool.counts()[1:].sum()),
            "share": float(drawn[1:].sum() / drawn.sum()),
            "sampler": repr(sampler),
            "data_digest": real.base.digest,
            "seconds": seconds,
        }

    return work


def _open_pool(data: Config, base: Source, resolve: Resolve) -> tuple[Pool, dict[str, np.ndarray]]:
    """Joins the real images and the synthetic sets that a data section names, filtered; and reads the sets' scores.

    Raises: ValueError: what does not fit together; scores of other sets or images.
    """
    refs, score_refs = (_as_tuple(data[name]) for name in ("synthetic", "scores"))
    made = [build.open_set(resolve(ref), base, data["n_synthetic"]) for ref in refs]
    if score_refs and len(score_refs) not in (1, len(refs)):
        raise ValueError(
            f"data.scores names {len(score_refs)} for {len(refs)} synthetic sets: name one for each set, or one name "
            "that every set has in its folder scores/."
        )
    pool, scores = Pool.from_sources([base, *made]), {}
    for i, source in enumerate(made if score_refs else ()):
        set_folder = resolve(refs[i])
        scores[source.name] = _read_scores(score_refs[i % len(score_refs)], set_folder, resolve)[: len(source)]
    return build.filtered(pool, data["drop_lowest"], data["drop_per_class"], scores), scores


def _read_scores(ref: str, set_folder: Path, resolve: Resolve) -> np.ndarray:
    """Opens what `score` left: a folder, or the name of one in the set's own folder scores/."""
    beside = set_folder / "scores" / ref
    folder = beside if beside.is_dir() else resolve(ref)
    _, result = _finished(folder, "score", "score")
    held = synthetic.open_synthetic(set_folder).digest
    if result["set_digest"] != held:
        raise ValueError(
            f"The scores {folder} are of a set with digest {result['set_digest']}, {set_folder} has {held}. "
            "Score this set."
        )
    return np.load(folder / "scores.npy")


def _as_tuple(refs: str | tuple) -> tuple:
    return ((refs,) if refs else ()) if isinstance(refs, str) else tuple(refs)


def _draws(sampler: samplers.Sampler, recipe: Recipe) -> dict:
    """Counts what the sampler draws of each source and class over training, in windows of whole steps.

    Of a long window its first draws are counted, as many as take a moment.
    """
    edges = [recipe.num_steps * w // NUM_WINDOWS for w in range(NUM_WINDOWS + 1)]
    edges = sorted(set(edges))
    pool, counts = sampler.pool, []
    shape = len(pool.source_names), len(pool.class_names)
    for a, b in itertools.pairwise(edge * recipe.batch_size for edge in edges):
        keys = sampler.keys(a, min(b, a + NUM_COUNTED))
        counts.append(np.bincount(pool.cell(keys), minlength=shape[0] * shape[1]).reshape(shape).tolist())
    return {
        "step_edges": edges,
        "source_names": pool.source_names,
        "class_names": pool.class_names,
        "counts": counts,
    }


def score(config: Config, resolve: Resolve = Path) -> Work:
    """Scores every image of a synthetic set by a trained classifier (verb `score`)."""
    build.check_sections(config, SCORE_SECTIONS, "score")
    if not config["checkpoint"] or not config["set"]:
        raise ValueError(
            "config.checkpoint or config.set is empty: give the folders of a trained classifier and of a set, "
            "--config.checkpoint=DIR --config.set=DIR."
        )
    if config["score"] not in SCORES:
        raise ValueError(f"config.score is {config['score']!r}; allowed are {', '.join(SCORES)}.")
    machine = parallel.Machine.all()
    origin = resolve(config["checkpoint"])
    trained, done = _finished(origin, "classify", "train")
    made = synthetic.open_synthetic(resolve(config["set"]))
    task, state, shape = _load_classifier(origin, trained, done, made)
    data = _eval_stream(made, shape, config, machine)

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        logits = predict.logits(task, state, data, machine)
        values = SCORES[config["score"]](logits, made.labels).astype(np.float32)
        _write_array(folder.path / "scores.npy", values, machine)
        return {
            "n": len(values),
            "score": config["score"],
            "mean": float(values.mean(dtype=np.float64)),
            "quantiles": np.quantile(values, (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)).tolist(),
            "set_digest": made.digest,
            "seconds": time.monotonic() - started,
        }

    return work


def _load_classifier(origin: Path, trained: Config, done: dict, judged: Source) -> tuple[Task, TrainState, tuple]:
    """Opens what `train` left in a folder, to judge images of the same classes: (task, state, image shape)."""
    if list(judged.class_names) != list(done["class_names"]):
        raise ValueError(
            f"{origin} was trained on classes {done['class_names']}, these are {list(judged.class_names)}."
        )
    shape = tuple(done["image_shape"])
    task = build.make_classify(trained, shape, len(judged.class_names))
    tree, _ = checkpoint.restore_tree(origin / "checkpoints")
    averaged = {"stats": {}, **tree["ema"]} if "ema" in tree else None  # a checkpoint has no empty branches
    return task, TrainState(tree["step"], tree["params"], tree.get("stats", {}), None, averaged), shape


def evaluate(config: Config, resolve: Resolve = Path) -> Work:
    """Judges a trained classifier on a split of a data set (verb `evaluate`)."""
    build.check_sections(config, EVALUATE_SECTIONS, "evaluate")
    if not config["checkpoint"]:
        raise ValueError(
            "config.checkpoint is empty: give the folder of a trained classifier, --config.checkpoint=DIR."
        )
    machine = parallel.Machine.all()
    origin = resolve(config["checkpoint"])
    trained, done = _finished(origin, "classify", "train")
    data = dict(config["data"])
    if not data.get("source"):
        data |= {"source": trained["data"]["source"], "path": trained["data"].get("path", "")}
    test = build.unpack("data", sources.open_source, {"name": data.pop("source"), **data})
    task, state, shape = _load_classifier(origin, trained, done, test)
    eval_data = _eval_stream(test, shape, config, machine)

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        evaluation = task.evaluate(machine.replicate(state), None, eval_data, machine)
        return {**_judged(evaluation, test, shape, folder, machine), "seconds": time.monotonic() - started}

    return work


JOBS = {"fit": fit_generator, "sample": sample, "train": train, "evaluate": evaluate, "score": score}


def study(config: Config, workdir: Path, store_path: Path, command: str) -> findings.Page:
    """Runs an experiment and prints its table (verb `study`).

    Raises: BadInput: an experiment that cannot be laid out; nothing was written.
    """

    def compute(kind: str, stage_config: Config, stage_folder: Path, resolve: Resolve) -> dict:
        return run(JOBS[kind], stage_config, stage_folder, resolve)

    machine, store = parallel.Machine.all(), Store(store_path, compute)
    config = build.plain(config)
    try:
        experiment = arms.expand(config, build.load_config, build.override, _data_digest)
        real = build.unpack("data", build.real_data, experiment.data)
        stages = in_order([run.stage for run in experiment.runs])
        _check_stages([stage for stage in stages if store.find(stage) is None], machine)
        folder = RunFolder.open(workdir, config, environment(machine.description), primary=machine.primary)
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e

    page = conduct(experiment, store, folder.path, (real.base, real.test, real.shape), command)
    print(findings.table_text(page))
    print(folder.path / "results.csv", folder.path / "report" / "index.html", sep="\n")
    return page


def _check_stages(stages: list[Stage], machine: parallel.Machine) -> None:
    """Refuses now what a stage's job would refuse only when its turn comes, which may be hours later."""
    opened: dict[str, RealData] = {}

    def open_real(data: Config) -> RealData:
        name = digest(data)
        if name not in opened:
            opened[name] = _open_real(data)
        return opened[name]

    for stage in stages:
        config = stage.config
        if stage.kind == "fit":
            _plan_fit(config, machine, open_real)
        elif stage.kind == "sample":
            build.check_sections(config, SAMPLE_SECTIONS, "sample")
            real, fitted = _plan_fit(stage.needs[0].config, machine, open_real)
            sampling = build.make_sampling(config["sample"], fitted.task.method, fitted.task.label_dropout)
            _spec(config, sampling, "", real.base.class_names, real.shape)
        elif stage.kind == "score":
            build.check_sections(config, SCORE_SECTIONS, "score")
        else:
            _check_train(stage, *_plan_train(config, machine, open_real))


def _check_train(stage: Stage, real: RealData, training: build.Training) -> None:
    """Builds the sampler of a training stage over the labels that its sets will have, with scores made up."""
    config, recipe = stage.config, training.recipe
    n_synthetic, num_classes = config["data"]["n_synthetic"], len(real.base.class_names)
    labels, made_up = {"real": real.base.labels}, {}
    for made in (need for need in stage.needs if need.kind == "sample"):
        name, size = made.config["name"], made.config["num_images"]
        build.check_set_size(name, n_synthetic, size)
        labels[name] = np.arange(n_synthetic or size) % num_classes
        if config["data"]["scores"]:
            made_up[name] = np.linspace(0.1, 0.9, labels[name].size)
    pool = Pool.from_labels(labels, real.base.class_names)
    pool = build.filtered(pool, config["data"]["drop_lowest"], config["data"]["drop_per_class"], made_up)
    build.make_sampler(config["sampler"], pool, config["seed"], recipe.num_steps * recipe.batch_size, made_up)


def _plan_fit(
    config: Config, machine: parallel.Machine, open_real: Callable[[Config], RealData] | None = None
) -> tuple[RealData, build.Training]:
    """Opens the data of a generator's configuration and builds its training; refuses another verb's."""
    build.check_sections(config, GENERATOR_SECTIONS, "diffuse")
    real = (open_real or _open_real)(config["data"])
    metrics = tuple(f"loss_{name}" for name in _judged_on(real))
    num_classes = len(real.base.class_names)
    return real, build.make_training(build.make_diffuse, config, real.shape, num_classes, metrics, machine)


def _plan_train(
    config: Config, machine: parallel.Machine, open_real: Callable[[Config], RealData] | None = None
) -> tuple[RealData, build.Training]:
    """The same for a classifier's configuration, without the sets that its data section refers to."""
    build.check_sections(config, CLASSIFIER_SECTIONS, "classify")
    real = (open_real or _open_real)({k: v for k, v in config["data"].items() if k not in SET_FIELDS})
    if missing := sorted(set(SET_FIELDS) - set(config["data"])):
        raise ValueError(f"config.data lacks {missing}: name the synthetic sets to mix in, () and 0 for none.")
    num_classes = len(real.base.class_names)
    metrics = ("top1", "loss", "top5") if num_classes > 5 else ("top1", "loss")
    return real, build.make_training(build.make_classify, config, real.shape, num_classes, metrics, machine)


def _open_real(data: Config) -> RealData:
    return build.unpack("data", build.real_data, data)


def _data_digest(data: Config) -> str:
    return sources.open_source(data.get("source", ""), "train", data.get("path", "")).digest


def _judged_on(real: RealData) -> dict[str, Source]:
    sets = {"train": real.base, "heldout": real.unused}
    return {name: source for name, source in sets.items() if source is not None}


def _fit(training: build.Training, stream_from, eval_data, folder: RunFolder, machine, seed: int, title: str) -> tuple:
    return fit(
        training.task,
        training.recipe,
        stream_from,
        folder=folder,
        machine=machine,
        seed=seed,
        intervals=training.intervals,
        eval_data=eval_data,
        best_metric=training.best_metric,
        title=title,
    )


def _spec(
    config: Config, sampling: pixels.Sampling, default_name: str, class_names: tuple, shape: tuple, generator: str = ""
) -> synthetic.SyntheticSpec:
    parallel.check_seed(config["seed"])
    return synthetic.SyntheticSpec(
        name=config["name"] or default_name,
        class_names=class_names,
        shape=shape,
        num_images=config["num_images"],
        shard_images=config["shard_images"],
        seed=config["seed"],
        generator=generator,
        guidance=sampling.guidance,
        steps=sampling.num_steps,
        created_by=config["sample"],
    )


def _finished(workdir: Path, task: str, verb: str) -> tuple[Config, dict]:
    config, result = read_json(workdir / "config.json"), read_json(workdir / "result.json")
    if config is None or result is None or config.get("task") != task:
        raise ValueError(f"{workdir} holds no finished {task!r} run. Run `jaxmoust {verb} --workdir={workdir}` first.")
    return build.plain(config), result


def _judged(evaluation, test: Source, shape: tuple, folder: RunFolder, machine: parallel.Machine) -> dict:
    """Top-1 and Top-5 with intervals and per class; the rank of every test image goes to ranks.npy."""
    rank = evaluation.arrays["rank"]
    _write_array(folder.path / "ranks.npy", rank, machine)
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


def _write_array(path: Path, array: np.ndarray, machine: parallel.Machine) -> None:
    if machine.primary:
        buffer = io.BytesIO()
        np.save(buffer, array)
        atomic_write(path, buffer.getvalue())


def _some_of_each_class(source: Source) -> Source:
    return source.subset(sources.base_keys(source.labels, min(len(source), NUM_EVAL_IMAGES), seed=0))


def _n_base(real: RealData) -> int:
    return len(real.base) // real.copies


def _train_stream(pool, sampler, shape: tuple, recipe: Recipe, machine: parallel.Machine) -> Callable[[int], Iterator]:
    """Opens the stream (images that fit into memory are read, and refused, here) and returns what seeks in it."""
    stream = loader.train_stream(
        pool,
        sampler,
        recipe.batch_size,
        image_px=shape[0],
        channels=shape[2],
        process_index=machine.process_index,
        process_count=machine.process_count,
    )

    def stream_from(step: int) -> Iterator:
        stream.set_state({"next_index": step})
        return stream

    return stream_from


def _eval_stream(source: Source, shape: tuple, config: Config, machine: parallel.Machine):
    batch_size = build.unpack("eval", lambda batch_size: batch_size, config["eval"])
    machine.per_device(batch_size, "eval.batch_size")
    return loader.eval_stream(
        source,
        batch_size,
        image_px=shape[0],
        channels=shape[2],
        process_index=machine.process_index,
        process_count=machine.process_count,
    )
