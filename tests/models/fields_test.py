"""What a configuration can name says what each of its fields is: `jaxmoust config` prints it beside the value."""

import inspect
import re

import pytest

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.augment.nonleaky import NonLeaky
from jaxmoust.core.diffusion.methods import METHODS
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.models.classifiers.wide_resnet import WideResNet
from jaxmoust.models.dit import DiT
from jaxmoust.models.unet.unet import UNet

# What the data or the machine say, or what a configuration must: the others have a default.
REQUIRED = {"ResNet": {"stage_sizes", "block"}, "ViT": {"width", "depth", "num_heads"}}
OF_THE_DATA = {"num_classes", "out_channels"}


@pytest.mark.parametrize("named", [Augment, NonLeaky, *METHODS.values(), ResNet, WideResNet, ViT, UNet, DiT])
def test_every_field_has_a_type_a_default_and_a_line_of_its_own(named):
    fields = {k: p for k, p in inspect.signature(named).parameters.items() if k not in ("parent", "name")}
    assert fields
    for name, parameter in fields.items():
        assert parameter.annotation is not inspect.Parameter.empty, name
        needed = name in OF_THE_DATA | REQUIRED.get(named.__name__, set())
        assert (parameter.default is inspect.Parameter.empty) <= needed, name
        assert re.search(rf"^        {name}: \S", named.__doc__, re.MULTILINE), name
