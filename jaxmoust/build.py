"""The composition root: turns the sections of a complete configuration into objects.

What a `name` may be stands in the literal tables; what a section holds, in the schemas, which are read off the
signatures that it is unpacked into. A job puts its sections together of these.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.analysis.metrics import TOP5_FROM
from jaxmoust.config import Choice, Config, Field, Schema, choose, fields, unpack
from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.augment.nonleaky import LABEL_DIM, NonLeaky
from jaxmoust.core.checks import require
from jaxmoust.core.diffusion.methods import METHODS, Method
from jaxmoust.core.optim import Recipe
from jaxmoust.core.state import TrainState
from jaxmoust.data import mixture
from jaxmoust.data.pool import Pool
from jaxmoust.data.real import RealData, real_data
from jaxmoust.data.samplers import registry
from jaxmoust.data.samplers.base import Sampler
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.generate.pixels import Sampling
from jaxmoust.models import dit
from jaxmoust.models.classifiers import resnet, vit, wide_resnet
from jaxmoust.models.classifiers.headed import Headed, with_head
from jaxmoust.models.stable_diffusion import memory
from jaxmoust.models.stable_diffusion.autoencoder import Autoencoder
from jaxmoust.models.unet import unet
from jaxmoust.runtime import parallel
from jaxmoust.train.classify import Classify
from jaxmoust.train.diffuse import Diffuse
from jaxmoust.train.latents import Latents
from jaxmoust.train.loop import Intervals, Task, Training, init_state, row_of
from jaxmoust.train.probe import Probe

GENERATOR_MODELS: Mapping[str, Callable] = {"unet": unet.UNet, **unet.PUBLISHED, "dit": dit.DiT, **dit.DITS}
CLASSIFIER_MODELS: Mapping[str, Callable] = {
    "resnet": resnet.ResNet,
    "wide_resnet": wide_resnet.WideResNet,
    "vit": vit.ViT,
    "backbone": Headed,
}
SAMPLERS: Mapping[str, Callable] = {**registry.SAMPLERS, "weighted": mixture.weighted}
# Fields of networks that say how many layers there are; each is built and traced by itself.
_COUNTS, MOST_LAYERS = {"depth", "num_blocks", "stage_sizes"}, 1000
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

_DTYPE = {"dtype": Field("float32", Literal["float32", "bfloat16"], "what the network computes in")}
# What a network gets besides its section: from flax, and from the data.
_HIDDEN = (
    *("parent", "name", "num_classes", "axis_name", "out_channels", "augment_dim"),
    *("network", "preprocessing"),  # of a backbone, whose file says them
)

SEED: Schema = {"seed": Field(0, int, "of initialisation, order and noise; 0 to 2**32 - 1")}
DATA: Schema = {**fields(real_data, skip=("rules", "look")), **fields(Rules)}
EVAL: Schema = {"batch_size": Field(256, int, "images evaluated at once, over all devices")}
KEEP: Schema = {
    "keep": Field(
        "ranks",
        Literal["ranks", "probabilities"],
        "what is kept of each test image: the rank and the loss of its class; or also the probability of every class, "
        "2 bytes each, of which AUROC and AUPRC are computed",
    )
}
MODEL = Choice(CLASSIFIER_MODELS, skip=_HIDDEN, shared=_DTYPE)
AUGMENT: Schema = fields(Augment)
OPTIM: Schema = fields(Recipe, skip=("batch_size", "num_steps"))
TRAIN: Schema = {
    **fields(Recipe, only=("batch_size", "num_steps")),
    **fields(Intervals),
    "best_metric": Field("", str, "the metric whose best checkpoint is kept, too; '' keeps the newest alone"),
}
SAMPLER = Choice(SAMPLERS, "random", skip=("pool", "seed", "num_draws", "scores", "parents"))
CLASSIFIER: Schema = {
    **SEED,
    "order_seed": Field(None, int | None, "of the order in which images are drawn; None: seed"),
    "data": {**DATA, **fields(mixture.Mixture)},
    "sampler": SAMPLER,
    "model": MODEL,
    "augment": AUGMENT,
    "method": fields(Classify, skip=("model", "num_classes", "image_shape", "augment", "keep")),
    "probe": fields(Probe),
    "optim": OPTIM,
    "train": TRAIN,
    "eval": {**EVAL, **KEEP},
}
LATENTS: Schema = {
    "path": Field(
        "",
        str,
        "whose VAE's latents it works on: the folder of a pipeline or a VAE, its name on the hub, or tiny_sd, the "
        "embedded one; no checkpoint in one file; '' is on pixels",
    ),
    "revision": Field("", str, "on the hub"),
    "variant": Field("", str, "of the files, such as 'fp16'"),
    "image_px": Field(0, int, "the side that images are brought to before the VAE; 0 leaves them as they are"),
    "keep": Field(
        "auto",
        str,
        "a folder where latents are kept, by their content, for other runs; 'auto' is latents/ in JAXMOUST_CACHE, '' "
        "keeps none",
    ),
}
GENERATOR: Schema = {
    **SEED,
    "data": DATA,
    "latents": LATENTS,
    "model": Choice(GENERATOR_MODELS, skip=_HIDDEN, shared=_DTYPE),
    "method": Choice(METHODS, shared=fields(Diffuse, only=("label_dropout",))),
    "augment": {**AUGMENT, "nonleaky": Field(0.0, float, "probability of augmentations known to the network")},
    "optim": OPTIM,
    "train": TRAIN,
    "eval": EVAL,
}


def make_sampler(
    section: Config, pool: Pool, seed: int, num_draws: int, scores: Mapping[str, np.ndarray] | None = None
) -> Sampler:
    """Builds the sampler a configuration names.

    Args:
        num_draws: the length of training, for samplers that follow it.
        scores: source -> numbers [images of that source]; empty where data.scores names none.
    Raises: ValueError: a sampler by scores, and none are given.
    """
    make, values = choose("sampler", SAMPLERS, section)
    parameters = fields(make)
    parents = {source.name: source.lineage for source in pool.sources if source.lineage}
    given: dict[str, Any] = {"pool": pool, "seed": seed, "num_draws": num_draws, "scores": scores or {}}
    given["parents"] = parents
    given = {name: value for name, value in given.items() if name in parameters}
    if "scores" in given and not scores and section["name"] != "weighted":
        raise ValueError(
            f"config.sampler.name {section['name']!r} needs scores and config.data.scores names none: give the folder "
            "that `jaxmoust score` wrote."
        )
    return unpack("sampler", make, values, **given)


def order_seed(config: Config) -> int:
    """The seed of the order in which a classifier's configuration has images drawn; of an older one, its only seed."""
    own = config.get("order_seed")
    return config["seed"] if own is None else own


