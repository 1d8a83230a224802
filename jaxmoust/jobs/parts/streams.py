"""The streams and trainings that jobs run: batches of a pool, padded batches of a source, one call of the loop."""

import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust import build
from jaxmoust.config import Config
from jaxmoust.core.optim import Recipe
from jaxmoust.data.loading import loader
from jaxmoust.data.loading.transforms import Prepared, RandomResizedCrop, Resize
from jaxmoust.data.pool import Pool
from jaxmoust.data.real import RealData
from jaxmoust.data.samplers.base import Sampler
from jaxmoust.data.source import Source, from_arrays
from jaxmoust.data.splits.base_set import base_keys
from jaxmoust.data.synthetic.spec import SyntheticSpec
from jaxmoust.models.classifiers.headed import Headed
from jaxmoust.models.classifiers.preprocessing import Preprocessing
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.paths import atomic_write
from jaxmoust.train.loop import fit

# The most images on which a generator's loss at fixed noise is measured, of each of its two sets.
NUM_EVAL_IMAGES = 512


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
    select_data: Any = None,
) -> tuple:
    """Does what `build.make_training` laid out; see `fit`."""
    given = {"eval_data": eval_data, "select_data": select_data, "start": start, "frozen": frozen, "watch": watch}
    return fit(training, stream_from, folder, machine, seed, title=title, **given)


