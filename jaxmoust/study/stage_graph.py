"""The stages that an experiment's arms stand on, each laid out once, and referring to the others by their names."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxmoust.config import Config, Schema, complete, merge
from jaxmoust.study.experiment import Base
from jaxmoust.study.store import Stage

START = "start"  # of an arm: the arm whose classifier, at the same seed, its own begins as

# Each entry of these tables is a probe: a stage that measures one synthetic set, with or without an arm's classifier,
# and whose result is shown on the page beside the runs.
# Table -> the kind of its stages (also their task), and how a stage's configuration names the arm's classifier.
PROBES: Mapping[str, tuple[str, Callable[[str], Config]]] = {
    "domains": ("domain", lambda classifier: {"classifier": classifier}),
    "measures": ("measure", lambda classifier: {"extractor": {"path": classifier}}),
}


class StageGraph:
    """The stages of an experiment's complete configuration, laid out as they are asked for.

    Args:
        config: the experiment's. bases: for each arm, what its base set has other than the experiment's.
        schema_of, identify, named: as `expand` has them.
    """

    def __init__(
        self,
        config: Config,
        bases: Mapping[str, Base],
        schema_of: Callable[[str], Schema],
        identify: Callable[[Config], Mapping[str, Any]],
        named: Callable[[str], object],
    ):
        self._config, self._data, self._bases = config, config["data"], bases
        self._schema_of, self._identify, self._named = schema_of, identify, named
        self._arms = {fields["name"]: fields for fields in config["arms"]}
        self._classifiers: dict[tuple[str, int], Stage] = {}
        # Asked for again and again by arms and seeds; the caches go with the graph.
        self.generator = functools.cache(self._generator)
        self.sampling = functools.cache(self._sampling)

    def _generator(self, name: str, base: Base) -> Stage:
        """The training of a generator on a base set."""
        return self._stage("fit", self._on_base(self._config["generators"][name], base))

    def _sampling(self, name: str, base: Base, seed: int) -> Stage:
        """The sampling of a set at a seed, from a generator of a base set."""
        job, at = dict(self._config["sets"][name]), f"config.sets.{name}"
        external, source = job["task"] == "text_to_image", job["generator"]
        if external:
            del job["generator"]
            # What is sampled from text alone, with a pipeline as it is, is the same for every base set: done once.
            job = self._on_base(job, base) if source or job["from_real"] else job
        job |= {"name": name, "seed": seed}
        if external and not source:
            return self._stage("sample", job)
        find(f"{at}.generator", self._config["generators"], source)
        generator = self.generator(source, base)
        job = _from_generator(generator, job, f"{at} samples from {source!r}")
        return self._stage("sample", job, (generator,))

    def classifier(self, name: str, seed: int, waiting: tuple[str, ...] = ()) -> Stage:
        """The training of an arm at a seed, with those of the arms whose classifiers it waits for.

        Args: waiting: the arms that wait for this one's.
        """
        if (name, seed) in self._classifiers:
            return self._classifiers[name, seed]
        if name in waiting:
            raise ValueError(f"config.arms: the arms {[*waiting, name]} wait for each other's classifiers.")
        waiting = (*waiting, name)
        fields = find("config.scores.*.arm or config.arms.*.start", self._arms, name)
        schema = self._schema_of("classify")
        differs = {key: value for key, value in fields.items() if key in schema}
        job = merge(self._config["classifier"], differs, {"task": {}, **schema})
        before: tuple[Stage, ...] = ()
        if fields[START]:
            before = (self.classifier(fields[START], seed, waiting),)
            job = merge(job, {"method": {"pretrained": before[0].name}}, schema)
        for one in fields["sets"]:
            find(f"config.arms.{name}.sets", self._config["sets"], one)
        sets = [self.sampling(one, self._bases[name], seed) for one in fields["sets"]]
        named = _score_names(name, job["data"]["scores"], len(sets))
        scores = [self._score(score, one, seed, waiting) for score, one in zip(named, sets, strict=False)]
        mixed = {"synthetic": tuple(one.name for one in sets), "scores": tuple(one.name for one in scores)}
        job = merge(job, {"seed": seed, "data": mixed}, schema)
        job = {"task": "classify", **complete({k: v for k, v in job.items() if k != "task"}, schema, _of_arm(name))}
        self._classifiers[name, seed] = self._stage("train", job, (*sets, *scores, *before))
        return self._classifiers[name, seed]

    def _score(self, score: str, of_set: Stage, seed: int, waiting: tuple[str, ...]) -> Stage:
        """The scoring of a set of the last of the arms that wait: by an arm's classifier, by CLIP, or as a domain."""
        arm, scores, domains = waiting[-1], self._config["scores"], self._config["domains"]
        where = f"config.arms.{arm}.data.scores"
        fields = find(where, {**scores, **domains}, score)
        if score in domains:
            if fields["set"] != of_set.config["name"]:
                raise ValueError(
                    f"{where} names the domain {score!r} for the set {of_set.config['name']!r}; it scores the set "
                    f"{fields['set']!r}. Give each set a score of its own."
                )
            return self.probe("domains", score, seed, self._bases[arm], waiting)
        job = {name: value for name, value in fields.items() if name != "arm"} | {"set": of_set.name}
        if job["task"] == "clip_score":  # CLIP has learnt from neither
            if fields["arm"]:
                at = f"config.scores.{score}.arm"
                raise ValueError(f"{at} is {fields['arm']!r}, and CLIP is what scores. Leave the arm empty.")
            return self._stage("score", job, (of_set,))
        classifier = self.classifier(fields["arm"], seed, waiting)
        return self._stage("score", {**job, "checkpoint": classifier.name}, (of_set, classifier))

    def probe(self, table: str, name: str, seed: int, base: Base, waiting: tuple[str, ...] = ()) -> Stage:
        """The probe of a set of a seed and a base set, with the classifier of an arm at that seed, if one is named."""
        at, fields, (kind, refer) = f"config.{table}.{name}", self._config[table][name], PROBES[table]
        find(f"{at}.set", self._config["sets"], fields["set"])
        of_set = self.sampling(fields["set"], base, seed)
        job = {name: value for name, value in fields.items() if name not in ("arm", "seeds")}
        job = merge(self._on_base(job, base), {"set": of_set.name}, {})
        classifier = (self.classifier(fields["arm"], seed, waiting),) if fields["arm"] else ()
        if classifier:
            job = merge(job, refer(classifier[0].name), {})
        if "seed" in job:  # of its own training; a probe that draws nothing has none
            job = {**job, "seed": seed}
        return self._stage(kind, job, (of_set, *classifier))

    def _on_base(self, job: Config, base: Base) -> dict[str, Any]:
        """A job on another base set, where it does not say one of its own, other than the experiment's."""
        own = {name for name, value in self._data.items() if job["data"][name] != value}
        return {**job, "data": {**job["data"], **{name: value for name, value in base if name not in own}}}

    def _stage(self, kind: str, job: Config, needs: tuple[Stage, ...] = ()) -> Stage:
        stage = Stage(kind, job, needs, self._identify(job))
        self._named(stage.name)
        return stage


