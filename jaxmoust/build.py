"""The composition root: turns the sections of a configuration into objects.

Sections are unpacked as keyword arguments, so that a misspelt, missing or dead field is an error before any work
starts. What a `name` in a configuration may be stands in the literal tables below.
"""

import contextlib
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.augment.nonleaky import LABEL_DIM, NonLeaky
from jaxmoust.core.diffusion.methods import METHODS, Method
from jaxmoust.core.state import TrainState
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers import share as samplers
from jaxmoust.data.sources import registry as sources
from jaxmoust.data.sources.registry import Source
from jaxmoust.data.splits.base_set import base_set
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.generate.pixels import Sampling
from jaxmoust.models.classifiers import resnet, vit, wide_resnet
from jaxmoust.models.unet import unet
from jaxmoust.runtime import parallel
from jaxmoust.train.classify import Classify
from jaxmoust.train.diffuse import Diffuse
from jaxmoust.train.loop import Intervals, Recipe, Task, init_state

GENERATOR_MODELS = {"unet": unet.UNet, **unet.PUBLISHED}
CLASSIFIER_MODELS = {"resnet": resnet.ResNet, "wide_resnet": wide_resnet.WideResNet, "vit": vit.ViT}
SAMPLERS = {
    "random": samplers.Random,
    "share": samplers.Share,
    "class_power": samplers.ClassPower,
    "effective_number": samplers.EffectiveNumber,
    "progressive": samplers.Progressive,
    "weighted": samplers.Weighted,
    "ramp": samplers.Curriculum.ramp,
    "levels": samplers.Curriculum.levels,
    "stages": samplers.Curriculum.parts,
    "easy_to_hard": samplers.EasyToHard.paced,
}
SCORES = "scores"  # as the weight of a source: that of each image is its score
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

Config = Mapping[str, Any]


def read_config(path: str) -> ml_collections.ConfigDict:
    """Reads `PATH[:arg]`: runs the file's `get_config(arg)`. As a script may, it may import the files beside it.

    Of a file that has WORDS, arg is some of these by ",", each once: "quick|small" is either, "share=" takes a value.

    Raises: ValueError: no such file, one without `get_config`, or a word that is none of its WORDS.
    """
    file, _, arg = path.partition(":")
    if not Path(file).is_file():
        raise ValueError(f"No configuration file {file!r}. Those of the project lie in configs/ and experiments/.")
    spec = importlib.util.spec_from_file_location("config", file)
    module = importlib.util.module_from_spec(spec)
    with _neighbours(Path(file)):
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ValueError(f"{file} defines no get_config(arg=''), so it is no configuration file.")
        if hasattr(module, "WORDS"):
            _check_words(file, arg, module.WORDS)
        return module.get_config(arg)


def _check_words(file: str, arg: str, allowed: tuple[str, ...]) -> None:
    given = [name + equals for name, equals, _ in (word.partition("=") for word in arg.split(","))] if arg else []
    meant = [next((words for words in allowed if word in words.split("|")), None) for word in given]
    if None in meant or len(set(meant)) < len(meant):
        said = f"{', '.join(allowed).replace('|', ' or ')}; each once, by ','" if allowed else "nothing"
        raise ValueError(f"{file} got {arg!r} after its ':'; allowed: {said}.")


@contextlib.contextmanager
def _neighbours(file: Path) -> Iterator[None]:
    """Lets the files beside a file be imported, anew each time: they may have changed, or be another folder's."""
    folder, names = str(file.parent.resolve()), {path.stem for path in file.parent.glob("*.py")}
    hidden = {name: sys.modules.pop(name) for name in names & set(sys.modules)}
    sys.path.insert(0, folder)
    importlib.invalidate_caches()  # a file may be newer than what Python remembers of its folder
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in names & set(sys.modules):
            del sys.modules[name]
        sys.modules.update(hidden)


def load_config(path: str) -> Config:
    """`read_config` as plain dicts and tuples."""
    return plain(read_config(path))


def plain(config: Any) -> Any:
    """Turns a ConfigDict into plain dicts and tuples."""
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {k: plain(v) for k, v in config.items()}
    return tuple(plain(v) for v in config) if isinstance(config, list | tuple) else config


