"""An experiment, laid out: its arms, one training run for each arm and seed, and the stages these stand on."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxmoust.analysis.decisions import MIXTURE
from jaxmoust.analysis.looks import Rule
from jaxmoust.config import Config
from jaxmoust.study.store import Stage, in_order

# What of a data section says which images are the base set. An arm that overrides one has a base set of its own.
BASE_FIELDS = ("n_base", "n_per_class", "base_seed", "imbalance", "imbalance_ratio")

# What a seed may have of its own: how it is said, and how what has it not.
VARIABLE = {
    "init": ("the classifier's initialisation", "this initialisation"),
    "order": ("the order of its images", "this order of images"),
    "draw": ("the noise of the synthetic images", "these synthetic images"),
    "generator": ("the training of their generators", "these generators"),
    "base": ("the base set", "this base set"),
}

# What an arm's base set has other than the study's: fields of the data section with their values.
Base = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Args:
        name, title, description: what it is called, and what it does in a sentence.
        sets: the synthetic sets that it mixes in. baseline: the arm that it is compared with.
        generators: what samples these sets: the experiment's name of a generator, or of a set from a pipeline as it is.
        family: the arms that it is compared together with.
    """

    name: str
    title: str
    description: str
    sets: tuple[str, ...]
    baseline: str = ""
    generators: tuple[str, ...] = ()
    family: str = MIXTURE


@dataclass(frozen=True)
class Run:
    """One training run of a study: an arm at a seed, and the stage that is its classifier."""

    arm: Arm
    seed: int
    stage: Stage

    @property
    def fine_tuning(self) -> str:
        """What of the generators of its sets was fine-tuned: "none", "lora", "tokens", "full"; "+" between sets."""
        return "+".join(_fine_tuning(need) for need in self.stage.needs if need.kind == "sample") or "none"


@dataclass(frozen=True)
class DiagnosticRun:
    """One diagnostic of a synthetic set of one seed: its table and its name in the experiment, and its stage."""

    table: str
    name: str
    set: str
    seed: int
    stage: Stage


def base_words(stage: Stage, data: Config) -> str:
    """Says on what other base set than a study's a fitting or a sampling stands: ", n_base 50"; "" for that one."""
    fitted = next((need for need in stage.needs if need.kind == "fit"), stage)
    of_stage = fitted.config.get("data", {})
    fields = [name for name in BASE_FIELDS if name in of_stage and of_stage[name] != data.get(name)]
    text = base_text((name, of_stage[name]) for name in fields)
    return f", {text}" if text else ""


def base_text(fields: Iterable[tuple[str, Any]]) -> str:
    """Returns "n_base 50, base_seed 1"; an n_base of 0 takes all there are."""
    return ", ".join(f"{name} {'all' if (name, value) == ('n_base', 0) else value}" for name, value in fields)


def _fine_tuning(sampled: Stage) -> str:
    for generator in sampled.needs:
        if generator.config["task"] == "finetune":
            return tuned_parts(generator.config["method"])
    return "none"


def tuned_parts(method: Mapping[str, Any]) -> str:
    """What of an external generator is trained: "full", "lora", "tokens", and "by_class", joined by "_"."""
    parts = [("lora", method.get("rank")), ("tokens", method.get("learn_tokens"))]
    whole = method.get("train_text") or (method.get("train_unet", True) and not method.get("rank"))
    parts.append(("by_class", method.get("per") == "class"))
    return "_".join(name for name, on in [("full", whole), *parts] if on)


@dataclass(frozen=True)
class Experiment:
    """An experiment, laid out.

    Args:
        baseline: the first arm's; arms of another base set may have another.
        sets: name -> the sampling stage at the first seed, for pictures; in the order in which arms mix them in. Of a
            set for several base sets, the name says which.
        data: the data section that all of it shares, but for the base sets of arms that have their own.
        diagnostics: of the sets, table by table.
        rule: how it comes to its verdicts. vary: what each seed has of its own.
    """

    name: str
    question: str
    baseline: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    sets: Mapping[str, Stage]
    data: Config
    diagnostics: tuple[DiagnosticRun, ...] = ()
    rule: Rule = Rule()
    vary: tuple[str, ...] = ("init", "order", "draw")

    @functools.cached_property
    def stages(self) -> list[Stage]:
        """Every stage of it, once, each after what it needs."""
        return in_order([*(run.stage for run in self.runs), *(one.stage for one in self.diagnostics)])

    @functools.cached_property
    def _titles(self) -> dict[str, str]:
        titles = {run.stage.name: f"train {run.arm.name}, seed {run.seed}" for run in reversed(self.runs)}
        return titles | {one.stage.name: f"{one.stage.kind} {one.name}, seed {one.seed}" for one in self.diagnostics}

    @property
    def claim(self) -> str:
        """Says what varies with the seed, and for what a claim therefore holds."""
        kinds = {stage.kind for stage in self.stages}
        asked = [x for x in VARIABLE if {"draw": "sample", "generator": "fit"}.get(x, "train") in kinds]
        varied = [VARIABLE[x][0] for x in asked if x in self.vary]
        fixed = [VARIABLE[x][1] for x in asked if x not in self.vary] or ["base sets drawn as these are"]
        return f"With each seed {and_list(varied)} vary. A claim holds for {and_list(fixed)}."

    def describe(self, stage: Stage) -> str:
        """What a stage does, in a few words: "train edm_only, seed 2"."""
        if stage.name in self._titles:
            return self._titles[stage.name]
        if stage.kind == "fit":
            method = stage.config["method"]
            name = method.get("name") or f"{stage.config['task']} {tuned_parts(method)}"
            name += " on captions" if stage.config.get("prompts", {}).get("contexts") else ""
            name += " with a prior" if method.get("prior") else ""
            seed = f", seed {stage.config['seed']}" if "generator" in self.vary else ""
            return f"fit {name}{base_words(stage, self.data)}{seed}"
        if stage.kind == "features" and not stage.needs:
            views = f", {stage.config['views']} views" if stage.config["views"] > 1 else ""
            return f"features of {stage.config['part']} images{base_words(stage, self.data)}{views}"
        if stage.kind == "score" and not stage.config.get("set"):
            of, part = self.describe(stage.needs[0]).removeprefix("train "), stage.config["part"]
            return f"score {stage.config['score']} of real images by {of}" + (f", {part:.0%} of it" if part < 1 else "")
        sampled = stage if stage.kind == "sample" else stage.needs[0]
        seed = f", seed {sampled.config['seed']}" if "seed" in sampled.config else ""  # images that lie there have none
        of_set = f"{sampled.config['name']}{base_words(sampled, self.data)}{seed}"
        if stage.kind == "score":
            return f"score {stage.config.get('score', 'clip')} of {of_set}"
        if stage.config.get("task") == "imported":
            return f"import {of_set}"
        return f"{stage.kind} {of_set}"


def and_list(words: Sequence[str]) -> str:
    """Joins words: "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
