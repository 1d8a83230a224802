"""The composition root: turns the sections of a configuration into objects.

Sections are unpacked as keyword arguments, so that a misspelt, missing or dead field is an error before any work
starts. What a `name` in a configuration may be stands in the literal tables below.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.config import (  # noqa: F401
    Config,
    check_sections,
    choose,
    load_config,
    override,
    plain,
    read_config,
    unpack,
)
from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.augment.nonleaky import LABEL_DIM, NonLeaky
from jaxmoust.core.diffusion.methods import METHODS, Method
from jaxmoust.core.state import TrainState
from jaxmoust.data.pool import Pool
from jaxmoust.data.real import (  # noqa: F401
    RealData,
    check_set_size,
    filtered,
    open_set,
    real_data,
    shape_of,
    threshold,
)
from jaxmoust.data.samplers import share as samplers
from jaxmoust.data.samplers.registry import SAMPLERS, SCORES
from jaxmoust.generate.pixels import Sampling
from jaxmoust.models.classifiers import resnet, vit, wide_resnet
from jaxmoust.models.unet import unet
from jaxmoust.runtime import parallel
from jaxmoust.train.classify import Classify
from jaxmoust.train.diffuse import Diffuse
from jaxmoust.train.loop import Intervals, Recipe, Task, init_state

GENERATOR_MODELS = {"unet": unet.UNet, **unet.PUBLISHED}
CLASSIFIER_MODELS = {"resnet": resnet.ResNet, "wide_resnet": wide_resnet.WideResNet, "vit": vit.ViT}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


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
