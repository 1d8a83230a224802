"""The jobs behind the verbs: one configuration in, one folder with a result out.

A job is `job(config, resolve) -> work`: it checks everything it can on plain dicts before anything is written, and
returns the work that is left, `work(folder) -> result`. `run` puts the two together. The same call continues what an
earlier one was interrupted in, and finds what an earlier one finished. `resolve` turns a reference to another folder
into its path: `Path` on the command line, a look-up in the store inside a study.
"""

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import accuracy
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
from jaxmoust.train.loop import Recipe, fit

Resolve = Callable[[str], Path]
Work = Callable[[RunFolder], dict]

GENERATOR_SECTIONS = ("seed", "task", "data", "model", "method", "augment", "optim", "train", "eval")
SAMPLE_SECTIONS = ("seed", "task", "generator", "name", "num_images", "shard_images", "sample")
CLASSIFIER_SECTIONS = ("seed", "task", "data", "sampler", "model", "augment", "method", "optim", "train", "eval")
EVALUATE_SECTIONS = ("task", "checkpoint", "data", "eval")
SET_FIELDS = ("synthetic", "n_synthetic")

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
    refs, n_synthetic = config["data"]["synthetic"], config["data"]["n_synthetic"]
    made = [build.open_set(resolve(r), real.base, n_synthetic) for r in ([refs] if isinstance(refs, str) else refs)]
    pool = Pool.from_sources([real.base, *made])
    sampler = build.make_sampler(config["sampler"], pool, config["seed"])
    recipe = training.recipe
    eval_data = _eval_stream(real.test, real.shape, config, machine)
    stream_from = _train_stream(pool, sampler, real.shape, recipe, machine)

    def work(folder: RunFolder) -> dict:
        _, evaluation, seconds = _fit(training, stream_from, eval_data, folder, machine, config["seed"], "train")
        drawn = sampler.expected(0, recipe.num_steps * recipe.batch_size).sum(1)
        return {
            **_judged(evaluation, real.test, real.shape, folder, machine),
            "steps": recipe.num_steps,
            "n_base": _n_base(real),
            "n_synthetic": sum(len(s) for s in made),
            "share": float(drawn[1:].sum() / drawn.sum()),
            "sampler": repr(sampler),
            "data_digest": real.base.digest,
            "seconds": seconds,
        }

    return work


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
    if list(test.class_names) != list(done["class_names"]):
        raise ValueError(f"{origin} was trained on classes {done['class_names']}, these are {list(test.class_names)}.")
    shape = tuple(done["image_shape"])
    task = build.make_classify(trained, shape, len(test.class_names))
    eval_data = _eval_stream(test, shape, config, machine)
    tree, _ = checkpoint.restore_tree(origin / "checkpoints")

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        averaged = {"stats": {}, **tree["ema"]} if "ema" in tree else None  # a checkpoint has no empty branches
        state = TrainState(tree["step"], tree["params"], tree.get("stats", {}), None, averaged)
        evaluation = task.evaluate(machine.replicate(state), None, eval_data, machine)
        return {**_judged(evaluation, test, shape, folder, machine), "seconds": time.monotonic() - started}

    return work


JOBS = {"fit": fit_generator, "sample": sample, "train": train, "evaluate": evaluate}


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
        else:
            real, _ = _plan_train(config, machine, open_real)
            n_synthetic, num_classes = config["data"]["n_synthetic"], len(real.base.class_names)
            labels = {"real": real.base.labels}
            for made in stage.needs:
                build.check_set_size(made.config["name"], n_synthetic, made.config["num_images"])
                labels[made.config["name"]] = np.arange(made.config["num_images"]) % num_classes
            build.make_sampler(config["sampler"], Pool.from_labels(labels, real.base.class_names), config["seed"])


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
    if machine.primary:
        buffer = io.BytesIO()
        np.save(buffer, rank)
        atomic_write(folder.path / "ranks.npy", buffer.getvalue())
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
