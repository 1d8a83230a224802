"""The classes of diffusers and transformers that are used here, made to compute what torch's do, and quiet.

Nothing else imports the two packages: the changes must be made before any of their Flax classes is touched.
"""

import contextlib
import contextvars
import functools
import logging
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers.utils.logging
import flax.linen as nn
import transformers.utils.logging

_NOTICES = (
    "Flax classes are deprecated and will be removed in Diffusers",
    "TensorFlow and JAX classes are deprecated and will be removed in Transformers",
)


class _WithoutNotices(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_NOTICES)


for _library in (diffusers.utils.logging, transformers.utils.logging):
    # On the handler of the library's root logger: a logger's own filter does not see what its children log.
    for _handler in _library.get_logger().handlers:
        _handler.addFilter(_WithoutNotices())

import diffusers.models.attention_flax  # noqa: E402
import diffusers.models.resnet_flax  # noqa: E402
import diffusers.models.unets.unet_2d_condition_flax  # noqa: E402
from diffusers.configuration_utils import flax_register_to_config  # noqa: E402
from diffusers.models.resnet_flax import FlaxResnetBlock2D  # noqa: E402
from diffusers.models.unets.unet_2d_condition_flax import FlaxUNet2DConditionModel  # noqa: E402
from diffusers.models.vae_flax import FlaxAutoencoderKL  # noqa: E402
from transformers import CLIPConfig, CLIPTextConfig, CLIPTokenizer  # noqa: E402
from transformers.models.clip.modeling_flax_clip import FlaxCLIPModule, FlaxCLIPTextModule  # noqa: E402

__all__ = [
    "CLIPConfig",
    "CLIPTextConfig",
    "CLIPTokenizer",
    "FlaxAutoencoderKL",
    "FlaxCLIPModule",
    "FlaxCLIPTextModule",
    "RecomputingUNet",
    "UNet",
    "open_tokenizer",
    "run",
]


def open_tokenizer(folder: Path) -> CLIPTokenizer:
    """Opens CLIP's tokenizer. Raises ValueError: a folder without its files."""
    if missing := [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: it is not CLIP's tokenizer. Fetch it again.")
    return CLIPTokenizer.from_pretrained(folder)


def run(module: nn.Module, params: Any, *arrays: Any, **options: Any) -> Any:
    """What a module answers; the two packages' own classes, such as a posterior, which Flax's types do not know."""
    return module.apply({"params": params}, *arrays, **options)


# How many groups the norms of a U-Net have that is being set up or run: diffusers' Flax code has 32 written in it.
_groups = contextvars.ContextVar("groups of a U-Net's norms", default=32)


class _Layers(types.ModuleType):
    """`flax.linen` for diffusers' U-Nets: as many groups as the U-Net's file says, and torch's GELU (by erf).

    attention_flax.py names a norm once, at the head of a spatial transformer, where torch's epsilon is another.
    Without GELU and epsilon a U-Net answers about 4e-5 from torch's, with them about 1e-6.
    """

    def __init__(self, epsilon: float) -> None:
        """Makes the GELU. epsilon: of the norms."""
        super().__init__("flax.linen")
        self.gelu, self._epsilon = functools.partial(nn.gelu, approximate=False), epsilon

    def GroupNorm(self, num_groups: int, epsilon: float, **options) -> nn.GroupNorm:
        """The norm with this U-Net's groups and torch's epsilon."""
        return nn.GroupNorm(num_groups=_groups.get(), epsilon=self._epsilon, **options)

    def __getattr__(self, name: str) -> object:
        """Everything else is `flax.linen`'s."""
        return getattr(nn, name)


diffusers.models.attention_flax.nn = _Layers(1e-6)
diffusers.models.resnet_flax.nn = _Layers(1e-5)
diffusers.models.unets.unet_2d_condition_flax.nn = _Layers(1e-5)


@flax_register_to_config
class UNet(FlaxUNet2DConditionModel):
    """diffusers' U-Net, with `norm_num_groups` as torch's has it."""

    norm_num_groups: int = 32

    def setup(self) -> None:
        """As the U-Net itself; its parts set themselves up when they are called."""
        with _norms_of(self):
            super().setup()

    def __call__(self, *args, **options):
        """As the U-Net itself."""
        with _norms_of(self):
            return super().__call__(*args, **options)


@contextlib.contextmanager
def _norms_of(unet: UNet) -> Iterator[None]:
    token = _groups.set(unet.norm_num_groups)
    try:
        yield
    finally:
        _groups.reset(token)


# The blocks of a U-Net whose inside is computed again on the way back; none of them holds another.
_BLOCKS = (FlaxResnetBlock2D, diffusers.models.attention_flax.FlaxTransformer2DModel)
_inside = contextvars.ContextVar("inside a block that is computed again", default=False)


@flax_register_to_config
class RecomputingUNet(UNet):
    """A U-Net that keeps what lies between its blocks for the gradient, and computes the inside of each again.

    Parameters, answers and gradients are those of `UNet`; Chen et al. 2016 (1604.06174).
    """

    def __call__(self, *args, **options):
        """As the U-Net itself."""
        with nn.intercept_methods(_recompute):
            return super().__call__(*args, **options)


def _recompute(run: Callable, args: tuple, options: Mapping, context: nn.module.InterceptorContext) -> object:
    if _inside.get() or context.method_name != "__call__" or not isinstance(context.module, _BLOCKS):
        return run(*args, **options)

    def block(module: nn.Module, *arrays: object) -> object:
        token = _inside.set(True)
        try:
            return module(*arrays, **options)  # whether dropout is on, which is no array
        finally:
            _inside.reset(token)

    return nn.remat(block)(context.module, *args)
