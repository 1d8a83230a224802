"""What every job is made of: its types, its folder, and the streams that it opens.

A job is `job(config, resolve) -> work`: it checks everything it can on plain dicts before anything is written, and
returns the work that is left, `work(folder) -> result`. `run` puts the two together. The same call continues what an
earlier one was interrupted in, and finds what an earlier one finished. `resolve` turns a reference to another folder
into its path: `Path` on the command line, a look-up in the store inside a study.
"""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust import build
from jaxmoust.build import Config, RealData
from jaxmoust.data.loading import loader
from jaxmoust.data.loading.transforms import RandomResizedCrop
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.share import Sampler
from jaxmoust.data.sources import registry as sources
from jaxmoust.data.sources.registry import Source
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder, differences, environment
from jaxmoust.runtime.paths import atomic_write, read_json
from jaxmoust.train.loop import Recipe, fit

# The tasks that train parts of a Stable Diffusion pipeline, and their sections.
TUNING_TASKS = ("finetune", "autoencode")
AUTOENCODE_SECTIONS = ("seed", "task", "pipeline", "data", "method", "augment", "optim", "train", "eval")
FINETUNE_SECTIONS = (*AUTOENCODE_SECTIONS, "prompts", "grid")

# The most images on which a generator's loss at fixed noise is measured, of each of its two sets.
NUM_EVAL_IMAGES = 512

Resolve = Callable[[str], Path]
Work = Callable[[RunFolder], dict]


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
        RunFolder.check(workdir, config)  # before any data is opened
        work = job(config, resolve)
        folder = RunFolder.open(workdir, config, environment(machine.description), primary=machine.primary)
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e
    result = work(folder)
    folder.write_result(result)
    machine.barrier("finished")
    return result


def _result_of(config: Config, workdir: Path) -> dict | None:
    """What an earlier call with the same configuration left in the folder, if it finished and a set is still whole."""
    if not (workdir / "result.json").is_file() or not (workdir / "config.json").is_file():
        return None
    if differences(read_json(workdir / "config.json"), config):
        return None
    if (workdir / synthetic.PROVENANCE_FILE).is_file() and not synthetic.is_whole(workdir):
        return None  # what is lost is filled in
    return read_json(workdir / "result.json")


def open_real_data(data: Config) -> RealData:
    """Opens the real images of a data section."""
    return build.unpack("data", build.real_data, data)


def run_fit(
    training: build.Training,
    stream_from: Callable[[int], Iterator],
    eval_data: Any,
    folder: RunFolder,
    machine: parallel.Machine,
    seed: int,
    title: str,
    start: Any = None,
    frozen: Any = None,
    watch: Any = None,
) -> tuple:
    """Does what `build.make_training` laid out; see `fit`."""
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
        start=start,
        frozen=frozen,
        watch=watch,
    )


def fit_fold(
    k: int,
    num_folds: int,
    training: build.Training,
    stream_from: Callable[[int], Iterator],
    folder: RunFolder,
    machine: parallel.Machine,
    seed: int,
) -> tuple[Any, float]:
    """Trains the classifier that judges fold k of some images, in a folder of its own: (state, seconds)."""
    path = folder.path / f"fold{k}"
    if machine.primary:
        path.mkdir(exist_ok=True)
    fold_folder = RunFolder(path, folder.config, folder.primary)
    title = f"fold {k + 1} of {num_folds}"
    state, _, seconds = run_fit(training, stream_from, None, fold_folder, machine, seed, title)
    return state, seconds


def finished(workdir: Path, tasks: str | tuple[str, ...], verb: str) -> tuple[Config, dict]:
    """Reads the configuration and the result that a finished run of a task (or of one of several) left in a folder.

    Raises: ValueError: there is none; the verb that makes one is named.
    """
    config, result = read_json(workdir / "config.json"), read_json(workdir / "result.json")
    tasks = (tasks,) if isinstance(tasks, str) else tasks
    if config is None or result is None or config.get("task") not in tasks:
        raise ValueError(
            f"{workdir} holds no finished {' or '.join(map(repr, tasks))} run. "
            f"Run `jaxmoust {verb} --workdir={workdir}` first."
        )
    return build.plain(config), result


def write_array(path: Path, array: np.ndarray, machine: parallel.Machine) -> None:
    """Writes an .npy file, whole or not at all, from the primary process."""
    if machine.primary:
        buffer = io.BytesIO()
        np.save(buffer, array)
        atomic_write(path, buffer.getvalue())


def base_size(real: RealData) -> int:
    """The number of distinct images of a base set."""
    return len(real.base) // real.copies


def training_stream(
    pool: Pool, sampler: Sampler, real: RealData, recipe: Recipe, machine: parallel.Machine, pixels: bool = True
) -> Callable[[int], Iterator]:
    """Opens the stream (images that fit into memory are read, and refused, here) and returns what seeks in it."""
    size = {"image_px": real.shape[0], "channels": real.shape[2]}
    crop = RandomResizedCrop(**size, area=(real.random_crop, 1.0)) if real.random_crop else None
    stream = loader.train_stream(
        pool,
        sampler,
        recipe.batch_size,
        **size,
        process_index=machine.process_index,
        process_count=machine.process_count,
        train_transform=crop,
        decoded=real.decoded,
        map_dir=real.map_dir,
        pixels=pixels,
    )

    def stream_from(step: int) -> Iterator:
        stream.set_state({"next_index": step})
        return stream

    return stream_from


def judged_on(real: RealData) -> dict[str, Source]:
    """What a generator's loss is measured on: the images it learns from, and the rest, if any."""
    sets = {"train": real.base, "heldout": real.unused}
    return {name: source for name, source in sets.items() if source is not None}


def fit_eval_data(real: RealData, config: Config, machine: parallel.Machine) -> dict[str, loader.EvalStream]:
    """Opens some images of each of the two sets that a generator is judged on."""

    def some_of_each_class(source: Source) -> Source:
        return source.subset(sources.base_keys(source.labels, min(len(source), NUM_EVAL_IMAGES), seed=0))

    judged = judged_on(real).items()
    return {name: evaluation_stream(some_of_each_class(source), real.shape, config, machine) for name, source in judged}


def evaluation_batch_size(config: Config, machine: parallel.Machine) -> int:
    """The global batch size that the section eval gives.

    Raises: ValueError: one that the devices cannot share.
    """
    batch_size = build.unpack("eval", lambda batch_size: batch_size, config["eval"])
    machine.per_device(batch_size, "eval.batch_size")
    return batch_size


def evaluation_stream(
    source: Source,
    shape: tuple,
    config: Config,
    machine: parallel.Machine,
    decoded: str = "auto",
    map_dir: str = "",
    test_crop: float = 1.0,
) -> loader.EvalStream:
    """Opens the padded batches of a source, of the size that the section eval gives."""
    return loader.eval_stream(
        source,
        evaluation_batch_size(config, machine),
        image_px=shape[0],
        channels=shape[2],
        process_index=machine.process_index,
        process_count=machine.process_count,
        decoded=decoded,
        map_dir=map_dir,
        crop_fraction=test_crop,
    )
