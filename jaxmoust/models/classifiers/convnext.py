"""ConvNeXt for classification (Liu et al. 2022, 2201.03545), as public weights have it."""

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Key

from jaxmoust.core.checks import check_rate
from jaxmoust.core.examples import fold_all
from jaxmoust.models.classifiers.vit import ACTIVATIONS
from jaxmoust.models.drop import branch_rates, drop_branch


class Block(nn.Module):
    """x + gamma * mlp(norm(conv(x))), with a depthwise convolution of 7x7."""

    activation: str
    epsilon: float
    drop_rate: float
    dtype: Dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], keys: Key[Array, " B"] | None = None) -> Float[Array, "B H W C"]:
        """Maps x to its own shape; keys, one per example, drop the branch."""
        width = x.shape[-1]
        h = nn.Conv(width, (7, 7), padding=3, feature_group_count=width, dtype=self.dtype, name="conv")(x)
        h = nn.LayerNorm(self.epsilon, self.dtype, name="norm")(h)
        h = ACTIVATIONS[self.activation](nn.Dense(4 * width, dtype=self.dtype, name="mlp0")(h))
        h = nn.Dense(width, dtype=self.dtype, name="mlp1")(h)
        h = h * self.param("gamma", nn.initializers.constant(1e-6), (width,)).astype(self.dtype)
        return x + (h if keys is None else drop_branch(keys, h, self.drop_rate))


class ConvNeXt(nn.Module):
    """ConvNeXt: stages that each begin with a norm and a strided convolution, the mean over pixels, a norm, a head.

    Args:
        num_classes: width of the logits.
        stage_sizes: blocks per stage.
        widths: channels of each stage.
        activation: inside the blocks, as a `ViT`'s.
        epsilon, head_epsilon: what norms, and the last one, add to the variance.
        stochastic_depth: rate at which the last block's branch is dropped for an example; it rises linearly from 0
            in the first block.
        dtype: of the computation; parameters and logits stay float32.
        axis_name: not used, as this one has no statistics to average over devices.
    """

    num_classes: int
    stage_sizes: tuple[int, ...] = (3, 3, 9, 3)
    widths: tuple[int, ...] = (96, 192, 384, 768)
    activation: str = "gelu"
    epsilon: float = 1e-6
    head_epsilon: float = 1e-6
    stochastic_depth: float = 0.0
    dtype: Dtype = jnp.float32
    axis_name: str | None = None

    def setup(self) -> None:
        """Builds the head, which `features` does without."""
        check_rate("stochastic_depth", self.stochastic_depth)
        self.head = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="head")

    @nn.compact
    def features(
        self, x: Float[Array, "B H W C"], train: bool = False, keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B F"]:
        """Returns the pooled, normed features, float32, that the head is linear in; arguments as in `__call__`."""
        if not train or not self.stochastic_depth:
            keys = None
        elif keys is None:
            raise ValueError(f"got train=True with stochastic_depth={self.stochastic_depth} and no keys. Give them.")
        rates = iter(enumerate(branch_rates(self.stochastic_depth, sum(self.stage_sizes))))
        h = x.astype(self.dtype)
        for stage, (size, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            side = 2 if stage else 4
            name = f"stage{stage}_" if stage else "stem_"
            conv = nn.Conv(width, (side, side), side, padding="VALID", dtype=self.dtype, name=f"{name}conv")
            norm = nn.LayerNorm(self.epsilon, self.dtype, name=f"{name}norm")
            h = conv(norm(h)) if stage else norm(conv(h))
            for block in range(size):
                i, rate = next(rates)
                here = fold_all(keys, i) if keys is not None and rate else None
                h = Block(self.activation, self.epsilon, rate, self.dtype, name=f"stage{stage}_block{block}")(h, here)
        return nn.LayerNorm(self.head_epsilon, name="norm")(jnp.mean(h.astype(jnp.float32), axis=(1, 2)))

    def __call__(
        self, x: Float[Array, "B H W C"], train: bool = False, keys: Key[Array, " B"] | None = None
    ) -> Float[Array, "B num_classes"]:
        """Returns logits, float32.

        Args:
            x: images, scaled as the network was trained.
            keys: one per example; required for train=True with stochastic_depth.
        """
        return self.head(self.features(x, train, keys))