def fit_fold(
    k: int,
    num_folds: int,
    training: build.Training,
    stream_from: Callable[[int], Iterator],
    folder: RunFolder,
    machine: parallel.Machine,
    seed: int,
    frozen: Any = None,
) -> tuple[Any, float]:
    """Trains the classifier of which fold k of some images is held out, in a folder of its own: (state, seconds)."""
    path = folder.path / f"fold{k}"
    if machine.primary:
        path.mkdir(exist_ok=True)
    fold_folder = RunFolder(path, folder.config, folder.primary)
    title = f"fold {k + 1} of {num_folds}"
    state, _, seconds = run_fit(training, stream_from, None, fold_folder, machine, seed, title, frozen=frozen)
    return state, seconds


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
    image_px, _, channels = real.shape
    crop = RandomResizedCrop(image_px, channels, area=(real.random_crop, 1.0)) if real.random_crop else None
    stream = loader.train_stream(
        pool,
        sampler,
        recipe.batch_size,
        image_px=image_px,
        channels=channels,
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


def evaluated_on(real: RealData) -> dict[str, Source]:
    """What a generator's loss is measured on: the images it learns from, and the rest, if any."""
    sets = {"train": real.base, "heldout": real.unused}
    return {name: source for name, source in sets.items() if source is not None}


def some_of_each(real: RealData) -> dict[str, Source]:
    """Some images of each class of each of the two sets that a generator is evaluated on."""

    def some(source: Source) -> Source:
        return source.subset(base_keys(source.labels, min(len(source), NUM_EVAL_IMAGES), seed=0))

    return {name: some(source) for name, source in evaluated_on(real).items()}


def fit_eval_data(real: RealData, config: Config, machine: parallel.Machine) -> dict[str, loader.EvalStream]:
    """Opens some images of each of the two sets that a generator is evaluated on."""
    form = plain_form(real.shape)
    return {name: evaluation_stream(of, form, config, machine) for name, of in some_of_each(real).items()}


def evaluation_batch_size(config: Config, machine: parallel.Machine, shape: tuple[int, ...] = ()) -> int:
    """The global batch size that the section eval gives.

    Raises: ValueError: one that the devices cannot share, or of whose images, of this shape, one cannot hold its part.
    """
    batch_size = config["eval"]["batch_size"]
    rows = machine.per_device(batch_size, "eval.batch_size")
    machine.check_memory(f"A batch of eval.batch_size {batch_size:,}", 4 * rows * math.prod(shape))
    return batch_size


def seconds_an_image(
    ask: Callable[[loader.EvalStream], Any], shape: tuple[int, int, int], config: Config, machine: parallel.Machine
) -> float:
    """Times what is asked of a batch of black images of a shape (H, W, C), after one that compiles it."""
    size, seconds = config["eval"]["batch_size"], 0.0
    black = from_arrays(np.zeros((size, *shape), np.uint8), np.zeros(size, np.int32), ("black",), "black")
    for _ in range(2):
        started = time.monotonic()
        ask(evaluation_stream(black, plain_form(shape), config, machine))
        seconds = time.monotonic() - started
    return seconds / size


def check_room(spec: SyntheticSpec, per_device_batch: int, shape: tuple[int, ...], machine: parallel.Machine) -> None:
    """Refuses a batch, of images of this shape, or a file of a set that no device holds. Raises ValueError."""
    what = f"A batch of sample.per_device_batch {per_device_batch:,}"
    machine.check_memory(what, 4 * per_device_batch * math.prod(shape))
    in_file = min(spec.num_images, spec.shard_images)
    machine.check_memory(f"A file of shard_images {spec.shard_images:,}", in_file * math.prod(spec.shape))


@dataclass(frozen=True)
class Form:
    """How images come to a network that is evaluated on them, or asked for features.

    Args:
        shape: (H, W, C) of what it sees.
        transform: what brings an image to that.
        decoded, map_dir: see `RealData`.
        preprocessing: of a public network, which `transform` does.
    """

    shape: tuple[int, int, int]
    transform: Resize | Prepared
    decoded: str = "auto"
    map_dir: str = ""
    preprocessing: Preprocessing | None = None

    @property
    def said(self) -> dict[str, Any]:
        """What a result says of the preprocessing of a public network; {} where there is none."""
        if not (how := self.preprocessing):
            return {}
        return {"preprocessing": {**asdict(how), "mean": list(how.mean), "std": list(how.std)}}


def form_of(model: Any, shape: tuple[int, int, int], data: Config) -> Form:
    """The form in which a classifier sees the images of a data section that brings them to a shape.

    A public backbone sees them as its files say; any other network the central square, data.test_crop of it. Of a
    backbone data.test_crop takes the place of its own crop where it is not 1.
    """
    crop, where = data["test_crop"], (data["decoded"], data["map_dir"])
    if not isinstance(model, Headed):
        return Form(shape, Resize(shape[0], shape[2], crop_fraction=crop), *where)
    how = model.preprocessing
    if crop != 1.0:
        how = replace(how, resize_px=round(how.image_px / crop), squash=False)
    return prepared_form(how, None, *where)


def plain_form(shape: tuple[int, int, int]) -> Form:
    """The whole central square of images, brought to a shape."""
    return Form(shape, Resize(shape[0], shape[2]))


def prepared_form(how: Preprocessing, first: Resize | None = None, decoded: str = "auto", map_dir: str = "") -> Form:
    """What a public network's own preprocessing makes of images, after `first`."""
    return Form((how.image_px, how.image_px, 3), Prepared(how, first), decoded, map_dir, how)


def preparation_of(config: Config) -> dict[str, Any]:
    """What the result of a configuration says of the preprocessing of its public backbone; {} of another network."""
    if config["model"]["name"] != "backbone":
        return {}
    return form_of(build.make_network(config["model"], 2), (1, 1, 3), config["data"]).said


def evaluation_stream(source: Source, form: Form, config: Config, machine: parallel.Machine) -> loader.EvalStream:
    """Opens the padded batches of a source in a form, of the size that the section eval gives."""
    return loader.eval_stream(
        source,
        evaluation_batch_size(config, machine, form.shape),
        image_px=form.shape[0],
        channels=form.shape[2],
        process_index=machine.process_index,
        process_count=machine.process_count,
        transform=form.transform,
        decoded=form.decoded,
        map_dir=form.map_dir,
    )