def find(what: str, table: Mapping[str, Any], name: str) -> Any:
    """Returns what a table has under a name. Raises: ValueError: nothing; it says who asked, and what there is."""
    if name not in table:
        raise ValueError(f"{what} names {name!r}; there are {', '.join(table) or 'none'}.")
    return table[name]


def _of_arm(name: str) -> str:
    return f"config.arms.{name}"


def _from_generator(generator: Stage, job: Config, what: str) -> Config:
    """Tells a sampling job which generator it samples from: an internal one, or a fine-tuned pipeline."""
    tasks = {"sample": "diffuse", "text_to_image": "finetune"}
    if generator.config["task"] != tasks[job["task"]]:
        raise ValueError(
            f"{what} by a configuration of task {job['task']!r}; that generator is one of "
            f"{generator.config['task']!r}, and allowed is one of {tasks[job['task']]!r}."
        )
    if job["task"] == "text_to_image":
        return {**job, "pipeline": {**job["pipeline"], "path": generator.name}}
    return {**job, "generator": generator.name}


def _score_names(arm: str, names: str | tuple[str, ...], num_sets: int) -> tuple[str, ...]:
    """The score of each of an arm's sets: one name for all of them, or one for each; () for none."""
    names = ((names,) if names else ()) if isinstance(names, str) else tuple(names)
    if len(names) == 1:
        return names * num_sets
    if names and len(names) != num_sets:
        raise ValueError(
            f"config.arms.{arm}.data.scores {names} for {num_sets} sets: name one score for all of them, or one for "
            "each."
        )
    return names