def override(config: Config, overrides: Mapping[str, Any], at: str = "config") -> Config:
    """Returns a copy with the leaves of nested `overrides` replaced; a field that does not exist is an error."""
    unknown = sorted(set(overrides) - set(config))
    if unknown:
        raise ValueError(f"{at} has no field {', '.join(unknown)} to override. Allowed: {', '.join(config) or 'none'}.")
    nested = {k: v for k, v in overrides.items() if isinstance(v, Mapping) and isinstance(config[k], Mapping)}
    merged = {k: override(config[k], v, f"{at}.{k}") for k, v in nested.items()}
    return {**config, **plain(overrides), **merged}


def check_sections(config: Config, allowed: tuple[str, ...], task: str) -> None:
    """Refuses a configuration of another task, or whose sections are not exactly this task's."""
    if config.get("task") != task:
        raise ValueError(f"config.task is {config.get('task')!r}, this verb runs {task!r}. Give it such a file.")
    missing, unknown = sorted(set(allowed) - set(config)), sorted(set(config) - set(allowed))
    if missing or unknown:
        raise ValueError(
            f"The configuration lacks {missing or 'nothing'} and has unknown {unknown or 'nothing'}. "
            f"Sections of {task!r}: {', '.join(allowed)}."
        )


def unpack(section: str, make: Callable, fields: Config, **given: Any) -> Any:
    """Calls `make(**fields, **given)`; an unknown or missing field is named with those allowed."""
    parameters = inspect.signature(make).parameters
    base = getattr(make, "func", make)  # a published size is a partial of its network
    hidden = {"parent", "name"} if isinstance(base, type) and issubclass(base, nn.Module) else set()
    allowed = [n for n in parameters if n not in given and n not in hidden]
    unknown = sorted(set(fields) - set(allowed))
    missing = [n for n in allowed if n not in fields and parameters[n].default is inspect.Parameter.empty]
    if unknown or missing:
        raise ValueError(
            f"config.{section} has unknown fields {unknown or 'none'} and lacks {missing or 'none'}. "
            f"Allowed: {', '.join(allowed) or 'none'}."
        )
    return make(**fields, **given)


def choose(section: str, table: Mapping[str, Any], fields: Config) -> tuple[Any, dict]:
    """Splits a section with a `name` into the table's entry of that name and the other fields."""
    fields = dict(fields)
    name = fields.pop("name", None)
    if name not in table:
        raise ValueError(f"config.{section}.name is {name!r}; allowed are {', '.join(sorted(table))}.")
    return table[name], fields


@dataclass(frozen=True)
class RealData:
    """The real images of one job.

    Args:
        base: what it learns from. unused: the rest of the training split, if any. test: what it is judged on.
        shape: (H, W, C) that every image is brought to.
        copies: how often `base` repeats each of its images.
        decoded, map_dir: where decoded images are held; see `loader.train_stream`.
        random_crop: the smallest part of a training image's area that a random resized crop takes; 0: no such crop.
        test_crop: how much of its shorter side the central square of a test image takes.
    """

    base: Source
    unused: Source | None
    test: Source
    shape: tuple[int, int, int]
    copies: int
    decoded: str = "auto"
    map_dir: str = ""
    random_crop: float = 0.0
    test_crop: float = 1.0


