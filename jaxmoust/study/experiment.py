"""An experiment, laid out: its arms, one training run for each arm and seed, and the stages these stand on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxmoust.config import Config
from jaxmoust.study.store import Stage, in_order

# What of a data section says which images are the base set. An arm that overrides one has a base set of its own.
BASE_FIELDS = ("n_base", "n_per_class", "base_seed", "imbalance", "imbalance_ratio")

# What an arm's base set has other than the study's: fields of the data section with their values.
Base = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Args:
        name, title, description: what it is called, and what it does in a sentence.
        sets: the synthetic sets that it mixes in. baseline: the arm that it is compared with.
        generators: what draws these sets: the experiment's name of a generator, or of a set that has none inside.
    """

    name: str
    title: str
    description: str
    sets: tuple[str, ...]
    baseline: str = ""
    generators: tuple[str, ...] = ()


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


def base_words(stage: Stage, data: Config) -> str:
    """Says on what other base set than a study's a fitting or a drawing stands: ", n_base 50"; "" for that one."""
    fitted = next((need for need in stage.needs if need.kind == "fit"), stage)
    of_stage = fitted.config.get("data", {})
    fields = [name for name in BASE_FIELDS if name in of_stage and of_stage[name] != data.get(name)]
    text = base_text((name, of_stage[name]) for name in fields)
    return f", {text}" if text else ""


def base_text(fields: Iterable[tuple[str, Any]]) -> str:
    """Returns "n_base 50, base_seed 1"; an n_base of 0 takes all there are."""
    return ", ".join(f"{name} {'all' if (name, value) == ('n_base', 0) else value}" for name, value in fields)


def _fine_tuning(made: Stage) -> str:
    for generator in made.needs:
        if generator.config["task"] == "finetune":
            return tuned_parts(generator.config["method"])
    return "none"


def tuned_parts(method: Mapping[str, Any]) -> str:
    """What of an external generator a method of fine-tuning trains: "full", "lora", "tokens", joined by "_"."""
    parts = [("lora", method.get("rank")), ("tokens", method.get("learn_tokens"))]
    whole = method.get("train_text") or (method.get("train_unet", True) and not method.get("rank"))
    return "_".join(name for name, on in [("full", whole), *parts] if on)


@dataclass(frozen=True)
class Experiment:
    """An experiment, laid out.

    Args:
        baseline: the first arm's; arms of another base set may have another.
        sets: name -> the sampling stage at the first seed, for pictures; in the order in which arms mix them in. Of a
            set for several base sets, the name says which.
        data: the data section that all of it shares, but for the base sets of arms that have their own.
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
