"""The samplers that a configuration may name."""

from collections.abc import Callable

from jaxmoust.data.samplers.base import Sampler
from jaxmoust.data.samplers.children import Children
from jaxmoust.data.samplers.class_balanced import ClassPower, EffectiveNumber, Progressive
from jaxmoust.data.samplers.curriculum import Curriculum
from jaxmoust.data.samplers.score_based import EasyToHard, Weighted
from jaxmoust.data.samplers.share import Share
from jaxmoust.data.samplers.shuffle import Random

SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "random": Random,
    "share": Share,
    "class_power": ClassPower,
    "effective_number": EffectiveNumber,
    "progressive": Progressive,
    "weighted": Weighted,
    "ramp": Curriculum.ramp,
    "levels": Curriculum.levels,
    "stages": Curriculum.parts,
    "easy_to_hard": EasyToHard.paced,
    "children": Children,
}