def real_data(
    source: str,
    path: str = "",
    n_base: int = 0,
    base_seed: int = 0,
    copies: int = 1,
    image_px: int = 0,
    channels: int = 0,
    digest: str = "",
    n_per_class: int = 0,
    imbalance: str = "",
    imbalance_ratio: float = 0.0,
    classes: str = "",
    decoded: str = "auto",
    map_dir: str = "",
    random_crop: float = 0.0,
    test_crop: float = 1.0,
) -> RealData:
    """Opens a data set and cuts the base set out of its training split.

    Args:
        source: a name of `sources.open_source`. path: where it lies, if it is not built in.
        n_base: size of the base set, stratified and nested; 0 is the whole training split.
        n_per_class: size of the base set in each class, instead of n_base; 0 is off.
        base_seed: which base set of that size.
        imbalance, imbalance_ratio: "step" or "exponential" cuts classes of that base set down, until the largest
            is so many times the smallest; see `base.base_set`.
        classes: a text file with the classes to use, one a line, in the order of their labels; "" is all.
        copies: how often each base image counts (the duplication control).
        image_px, channels: what images are brought to; 0 is as they are.
        digest: if given, the content address that the training split must have.
        decoded, map_dir: where decoded images are held; see `loader.train_stream`.
        random_crop: the smallest part of the area that a random resized crop of a training image takes; 0 is off.
        test_crop: the side of the central square of a test image that is judged, over its shorter side: 1.0 is all,
            0.875 is 224 out of 256, as usual for networks trained with random_crop.
    Raises: ValueError: no such data set, a base set that cannot be cut out of it, copies below 1, a crop out of range,
        or other content than `digest` says.
    """
    if copies < 1 or not 0.0 <= random_crop <= 1.0 or not 0.0 < test_crop <= 1.0:
        raise ValueError(
            f"data.copies {copies}, data.random_crop {random_crop}, data.test_crop {test_crop}: allowed are whole "
            "numbers from 1, 0 (off) to 1, and above 0 to 1 (all of the image)."
        )
    train, test = (sources.open_source(source, split, path, classes) for split in ("train", "test"))
    if digest and train.digest != digest:
        raise ValueError(
            f"The images of {source} {path} have changed: digest {train.digest}, expected {digest}. "
            "Restore them, or start in a new folder."
        )
    keys = base_set(
        train.labels,
        n_base=n_base,
        n_per_class=n_per_class,
        seed=base_seed,
        imbalance=imbalance,
        imbalance_ratio=imbalance_ratio,
    )
    rest = np.setdiff1d(np.arange(len(train)), keys)
    base = train.subset(np.tile(np.sort(keys), copies), "real")
    unused = train.subset(rest, "unused") if len(rest) else None
    shape = shape_of(train, image_px, channels)
    return RealData(base, unused, test, shape, copies, decoded, map_dir, random_crop, test_crop)


def shape_of(source: Source, image_px: int = 0, channels: int = 0) -> tuple[int, int, int]:
    """The shape that a source's images are brought to: its own, unless the configuration says otherwise."""
    if channels not in (0, 1, 3) or image_px < 0:
        raise ValueError(
            f"data.image_px {image_px}, data.channels {channels}: allowed are 0 (as they are), or a "
            "positive size and 1 or 3 channels."
        )
    height, width, depth = source.shape or (0, 1, 0)
    if (height != width and not image_px) or not (channels or depth):
        raise ValueError(
            f"The images of {source.name} are not all square and of one size: set data.image_px and data.channels "
            "(1 or 3) to what they shall be brought to."
        )
    side = image_px or height
    return (side, side, channels or depth)


def open_set(path: Path, real: Source, num_images: int = 0) -> Source:
    """Opens a synthetic set that is to be mixed with real images of the same classes.

    Args:
        num_images: use the first so many; 0 is all.
    Raises: ValueError: another set of classes, or more images wanted than there are.
    """
    made = synthetic.open_synthetic(path)
    if made.class_names != real.class_names:
        raise ValueError(
            f"The synthetic set {path} has classes {made.class_names}, the real images {real.class_names}. "
            "Mix sets of the same classes, in the same order."
        )
    check_set_size(str(path), num_images, len(made))
    return made.subset(np.arange(num_images)) if num_images else made


def check_set_size(name: str, num_images: int, held: int) -> None:
    """Refuses to use more images of a synthetic set than it holds."""
    if not 0 <= num_images <= held:
        raise ValueError(
            f"data.n_synthetic {num_images}: {name} holds {held}. Sample more, or ask for fewer (0 is all)."
        )


def filtered(
    pool: Pool, drop_lowest: float, per_class: bool, scores: Mapping[str, np.ndarray], keep_above: str | float = ""
) -> Pool:
    """Drops the lowest-scored part of each synthetic set, or what is scored no higher than a threshold.

    Args:
        drop_lowest: the part, 0 for none. per_class: of each class by itself.
        scores: source -> numbers [images of that source].
        keep_above: the threshold, see `threshold`; "" for none.
    Raises: ValueError: both filters at once, a filter and no scores, a part out of range, or a threshold that is no
        number or leaves nothing of a set.
    """
    level = threshold(keep_above, len(pool.class_names))
    if not drop_lowest and level is None:
        return pool
    if drop_lowest and level is not None:
        raise ValueError(
            f"data.drop_lowest {drop_lowest} and data.keep_above {keep_above!r}: allowed is one of the two; set the "
            'other to 0.0 or "".'
        )
    if not scores:
        named = f"data.drop_lowest {drop_lowest}" if drop_lowest else f"data.keep_above {keep_above!r}"
        raise ValueError(
            f"{named} needs scores and data.scores names none: give the folder that `jaxmoust score` wrote."
        )
    if level is not None:
        return pool.keep_above(scores, level)
    return pool.drop_lowest(scores, drop_lowest, per_class=per_class)


