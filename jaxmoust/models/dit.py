"""The diffusion transformer DiT (Peebles & Xie 2022, 2212.09748): the raw network `net(x, c_noise, label)`, as a U-Net.

Patches are tokens with fixed sine-cosine positions, and noise level and class modulate every norm and gate every branch
(adaLN-Zero): it starts as the zero function. `SIZES` are the paper's; a name of theirs, DiT-S/4, is dit_s with
patch_size 4. The same network serves DDPM, EDM and the flow (SiT, Ma et al. 2024, 2401.08740), on pixels or latents.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Int, Key

from jaxmoust.core.checks import require
from jaxmoust.models.classifiers.vit import SIZES as _VIT
from jaxmoust.models.classifiers.vit import Branches
from jaxmoust.models.stable_diffusion.layers import Part, layer_norm
from jaxmoust.models.stable_diffusion.mmdit import unpatch
from jaxmoust.models.stable_diffusion.unet import two_layers, waves

EPSILON = 1e-6  # of every norm
_TIME_WAVES = 256
_zeros, _embedding_init = nn.initializers.zeros, nn.initializers.normal(0.02)


class Block(Branches):
    """x + gate * attention(norm(x)), then x + gate * mlp(norm(x)); scale, shift and gate are the condition's."""

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"], c: Float[Array, "B D"]) -> tuple[Float[Array, "B N D"], None]:
        """Maps x to its own shape; the None is what a loop collects."""
        shift, scale, gate, *of_mlp = _modulation(6, self.dtype, c)
        x = x + gate * self._attend(_norm(self.dtype, x) * (1 + scale) + shift)
        shift, scale, gate = of_mlp
        return x + gate * self._mlp(_norm(self.dtype, x) * (1 + scale) + shift), None