def make_network(section: Config, num_classes: int) -> nn.Module:
    """Builds the classifier a configuration names: one of ours, or a backbone with a head."""
    if section["name"] != "backbone":
        return make_module(section, CLASSIFIER_MODELS, num_classes=num_classes, axis_name=parallel.AXIS)
    if not section["weights"]:
        raise ValueError("config.model.weights is empty: give the backbone's folder, file, or name on the hub.")
    values = {name: value for name, value in section.items() if name not in ("name", "dtype")}
    return with_head(num_classes=num_classes, dtype=DTYPES[section["dtype"]], axis_name=parallel.AXIS, **values)


def make_module(section: Config, table: Mapping[str, Any], **given: Any) -> nn.Module:
    """Builds the network a configuration names, its `dtype` given as text."""
    make, values = choose("model", table, section)
    levels = len(values.get("channel_multipliers", (1,)))
    for name in _COUNTS & values.keys():
        count = int(np.sum(values[name])) * levels
        require(count <= MOST_LAYERS, f"model.{name}", values[name], f"up to {MOST_LAYERS:,} in all")
    return unpack("model", make, values, dtype=DTYPES[values.pop("dtype", "float32")], **given)


def make_diffuse(
    config: Config, shape: tuple[int, int, int], num_classes: int, autoencoder: Autoencoder | None = None
) -> Diffuse:
    """Builds the denoising task of a generator's configuration, on latents where there is an autoencoder."""
    method, values = choose("method", METHODS, config["method"])
    label_dropout = values.pop("label_dropout", 0.0)
    augment = dict(config["augment"])
    nonleaky = NonLeaky(augment.pop("nonleaky", 0.0))
    image_px = config.get("latents", {}).get("image_px", 0)
    latents = Latents(autoencoder, image_px or shape[0], bool(augment.get("flip"))) if autoencoder else None
    if image_px and not latents:
        raise ValueError(f"latents.image_px {image_px} without latents.path: name the VAE that sees such images, or 0.")
    model = make_module(
        config["model"],
        GENERATOR_MODELS,
        out_channels=(latents.shape if latents else shape)[-1],
        num_classes=num_classes,
        augment_dim=LABEL_DIM if nonleaky.probability else 0,
    )
    augment = unpack("augment", Augment, augment)
    how = unpack("method", method, values)
    return Diffuse(model, how, num_classes, shape, augment, label_dropout, nonleaky, latents)