def threshold(keep_above: str | float, num_classes: int) -> float | None:
    """Reads data.keep_above: a number, "1/C" for one over the number of classes (what a guess would score), "" none.

    Raises: ValueError: anything else.
    Source of 1/C: He et al. 2023 (2210.07574), who keep what CLIP is surer of than that.
    """
    text = str(keep_above).strip()
    if not text:
        return None
    try:
        level = 1 / num_classes if text == "1/C" else float(text)
    except ValueError:
        level = np.nan
    if not np.isfinite(level):
        raise ValueError(f'data.keep_above {keep_above!r}: allowed are a number such as "0.5", "1/C", or "" for none.')
    return level


def make_sampler(
    section: Config, pool: Pool, seed: int, num_draws: int, scores: Mapping[str, np.ndarray] | None = None
) -> samplers.Sampler:
    """Builds the sampler a configuration names.

    `shares` may be a mapping or a text such as "real=0.5,edm=0.5". Of "weighted", a source's weight may be "scores",
    and `power` is what scores are raised to.

    Args:
        num_draws: the length of training, for samplers that follow it.
        scores: source -> numbers [images of that source]; empty where data.scores names none.
    """
    make, fields = choose("sampler", SAMPLERS, section)
    if isinstance(fields.get("shares"), str):
        try:
            pairs = [pair.split("=") for pair in fields["shares"].split(",")]
            fields["shares"] = {name.strip(): float(share) for name, share in pairs}
        except ValueError as e:
            raise ValueError(
                f'config.sampler.shares {fields["shares"]!r}: write NAME=SHARE, such as "real=0.5,edm=0.5".'
            ) from e
    if section["name"] == "weighted":
        fields = _weights_of_scores(fields, scores or {})
    parameters = inspect.signature(make).parameters
    given = {"num_draws": num_draws, "scores": scores}
    given = {name: value for name, value in given.items() if name in parameters}
    if "scores" in given and not scores:
        raise ValueError(
            f"config.sampler.name {section['name']!r} needs scores and config.data.scores names none: give the folder "
            "that `jaxmoust score` wrote."
        )
    return unpack("sampler", make, fields, pool=pool, seed=seed, **given)


def _weights_of_scores(fields: dict, scores: Mapping[str, np.ndarray]) -> dict:
    """Puts score ** power where the weight of a source is "scores"."""
    given, weights = fields, fields.get("weights")
    fields = {name: value for name, value in given.items() if name != "power"}
    power = given.get("power", 1.0)
    if not isinstance(weights, Mapping):
        return fields
    wanted = [name for name, weight in weights.items() if isinstance(weight, str) and weight == SCORES]
    if "power" in given and not wanted:
        raise ValueError(
            "config.sampler.power is what scores are raised to, and no source is weighted by them: "
            f"say weights={{source: {SCORES!r}}}, or leave power out."
        )
    if unscored := sorted(set(wanted) - set(scores)):
        raise ValueError(
            f"config.sampler.weights wants the scores of {unscored}; config.data.scores gives those of "
            f"{sorted(scores) or 'no source'}. Give the folder that `jaxmoust score` wrote."
        )
    return {**fields, "weights": {**weights, **{name: scores[name] ** power for name in wanted}}}


def make_module(section: Config, table: Mapping[str, Any], **given: Any) -> nn.Module:
    """Builds the network a configuration names, its `dtype` given as text."""
    make, fields = choose("model", table, section)
    dtype = fields.pop("dtype", "float32")
    if dtype not in DTYPES:
        raise ValueError(f"config.model.dtype is {dtype!r}; allowed are {', '.join(DTYPES)}.")
    return unpack("model", make, fields, dtype=DTYPES[dtype], **given)


def make_diffuse(config: Config, shape: tuple[int, int, int], num_classes: int) -> Diffuse:
    """Builds the denoising task of a generator's configuration."""
    method, fields = choose("method", METHODS, config["method"])
    label_dropout = fields.pop("label_dropout", 0.0)
    augment = dict(config["augment"])
    nonleaky = NonLeaky(augment.pop("nonleaky", 0.0))
    model = make_module(
        config["model"],
        GENERATOR_MODELS,
        out_channels=shape[-1],
        num_classes=num_classes,
        augment_dim=LABEL_DIM if nonleaky.probability else 0,
    )
    augment = unpack("augment", Augment, augment)
    return Diffuse(model, unpack("method", method, fields), num_classes, shape, augment, label_dropout, nonleaky)


