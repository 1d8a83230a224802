"""The classes of diffusers and transformers that are used here, made to compute what torch's do, and quiet.

Nothing else imports the two packages: the changes must be made before any of their Flax classes is touched.
"""

import contextvars
import functools
import logging
import types
from collections.abc import Callable, Mapping

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
from diffusers.configuration_utils import flax_register_to_config  # noqa: E402
from diffusers.models.resnet_flax import FlaxResnetBlock2D  # noqa: E402
from diffusers.models.unets.unet_2d_condition_flax import FlaxUNet2DConditionModel  # noqa: E402
from diffusers.models.vae_flax import FlaxAutoencoderKL  # noqa: E402
from transformers import CLIPTextConfig, CLIPTokenizer  # noqa: E402
from transformers.models.clip.modeling_flax_clip import FlaxCLIPTextModule  # noqa: E402

__all__ = [
    "CLIPTextConfig",
    "CLIPTokenizer",
    "FlaxAutoencoderKL",
    "FlaxCLIPTextModule",
    "FlaxUNet2DConditionModel",
    "RecomputingUNet",
]


class _Layers(types.ModuleType):
    """`flax.linen` for diffusers' attention_flax.py, with torch's GELU (by erf) and its norm's epsilon.

    The module names each of the two once: in GEGLU, and in the norm at the head of a spatial transformer. Without
    this a U-Net answers about 4e-5 from torch's, with it about 1e-6.
    """

    def __init__(self) -> None:
        """Makes the GELU."""
        super().__init__("flax.linen")
        self.gelu = functools.partial(nn.gelu, approximate=False)

    def GroupNorm(self, num_groups: int, epsilon: float, **how) -> nn.GroupNorm:
        """The norm with torch's epsilon."""
        return nn.GroupNorm(num_groups=num_groups, epsilon=1e-6, **how)

    def __getattr__(self, name: str) -> object:
        """Everything else is `flax.linen`'s."""
        return getattr(nn, name)


diffusers.models.attention_flax.nn = _Layers()


# The blocks of a U-Net whose inside is computed again on the way back; none of them holds another.
_BLOCKS = (FlaxResnetBlock2D, diffusers.models.attention_flax.FlaxTransformer2DModel)
_inside = contextvars.ContextVar("inside a block that is computed again", default=False)


@flax_register_to_config
class RecomputingUNet(FlaxUNet2DConditionModel):
    """A U-Net that keeps what lies between its blocks for the gradient, and computes the inside of each again.

    Parameters, answers and gradients are those of `FlaxUNet2DConditionModel`; Chen et al. 2016 (1604.06174).
    """

    def __call__(self, *args, **how):
        """As the U-Net itself."""
        with nn.intercept_methods(_recompute):
            return super().__call__(*args, **how)


def _recompute(run: Callable, args: tuple, how: Mapping, context: nn.module.InterceptorContext) -> object:
    if _inside.get() or context.method_name != "__call__" or not isinstance(context.module, _BLOCKS):
        return run(*args, **how)

    def block(module: nn.Module, *arrays: object) -> object:
        token = _inside.set(True)
        try:
            return module(*arrays, **how)  # whether dropout is on, which is no array
        finally:
            _inside.reset(token)

    return nn.remat(block)(context.module, *args)
