"""An experiment, laid out: its arms, one training run for each arm and seed, and the stages these stand on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxmoust.study.stages import Stage, in_order

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Arm:
    """One way to train: its words, and the synthetic sets it mixes in."""

    name: str
    title: str
    description: str
    sets: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One training run of a study: an arm at a seed, and the stage that is its classifier."""

    arm: Arm
    seed: int
    stage: Stage

    @property
    def fine_tuning(self) -> str:
        """What of the generators of its sets was fine-tuned: "none", "lora", "tokens", "full"; "+" between sets."""
        of_sets = [need for need in self.stage.needs if need.kind == "sample"]
        return "+".join(_fine_tuning(made) for made in of_sets) or "none"


@dataclass(frozen=True)
class Probe:
    """A look at a synthetic set of one seed: the table and the name it has in the experiment, and its stage."""

    table: str
    name: str
    set: str
    seed: int
    stage: Stage


def _fine_tuning(made: Stage) -> str:
    for generator in made.needs:
        if generator.config["task"] == "finetune":
            method = generator.config["method"]
            parts = [("lora", method.get("rank")), ("tokens", method.get("learn_tokens"))]
            whole = method.get("train_text") or (method.get("train_unet", True) and not method.get("rank"))
            return "_".join([name for name, on in [("full", whole), *parts] if on])
    return "none"


@dataclass(frozen=True)
class Experiment:
    """An experiment, laid out.

    Args:
        sets: name -> the sampling stage at the first seed, for pictures; in the order in which arms mix them in.
        data: the data section that all of it shares.
        probes: what looks at the sets, table by table.
    """

    name: str
    question: str
    baseline: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    sets: Mapping[str, Stage]
    data: Config
    probes: tuple[Probe, ...] = ()

    @property
    def stages(self) -> list[Stage]:
        """Every stage of it, once, each after what it needs."""
        return in_order([one.stage for one in (*self.runs, *self.probes)])