def make_classify(config: Config, shape: tuple[int, int, int], num_classes: int) -> Classify:
    """Builds the classification task of a classifier's configuration."""
    model = make_network(config["model"], num_classes)
    augment = unpack("augment", Augment, config["augment"])
    given = {"model": model, "num_classes": num_classes, "image_shape": shape, "augment": augment}
    return unpack("method", Classify, config["method"], **given)


def make_classifier(config: Config, real: RealData, machine: parallel.Machine) -> Training:
    """Builds the training that a classifier's configuration describes on its real images.

    Raises: ValueError: images of one class, or as `make_training`.
    """
    num_classes = len(real.base.class_names)
    if num_classes < 2:
        raise ValueError(
            f"config.data holds the class {real.base.class_names[0]!r} alone, which any classifier gets right always: "
            "expected two classes and more. Give a folder for each class."
        )
    measured = ("top1", "loss", "top5") if num_classes >= TOP5_FROM else ("top1", "loss")
    shares = jax.ShapeDtypeStruct((num_classes,), np.float32)  # of the classes
    frozen = shares if config["method"].get("logit_adjustment") else None
    return make_training(make_classify, config, real.shape, num_classes, measured, machine, frozen=frozen)


def make_training(
    make_task: Callable[[Config, tuple[int, int, int], int], Task],
    config: Config,
    shape: tuple[int, int, int],
    num_classes: int,
    metrics: tuple[str, ...],
    machine: parallel.Machine,
    frozen: Any = None,
    rehearse: bool = True,
) -> Training:
    """Builds what a generator's or a classifier's configuration describes, and rehearses a step of it.

    Args:
        make_task: such as `make_diffuse`. shape: (H, W, C). metrics: those that it will measure.
        frozen: what the task's steps use and do not train, as `jax.ShapeDtypeStruct`s.
        rehearse: whether a step is traced, to refuse what fits no network or no device; else the caller does that.
    Raises: ValueError: whatever the sections, the network on such images or the devices refuse.
    """
    train = dict(config["train"])
    lengths = {k: train.pop(k) for k in ("batch_size", "num_steps") if k in train}
    best_metric = train.pop("best_metric", "")
    recipe, intervals = unpack("optim", Recipe, config["optim"], **lengths), unpack("train", Intervals, train)
    parallel.check_seed(config["seed"])
    recipe.rows(machine.per_device)
    if best_metric and (best_metric not in metrics or not intervals.eval_steps):
        raise ValueError(
            f"train.best_metric {best_metric!r} with train.eval_steps {intervals.eval_steps}: expected "
            f"one of {', '.join(metrics)}, measured every so many steps, or '' to keep the last checkpoint only."
        )
    task = make_task(config, shape, num_classes)
    if rehearse and getattr(task, "learn", "") != "probe":  # of which no step is ever taken
        with network_refusals("config.model", shape):
            _rehearse(task, recipe, machine, shape, frozen)
    return Training(task, recipe, intervals, best_metric)


