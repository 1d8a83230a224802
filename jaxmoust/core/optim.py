"""How parameters move: optimizers, learning-rate schedules, the average of weights, and the recipe that names them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from jaxmoust.core.checks import check_choice, check_not_negative, require
from jaxmoust.core.tree import map_named, named_leaves


def warmup_cosine(peak: float, num_steps: int, warmup_steps: int = 0, end_factor: float = 0.0) -> optax.Schedule:
    """Rises linearly to `peak` at step `warmup_steps`, then falls by half a cosine to peak * end_factor.

    The first update already has peak / (warmup_steps + 1): a step at rate 0 would be a step lost.

    Args:
        num_steps: updates of the whole run; the value at `num_steps` and beyond is peak * end_factor.
    Raises: ValueError: not 0 <= warmup_steps < num_steps, or end_factor outside [0, 1].
    """
    if not 0 <= warmup_steps < num_steps or not 0 <= end_factor <= 1:
        raise ValueError(
            f"got warmup_steps={warmup_steps}, num_steps={num_steps}, end_factor={end_factor}, "
            "expected 0 <= warmup_steps < num_steps and 0 <= end_factor <= 1."
        )

    def schedule(step: Int[Array, ""] | int) -> Float[Array, ""]:
        step = jnp.asarray(step, jnp.float32)
        rise = (step + 1) / (warmup_steps + 1)
        progress = jnp.clip((step - warmup_steps) / (num_steps - warmup_steps), 0, 1)
        fall = end_factor + (1 - end_factor) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        return peak * jnp.where(step < warmup_steps, rise, fall)

    return schedule


# What is pulled towards 0: kernels, the two sides of adapters, and the vectors of words that are learnt.
_DECAYED = ("kernel", "A", "B", "tokens")


def decay_mask(params: Any) -> Any:
    """Marks what weight decay acts on: `_DECAYED` of rank >= 2; no bias, no scale of a norm, no embedding table."""
    return map_named(lambda name, leaf: name.split("/")[-1] in _DECAYED and leaf.ndim >= 2, params)


def layer_rates(updates: Any, decay: float) -> Any:
    """Multiplies updates by decay^d, d layers below the head, whose d is 0.

    A layer is a block: of leaves "blocks/..." that hold all blocks, the first axis; or those that a name counts by,
    "stage2_block0/...". What comes before the first block is one layer more, a norm after the last belongs to that.

    Source: Bao et al. 2022 (2106.08254), appendix; Clark et al. 2020 (2003.10555), section 3.1.
    """
    leaves = named_leaves(updates)
    counted = sorted({found[0] for name in leaves if (found := _COUNTED.search(name))}, key=_numbers)
    stacked = next((leaf.shape[0] for name, leaf in leaves.items() if _STACKED.search(name)), 0)
    num_blocks = stacked or len(counted)

    def scale(name: str, leaf: Any) -> Any:
        if _STACKED.search(name):
            depth = num_blocks - jnp.arange(num_blocks).reshape(-1, *[1] * (leaf.ndim - 1))
        elif found := _COUNTED.search(name):
            depth = num_blocks - counted.index(found[0])
        else:
            above = re.search(r"(^|/)head(/|$)", name), re.search(r"(^|/)norm(/|$)", name)
            depth = 0 if above[0] else 1 if above[1] else num_blocks + 1
        return leaf * jnp.asarray(decay, leaf.dtype) ** jnp.asarray(depth, leaf.dtype)

    return map_named(scale, updates)


_STACKED, _COUNTED = re.compile(r"(^|/)blocks/"), re.compile(r"stage\d+_block\d+")


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def make_optimizer(
    name: str,
    schedule: optax.Schedule,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    b1: float = 0.9,
    b2: float = 0.999,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Builds an optimizer with its schedule, decay and clipping.

    Args:
        name: "sgd" has Nesterov's momentum and adds weight_decay * w to the gradient (the field's L2, which the
            momentum carries along); "adamw" decays the weights apart from the gradient, times the rate; "adam"
            has no decay.
        weight_decay: acts on `decay_mask` only.
        clip_norm: largest global norm of the gradient, before the decay is added; 0 does not clip.
    Raises: ValueError: unknown name, a negative number, or weight_decay with "adam".
    """
    check_choice("optimizer", name, ("adam", "adamw", "sgd"))
    check_not_negative(weight_decay=weight_decay, clip_norm=clip_norm)
    if name == "adam" and weight_decay > 0:
        raise ValueError(f"got weight_decay={weight_decay} with 'adam'. Use 'adamw', or weight_decay=0.")
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm > 0 else []
    decay = optax.add_decayed_weights(weight_decay, mask=decay_mask)
    if name == "sgd":
        return optax.chain(*clip, decay, optax.sgd(schedule, momentum=momentum, nesterov=True))
    adam = [optax.scale_by_adam(b1=b1, b2=b2), *([decay] if name == "adamw" else [])]
    return optax.chain(*clip, *adam, optax.scale_by_learning_rate(schedule))


def ema_decay(
    step: Int[Array, ""] | int, batch_size: int, half_life_images: float | int, rampup: float | None = 0.05
) -> Float[Array, ""]:
    """Returns the factor by which one update's average keeps its old value: 0.5^(batch_size / half life).

    Args:
        step: completed updates before this one.
        half_life_images: training images after which a weight's share in the average has halved.
        rampup: early in training the half life is at most this share of the images seen, so that the average
            forgets the initial weights (at step 0 it takes the new ones); None keeps it constant.
    Raises: ValueError: half_life_images <= 0.
    Source: Karras et al. 2022 (2206.00364), appendix F.
    """
    if not half_life_images > 0:
        raise ValueError(f"got half_life_images={half_life_images}, expected > 0 (no average: leave the EMA out).")
    half_life = jnp.asarray(half_life_images, jnp.float32)
    if rampup is not None:
        half_life = jnp.minimum(half_life, jnp.asarray(step, jnp.float32) * (batch_size * rampup))
    return 0.5 ** (batch_size / jnp.maximum(half_life, 1e-8))


