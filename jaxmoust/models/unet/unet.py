"""A U-Net for diffusion: the raw network `net(x, c_noise, label)` that `core.diffusion.denoise` wraps.

One module from 0.2 M parameters up to the published ones, by its sizes alone: residual blocks of group norm,
SiLU and 3x3 convolutions, modulated by an embedding of noise level, class and augmentation, with self-attention at
chosen resolutions (Ho et al. 2020, 2006.11239, appendix B). It starts as the zero function: the output convolution,
and the last layer of every residual branch, are initialised to zero. Where later work improved on DDPM the
defaults follow it: the embedding scales and shifts the second norm (Dhariwal & Nichol 2021, 2105.05233,
section 3) and sums are scaled by sqrt(1/2) (Song et al. 2021, 2011.13456, appendix H). The networks of the papers
themselves stand in `PUBLISHED`.
"""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype
from jaxtyping import Array, Float, Int, Key

from jaxmoust.core.checks import check_choice, check_rate
from jaxmoust.core.examples import fold_all
from jaxmoust.models.unet.blocks import (
    EMBEDDINGS,
    INITS,
    RESAMPLES,
    Attention,
    Block,
    GroupNorm,
    conv,
    double,
    embed_noise,
    halve,
)


class UNet(nn.Module):
    """U-Net with one level per entry of channel_multipliers; each next level halves the resolution.

    Args:
        out_channels: channels of the answer.
        num_classes: K. 0 or 1 = unconditional: one kind of image needs no label, and a label of it says nothing.
            Else labels are 0 ... K - 1, and K itself is the null class: train some examples with it to have an
            unconditional network for guidance.
        augment_dim: length of the vector that says how an image was augmented (`core.augment.nonleaky`); 0 = none.
        base_channels: width of the first level; the embedding is 4 times as wide.
        channel_multipliers: width of each level, in units of base_channels.
        num_blocks: residual blocks per level on the way down; one more on the way up.
        attention_px: image heights at which every block is followed by self-attention.
        up_attention_last: on the way up, only the last block of those levels is (Song et al.).
        middle_attention: whether the lowest resolution has self-attention between its two middle blocks.
        num_heads: attention heads.
        head_channels: width of an attention head, of which there are then as many as the level is wide; 0 = num_heads
            of them.
        dropout: rate inside the blocks, drawn from one key per example.
        embedding: how c_noise is embedded; "positional" (timesteps, log sigma), "positional_open" (the same with other
            frequencies) or "fourier".
        label_input: where the class enters; "embedding": a vector per class is added to the embedding;
            "features": before it, through a layer with a bias, to which the null class adds nothing (Song et al.).
        adaptive_scale: whether the embedding scales and shifts; False: it only shifts.
        skip_scale: factor on the sum of a residual branch and its input.
        resample: between levels; "conv" strided (padded after the last row and column, as Ho et al.; "conv_centred"
            all round) or nearest-neighbour and a 3x3 convolution; "pool" averages 2x2 pixels and repeats them,
            without parameters; "residual" a residual block that does so inside, "residual_projected" with a
            1x1 convolution on its skip.
        norm_groups: groups of every norm; 0 = 32, or a quarter of the channels where that is less.
        norm_epsilon: number that every norm adds to the variance.
        kernel_init: initial kernels; "lecun_normal", or "ddpm", "ddpmpp" or "adm", as those networks have them.
        dtype: of the computation; parameters, norms' statistics and the answer stay float32.
    Raises: ValueError: sizes that do not fit, at the first call.
    """

    out_channels: int
    num_classes: int = 0
    augment_dim: int = 0
    base_channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_blocks: int = 2
    attention_px: tuple[int, ...] = (16,)
    up_attention_last: bool = False
    middle_attention: bool = True
    num_heads: int = 1
    head_channels: int = 0
    dropout: float = 0.0
    embedding: str = "positional"
    label_input: str = "embedding"
    adaptive_scale: bool = True
    skip_scale: float = 0.5**0.5
    resample: str = "conv"
    norm_groups: int = 0
    norm_epsilon: float = 1e-6
    kernel_init: str = "lecun_normal"
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

        Args:
            x: noisy images of about unit variance; H and W divisible by 2^(levels - 1).
            c_noise: noise level, in whatever unit the network is trained with.
            label: class labels; required where num_classes > 0, refused where it is 0.
            keys: one per example; required for train=True with dropout > 0.
            augment_label: how each image was augmented; None is zeros, the images as they are.
        """
        self._check(x, label, keys, train, augment_label)
        emb = self._embed(c_noise, label, augment_label)
        if not train or self.dropout == 0:
            keys = None
        norm = partial(GroupNorm, self.norm_epsilon, self.norm_groups, self.dtype)
        style = (self.skip_scale, self.kernel_init, norm, self.dtype)
        counter = itertools.count()

        def block(h: Array, channels: int, name: str, attention: bool = False, **resample: Any) -> Array:
            number = next(counter)
            block_keys = None if keys is None else fold_all(keys, number)
            h = Block(channels, self.dropout, self.adaptive_scale, *style, name=name, **resample)(h, emb, block_keys)
            if attention:
                heads = channels // self.head_channels if self.head_channels else self.num_heads
                h = Attention(heads, *style, name=f"{name}_attention")(h)
            return h

        def resample(h: Array, to: str, name: str) -> Array:
            if self.resample.startswith("residual"):
                return block(h, h.shape[-1], name, resample=to, project=self.resample == "residual_projected")
            return self._down(h, name) if to == "down" else self._up(h, name)

        widths = [self.base_channels * multiplier for multiplier in self.channel_multipliers]
        h = self._conv(self.base_channels, "conv_in")(x.astype(self.dtype))
        skips = [h]
        for level, channels in enumerate(widths):
            if level > 0:
                h = resample(h, "down", f"down{level}_resample")
                skips.append(h)
            for i in range(self.num_blocks):
                h = block(h, channels, f"down{level}_block{i}", h.shape[1] in self.attention_px)
                skips.append(h)

        h = block(h, widths[-1], "middle_block0", self.middle_attention)
        h = block(h, widths[-1], "middle_block1")

        for level, channels in reversed(list(enumerate(widths))):
            for i in range(self.num_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                attention = h.shape[1] in self.attention_px and (i == self.num_blocks or not self.up_attention_last)
                h = block(h, channels, f"up{level}_block{i}", attention)
            if level > 0:
                h = resample(h, "up", f"up{level}_resample")
        assert not skips

        h = nn.silu(norm(name="norm_out")(h))
        # In float32: this layer writes the answer.
        return conv(self.out_channels, jnp.float32, "conv_out", nn.initializers.zeros)(h.astype(jnp.float32))

    def _embed(self, c_noise: Array, label: Array | None, augment_label: Array | None) -> Array:
        dense = partial(nn.Dense, kernel_init=INITS[self.kernel_init][0], dtype=self.dtype)
        features = embed_noise(self.embedding, c_noise, self.base_channels)
        emb_channels = 4 * self.base_channels
        if self.num_classes > 1 and self.label_input == "features":
            # One-hot labels of unit variance; the null class is out of range, hence zeros.
            one_hot = jax.nn.one_hot(label, self.num_classes) * self.num_classes**0.5
            features = features + dense(self.base_channels, name="label_dense")(one_hot)
        if self.augment_dim > 0:
            if augment_label is None:
                augment_label = jnp.zeros((c_noise.shape[0], self.augment_dim))
            features = features + dense(self.base_channels, use_bias=False, name="augment_dense")(augment_label)
        emb = nn.silu(dense(emb_channels, name="noise_dense0")(features))
        emb = dense(emb_channels, name="noise_dense1")(emb)
        if self.num_classes > 1 and self.label_input == "embedding":
            table = nn.Embed(
                self.num_classes + 1,
                emb_channels,
                embedding_init=nn.initializers.normal(1.0),
                dtype=self.dtype,
                name="label_embed",
            )
            emb = emb + table(label)
        return nn.silu(emb)

    def _conv(self, channels: int, name: str, **options: Any) -> nn.Conv:
        return conv(channels, self.dtype, name, INITS[self.kernel_init][0], **options)

    def _down(self, h: Array, name: str) -> Array:
        if self.resample == "pool":
            return halve(h)
        padding = ((0, 1), (0, 1)) if self.resample == "conv" else 1
        return self._conv(h.shape[-1], name, strides=2, padding=padding)(h)

    def _up(self, h: Array, name: str) -> Array:
        h = double(h)
        return h if self.resample == "pool" else self._conv(h.shape[-1], name)(h)

    def _check(
        self, x: Array, label: Array | None, keys: Array | None, train: bool, augment_label: Array | None
    ) -> None:
        check_choice("embedding", self.embedding, EMBEDDINGS)
        check_choice("resample", self.resample, RESAMPLES)
        check_choice("kernel_init", self.kernel_init, INITS)
        check_choice("label_input", self.label_input, ("embedding", "features"))
        check_rate("dropout", self.dropout)
        if self.base_channels < 4 or self.base_channels % 2:
            raise ValueError(f"got base_channels={self.base_channels}, expected an even number >= 4.")
        factor = 2 ** (len(self.channel_multipliers) - 1)
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(
                f"got images of {x.shape[1]}x{x.shape[2]} px; {len(self.channel_multipliers)} levels need both "
                f"sides divisible by {factor}. Resize the images or give fewer channel_multipliers."
            )
        if (label is None) != (self.num_classes == 0):
            raise ValueError(
                f"got label={label} with num_classes={self.num_classes}. Give labels exactly where num_classes > 0 "
                f"(the null class is {self.num_classes})."
            )
        if augment_label is not None and augment_label.shape != (x.shape[0], self.augment_dim):
            raise ValueError(
                f"got an augment_label of shape {augment_label.shape} with augment_dim={self.augment_dim}, "
                f"expected ({x.shape[0]}, {self.augment_dim}), or none where augment_dim is 0"
            )
        if train and self.dropout > 0 and keys is None:
            raise ValueError(f"got train=True with dropout={self.dropout} and no keys. Give one key per example.")


_DDPM = partial(UNet, dropout=0.1, adaptive_scale=False, skip_scale=1.0, kernel_init="ddpm")
_DDPMPP = partial(
    UNet,
    channel_multipliers=(2, 2, 2),
    num_blocks=4,
    up_attention_last=True,
    dropout=0.13,
    label_input="features",
    adaptive_scale=False,
    resample="residual_projected",
    kernel_init="ddpmpp",
)
_ADM = partial(
    UNet,
    base_channels=192,
    channel_multipliers=(1, 2, 3, 4),
    num_blocks=3,
    attention_px=(32, 16, 8),
    head_channels=64,
    dropout=0.1,
    embedding="positional_open",
    skip_scale=1.0,
    resample="residual",
    norm_epsilon=1e-5,
    kernel_init="adm",
)

PUBLISHED: dict[str, partial[UNet]] = {
    "ddpm_cifar10": _DDPM,
    "ddpmpp_cifar10": _DDPMPP,
    "ddpmpp_64px": partial(_DDPMPP, channel_multipliers=(1, 2, 2, 2), dropout=0.05),
    "adm_64px": _ADM,
}
"""The networks of the papers by name; every size may still be given, as for `UNet`.

- ddpm_cifar10: Ho et al. 2020 (2006.11239), appendix B, 32 px: 35.7 M parameters.
- ddpmpp_cifar10: DDPM++ of Song et al. 2021 (2011.13456) as Karras et al. 2022 (2206.00364), appendix F.3, train it at
  32 px: 55.7 M. ddpmpp_64px: the same at 64 px (FFHQ; AFHQv2 with dropout .25): 61.8 M.
- adm_64px: ADM of Dhariwal & Nichol 2021 (2105.05233) as Karras et al. train it on ImageNet at 64 px: 296 M.
"""