class DiT(nn.Module):
    """DiT; of one size a patch of half the side has four times the tokens.

    Args:
        out_channels: channels of the answer.
        num_classes: K, as of the U-Net: labels are 0 ... K - 1, and K is "no class"; 0 or 1 = unconditional.
        augment_dim: length of the vector that says how an image was augmented; 0 = none.
        width: of the tokens; the two layers between attentions are 4 * width wide inside.
        depth: number of blocks.
        num_heads: attention heads of each block; they divide the width.
        patch_size: side of a patch, in pixels or latents: 2, 4, 8.
        learn_variance: whether it also answers the noise's variance, as imported networks do; that is left unread.
        wave_shift: of the frequencies that embed c_noise: 0 (the paper's code) or 1 (diffusers' class).
        remat: compute a block's inside again going backwards: less memory for about a third more work.
        scan: compile one block and loop over it; False compiles every block.
        dtype: of the computation; parameters, norms, softmax and the answer stay float32.
    Raises: ValueError: sizes that do not fit, at the first call.
    """

    out_channels: int
    num_classes: int = 0
    augment_dim: int = 0
    width: int = 384
    depth: int = 12
    num_heads: int = 6
    patch_size: int = 2
    learn_variance: bool = False
    wave_shift: int = 0
    remat: bool = False
    scan: bool = True
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W C"],
        c_noise: Float[Array, " B"],
        label: Int[Array, " B"] | None = None,
        keys: Key[Array, " B"] | None = None,
        train: bool = False,
        augment_label: Float[Array, "B augment_dim"] | None = None,
    ) -> Float[Array, "B H W out_channels"]:
        """Answers for each example on its own.

        Args: as the U-Net's; `keys` and `train` change nothing, as there is no dropout inside.
        """
        (_, height, width, _), p = x.shape, self.patch_size
        self._check(height, width)
        # A patch's numbers are sampled as those of a dense layer are (Glorot & Bengio).
        glorot = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform", in_axis=(0, 1, 2), out_axis=3)
        cut = nn.Conv(self.width, (p, p), (p, p), "VALID", kernel_init=glorot, dtype=self.dtype, name="patch_embed")
        h = cut(x.astype(self.dtype)).reshape(len(x), -1, self.width)
        h = h + positions(height // p, width // p, self.width).astype(self.dtype)
        c = nn.silu(self._condition(c_noise, label, augment_label))
        block = nn.remat(Block, prevent_cse=not self.scan) if self.remat else Block
        how = (self.num_heads, 0.0, "gelu_tanh", False, 0, EPSILON, False, self.dtype)
        stack = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.depth,
            unroll=1 if self.scan else self.depth,
        )
        h, _ = stack(*how, name="blocks")(h, c)
        shift, scale = _modulation(2, self.dtype, c)
        channels = self.out_channels * (1 + self.learn_variance)
        # In float32: this layer writes the answer.
        out = nn.Dense(p * p * channels, kernel_init=_zeros, name="out")
        h = out((_norm(self.dtype, h) * (1 + scale) + shift).astype(jnp.float32))
        return unpatch(h, p, height, width)[..., : self.out_channels]

    def _condition(self, c_noise: Array, label: Array | None, augment_label: Array | None) -> Array:
        embed = partial(two_layers, self.width, self.dtype, kernel_init=_embedding_init)
        c = Part(embed, name="noise_embed")(waves(c_noise, _TIME_WAVES, self.wave_shift))
        if self.num_classes > 1:
            table = nn.Embed(
                self.num_classes + 1,
                self.width,
                embedding_init=_embedding_init,
                dtype=self.dtype,
                name="label_embed",
            )
            c = c + table(label)
        if self.augment_dim > 0:
            if augment_label is None:
                augment_label = jnp.zeros((len(c_noise), self.augment_dim))
            c = c + nn.Dense(self.width, use_bias=False, dtype=self.dtype, name="augment_dense")(augment_label)
        return c

    def _check(self, height: int, width: int) -> None:
        whole = "whole numbers from 1"
        require(self.depth >= 1, "model.depth", self.depth, whole)
        fits = self.num_heads >= 1 and self.width >= 4 and self.width % self.num_heads == 0 == self.width % 4
        require(fits, "model.width", self.width, f"multiples of 4 and of model.num_heads {self.num_heads}")
        if self.patch_size < 1 or height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"model.patch_size {self.patch_size}: expected {whole} that divide both sides of images, or of "
                f"latents, of {height}x{width}."
            )


def positions(rows: int, columns: int, width: int) -> np.ndarray:
    """Sines and cosines of each patch's column, then of its row: float32 [rows * columns, width].

    Source: the code published with 2212.09748, after He et al. 2021 (2111.06377).
    """
    rates = 10_000.0 ** -(np.arange(width // 4) / (width // 4))
    row, column = (at.reshape(-1, 1) * rates for at in np.mgrid[:rows, :columns].astype(np.float64))
    return np.concatenate([f(angle) for angle in (column, row) for f in (np.sin, np.cos)], axis=1).astype(np.float32)


def _modulation(num: int, dtype: Dtype, c: Array) -> list[Array]:
    """`num` vectors [B, 1, D] of the condition [B, D], zeros at first."""
    linear = nn.Dense(num * c.shape[-1], kernel_init=_zeros, dtype=dtype, name="modulation")
    return jnp.split(linear(c)[:, None], num, axis=-1)


def _norm(dtype: Dtype, x: Array) -> Array:
    return layer_norm(epsilon=EPSILON, use_bias=False, use_scale=False, dtype=dtype)(x)


SIZES: dict[str, dict[str, Any]] = {
    **{name: _VIT[name] for name in ("S", "B", "L")},
    "XL": {"width": 1152, "depth": 28, "num_heads": 16},
}
DITS: dict[str, partial[DiT]] = {f"dit_{name.lower()}": partial(DiT, **size) for name, size in SIZES.items()}
"""Table 1 of the paper by name; every size may still be given. DiT-XL/2 of 1,000 classes and a learnt variance has
674,834,720 parameters; the paper's code counts 675,129,632, its fixed table of positions (294,912) among them."""