def average_name(half_life_images: float) -> str:
    """What a state calls an average of this half-life besides its own."""
    return f"{half_life_images:.0f}"


def ema_update(ema: Any, new: Any, decay: Float[Array, ""] | float) -> Any:
    """Moves every leaf of the average towards the new value: decay * ema + (1 - decay) * new."""
    return jax.tree.map(lambda old, value: value + decay * (old - value), ema, new)


@dataclass(frozen=True)
class Recipe:
    """How parameters move: optimizer, schedule, averaging; and for how long.

    Args:
        batch_size: the images of an update, over all devices and processes.
        num_steps: how many updates.
        name: the optimizer: "sgd" (Nesterov), "adam" or "adamw".
        learning_rate: the peak, reached after `warmup_steps`.
        warmup_steps: how many updates the learning rate rises linearly.
        decay: whether it then falls by a cosine to 0 at `num_steps`, or stays.
        weight_decay: pulls kernels, adapters and learnt words, and them alone, towards 0.
        momentum: of sgd.
        b1: how much adam keeps of the mean of the gradient, an update.
        b2: how much adam keeps of the mean of its square, an update.
        clip_norm: the largest norm of the global gradient; 0 is off.
        ema_half_life_images: the average of the parameters forgets half in so many images; 0 keeps no average.
        ema_others: half-lives of further averages, of which sampling may choose one after training.
        ema_rampup: early on, the half-life is at most this share of the images seen so far.
        layer_decay: what the rate of a layer is of that of the layer above it; 1 is all alike. See `layer_rates`.
        micro_batches: a batch goes through the network in so many equal parts, one after another, whose gradients
            are averaged for one update: less memory, the same step. Only batch norm notices: its statistics are
            those of a part (over all devices), and the running ones move once a part.
    Raises: ValueError: what could not train.
    """

    batch_size: int
    num_steps: int
    name: str = "adamw"
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    decay: bool = True
    weight_decay: float = 0.0
    momentum: float = 0.9
    b1: float = 0.9
    b2: float = 0.999
    clip_norm: float = 0.0
    ema_half_life_images: float = 0.0
    ema_others: tuple[float, ...] = ()
    ema_rampup: float = 0.05
    layer_decay: float = 1.0
    micro_batches: int = 1

    def __post_init__(self) -> None:
        """Refuses what could not train, before any work starts."""
        whole = "whole numbers from 1"
        require(self.batch_size >= 1, "train.batch_size", self.batch_size, whole)
        require(1 <= self.num_steps < 2**31, "train.num_steps", self.num_steps, f"{whole} to 2^31 - 1")
        parts, divides = self.micro_batches, f"{whole} that divide train.batch_size {self.batch_size}"
        require(parts >= 1 and self.batch_size % parts == 0, "optim.micro_batches", parts, divides)
        below = f"0 up to, not including, train.num_steps {self.num_steps}"
        require(0 <= self.warmup_steps < self.num_steps, "optim.warmup_steps", self.warmup_steps, below)
        require(self.learning_rate > 0, "optim.learning_rate", self.learning_rate, "numbers above 0")
        half_life = self.ema_half_life_images
        require(half_life >= 0, "optim.ema_half_life_images", half_life, "0 (off) and up")
        others = "different numbers above 0, beside an optim.ema_half_life_images; () keeps no others"
        lengths = {half_life, *self.ema_others}
        fits = min(lengths) > 0 and len({average_name(length) for length in lengths}) == 1 + len(self.ema_others)
        require(not self.ema_others or fits, "optim.ema_others", self.ema_others, others)
        require(self.ema_rampup > 0, "optim.ema_rampup", self.ema_rampup, "shares above 0")
        require(0 < self.layer_decay <= 1, "optim.layer_decay", self.layer_decay, "numbers above 0 to 1")
        _ = self.tx  # refuses an optimizer that cannot be made

    def rows(self, per_device: Callable[[int, str], int]) -> int:
        """The rows that go through the network at once on one device.

        Args: per_device: what each device gets of a number of rows, which goes by a name.
        Raises: ValueError: a batch, or a part of it, that the devices cannot share.
        """
        per_device(self.batch_size, "train.batch_size")
        part = "train.batch_size" if self.micro_batches == 1 else "train.batch_size / optim.micro_batches ="
        return per_device(self.batch_size // self.micro_batches, part)

    @property
    def schedule(self) -> optax.Schedule:
        """The learning rate as a function of completed steps."""
        if self.decay:
            return warmup_cosine(self.learning_rate, self.num_steps, self.warmup_steps)
        return lambda step: self.learning_rate * jnp.minimum(1.0, (step + 1) / (self.warmup_steps + 1))

    @property
    def tx(self) -> optax.GradientTransformation:
        """The optimizer as one Optax transformation."""
        fields = ("weight_decay", "momentum", "b1", "b2", "clip_norm")
        tx = make_optimizer(self.name, self.schedule, **{name: getattr(self, name) for name in fields})
        if self.layer_decay == 1:
            return tx
        return optax.chain(tx, optax.stateless(lambda updates, _: layer_rates(updates, self.layer_decay)))