@contextlib.contextmanager
def network_refusals(field: str, shape: tuple[int, int, int]) -> Iterator[None]:
    """Turns what tracing a network raises, of sizes that fit neither each other nor the images, into a ValueError."""
    try:
        yield
    except (ArithmeticError, TypeError) as e:
        size = "x".join(map(str, shape))
        raise ValueError(
            f"{field} allows no network on images of {size}: {type(e).__name__}: {str(e).splitlines()[0]}. Its "
            "widths, depths and patches are whole numbers from 1."
        ) from e


@functools.lru_cache(maxsize=64)
def _rehearse(
    task: Task, recipe: Recipe, machine: parallel.Machine, shape: tuple[int, int, int], frozen: Any = None
) -> None:
    """Traces the loss of one step on shapes alone: what it refuses, or no device holds, is refused now.

    What the batch and the state take is exact. Of what is alive between, XLA puts some together, so a quarter counts.
    """
    loss, *given = loss_on_shapes(task, recipe, machine, shape, frozen)
    state, frozen, batch = given
    if not all(leaf.size for leaf in jax.tree.leaves(state.params)):
        raise ArithmeticError("a layer has no width")
    step = machine.parallel(lambda *given: parallel.mean(loss(*given)), num_replicated=2)
    machine.check_memory("The training's state, of config.model,", memory.size_of(state))
    machine.check_memory(f"A batch of train.batch_size {recipe.batch_size:,}", 4 * memory.size_of(batch["image"]))
    between = memory.peak(step, state, frozen, batch) / recipe.micro_batches
    machine.check_memory("A step, of config.model, config.augment and train.batch_size,", between / 4)


def loss_on_shapes(
    task: Task, recipe: Recipe, machine: parallel.Machine, shape: tuple[int, int, int], frozen: Any = None
) -> tuple[Callable[[TrainState, Any, dict], jax.Array], TrainState, Any, dict]:
    """The loss of one step of a device, and the shapes that it is of: (loss, state, frozen, batch)."""
    frozen = task.frozen(frozen) if isinstance(task, Classify) else frozen
    rows = (len(machine.local_devices), recipe.rows(machine.per_device))
    batch = {name: jax.ShapeDtypeStruct(rows, np.int32) for name in ("label", "source", "index", "slot")}
    row = row_of(task, shape)
    batch["image"] = jax.ShapeDtypeStruct((*rows, *row.shape), row.dtype)

    def loss(state: TrainState, frozen: Any, batch: dict) -> jax.Array:
        keys = jax.vmap(jax.random.key)(batch["slot"])
        return task.loss(state.params, state.stats, frozen, batch, keys)[0]

    return loss, jax.eval_shape(functools.partial(init_state, task, recipe, 0)), frozen, batch


def make_sampling(section: Config, method: Method, label_dropout: float, autoguided: bool = False) -> Sampling:
    """Reads the section sample, for a generator of this method that was trained with this label dropout.

    Args: autoguided: whether a weaker generator guides it.
    Raises: ValueError: guidance of a generator that never learnt "no class", or a grid that its method has not.
    """
    sampling = unpack("sample", Sampling, section)
    if autoguided and sampling.guidance == 1.0:
        raise ValueError("sample.guidance 1.0 is off, and config.autoguidance needs it on: set a guidance above 1.")
    if sampling.guidance != 1.0 and not (label_dropout or autoguided):
        raise ValueError(
            f"sample.guidance {sampling.guidance} needs a generator that also learnt 'no class'. "
            "Set method.label_dropout when fitting it, guidance=1.0, or a weaker generator as config.autoguidance."
        )
    method.sigmas(sampling.num_steps)
    return sampling