def make_classify(config: Config, shape: tuple[int, int, int], num_classes: int) -> Classify:
    """Builds the classification task of a classifier's configuration."""
    model = make_module(config["model"], CLASSIFIER_MODELS, num_classes=num_classes, axis_name=parallel.AXIS)
    augment = unpack("augment", Augment, config["augment"])
    given = {"model": model, "num_classes": num_classes, "image_shape": shape, "augment": augment}
    return unpack("method", Classify, config["method"], **given)


@dataclass(frozen=True)
class Training:
    """A training run that can start.

    Args:
        task: what is learnt. recipe: how parameters move, and for how long. intervals: when else something is done.
        best_metric: the metric whose highest value marks a checkpoint to keep; "": none.
    """

    task: Task
    recipe: Recipe
    intervals: Intervals
    best_metric: str


def make_training(
    make_task: Callable[[Config, tuple[int, int, int], int], Task],
    config: Config,
    shape: tuple[int, int, int],
    num_classes: int,
    metrics: tuple[str, ...],
    machine: parallel.Machine,
    make_frozen: Callable[[Task], Any] | None = None,
) -> Training:
    """Builds what a generator's or a classifier's configuration describes, and rehearses a step of it.

    Args:
        make_task: such as `make_diffuse`. shape: (H, W, C). metrics: those that it will measure.
        make_frozen: what the task's steps use and do not train, as arrays.
    Raises: ValueError: whatever the sections, the network on such images or the devices refuse.
    """
    train = dict(config["train"])
    lengths = {k: train.pop(k) for k in ("batch_size", "num_steps") if k in train}
    best_metric = train.pop("best_metric", "")
    recipe, intervals = unpack("optim", Recipe, config["optim"], **lengths), unpack("train", Intervals, train)
    parallel.check_seed(config["seed"])
    recipe.rows(machine)
    if best_metric and (best_metric not in metrics or not intervals.eval_steps):
        raise ValueError(
            f"train.best_metric {best_metric!r} with train.eval_steps {intervals.eval_steps}: allowed are "
            f"{', '.join(metrics)}, measured every so many steps; or '' to keep the last checkpoint only."
        )
    task = make_task(config, shape, num_classes)
    if make_frozen:
        _rehearse(task, recipe, machine, shape, make_frozen(task))
    else:
        _rehearse_once(task, recipe, machine, shape)
    return Training(task, recipe, intervals, best_metric)


def _rehearse(
    task: Task, recipe: Recipe, machine: parallel.Machine, shape: tuple[int, int, int], frozen: Any = None
) -> None:
    """Traces the loss of one step on shapes alone: what a network or an augmentation refuses, it refuses now."""
    rows = (len(machine.local_devices), recipe.rows(machine))
    batch = {name: jax.ShapeDtypeStruct(rows, np.int32) for name in ("label", "source", "index", "slot")}
    batch["image"] = jax.ShapeDtypeStruct((*rows, *shape), np.uint8)

    def loss(state: TrainState, frozen: Any, batch: dict) -> jax.Array:
        keys = jax.vmap(jax.random.key)(batch["slot"])
        return parallel.mean(task.loss(state.params, state.stats, frozen, batch, keys)[0])

    state = jax.eval_shape(functools.partial(init_state, task, recipe, 0))
    frozen = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), frozen)
    jax.eval_shape(machine.parallel(loss, num_replicated=2), state, frozen, batch)


_rehearse_once = functools.lru_cache(maxsize=64)(_rehearse)


def make_sampling(section: Config, method: Method, label_dropout: float) -> Sampling:
    """Reads the section sample, for a generator of this method that was trained with this label dropout.

    Raises: ValueError: guidance of a generator that never learnt "no class", or a grid that its method has not.
    """
    sampling = unpack("sample", Sampling, section)
    if sampling.guidance != 1.0 and not label_dropout:
        raise ValueError(
            f"sample.guidance {sampling.guidance} needs a generator that also learnt 'no class'. "
            "Set method.label_dropout when fitting it, or guidance=1.0."
        )
    method.grid(sampling.num_steps)
    return sampling
