"""The samplers that a configuration may name."""

from jaxmoust.data.samplers import share as samplers

SAMPLERS = {
    "random": samplers.Random,
    "share": samplers.Share,
    "class_power": samplers.ClassPower,
    "effective_number": samplers.EffectiveNumber,
    "progressive": samplers.Progressive,
    "weighted": samplers.Weighted,
    "ramp": samplers.Curriculum.ramp,
    "levels": samplers.Curriculum.levels,
    "stages": samplers.Curriculum.parts,
    "easy_to_hard": samplers.EasyToHard.paced,
}
SCORES = "scores"  # as the weight of a source: that of each image is its score
