"""The stages that an experiment's arms stand on, each laid out once, and referring to the others by their names."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxmoust.study.experiment import Base, Config
from jaxmoust.study.store import Stage

START = "start"  # of an arm, optional: the arm whose classifier, at the same seed, its own begins as

# Tables that an experiment may leave out. Each entry is a probe: a stage that looks at one synthetic set, with or
# without an arm's classifier, and whose result is shown on the page beside the runs.
# Table -> the kind of its stages (also their task), and how a stage's configuration names the arm's classifier.
PROBES: Mapping[str, tuple[str, Callable[[str], Config]]] = {
    "domains": ("domain", lambda classifier: {"classifier": classifier}),
    "measures": ("measure", lambda classifier: {"extractor": {"path": classifier}}),
}


# Fields that may name files which no stage made: weights from elsewhere, and words. A stage's name covers what lies
# there, so that other weights under an old path are other stages.
FILES = (
    "pipeline.path",
    "pipeline.lora",
    "method.pretrained",
    "extractor.path",
    "clip",
    "prompts.templates_file",
    "prompts.words_file",
)


class Layout:
    """The stages of an experiment's configuration, laid out as they are asked for.

    Args:
        config: the experiment's configuration, with every table.
        data: its data section, with the digest of the images.
        bases: for each arm, what its base set has other than the experiment's.
        load_config, override, content_digest: as `expand` has them.
    """

    def __init__(
        self,
        config: Config,
        data: Config,
        bases: Mapping[str, Base],
        load_config: Callable[[str], Config],
        override: Callable[[Config, Config, str], Config],
        content_digest: Callable[[str], str],
    ):
        self._config, self._data, self._bases = config, data, bases
        self._load_config, self._override = load_config, override
        self._arms = {fields["name"]: fields for fields in config["arms"]}
        path = config["classifier"]
        self._classifier = override(self._load(path, "classify"), {"data": data}, path)
        self._classifiers: dict[tuple[str, int], Stage] = {}
        # Asked for again and again by arms and seeds; the caches go with the layout.
        self.generator = functools.cache(self.generator)
        self.drawing = functools.cache(self.drawing)
        self._content_digest = functools.cache(content_digest)

    def generator(self, name: str, base: Base) -> Stage:
        """The fitting of a generator on a base set."""
        fields = self._config["generators"][name]
        job = self._load(fields["config"], "diffuse", "finetune")
        job = self._override(job, {"data": {**self._data, **dict(base)}}, fields["config"])
        return self._stage("fit", self._override(job, fields["overrides"], f"config.generators.{name}.overrides"))

    def drawing(self, name: str, base: Base, seed: int) -> Stage:
        """The drawing of a set at a seed, from a generator of a base set."""
        fields, at = self._config["sets"][name], f"config.sets.{name}"
        job = self._load(fields["config"], "sample", "text_to_image")
        if job["task"] == "text_to_image":
            # What is drawn from text alone, with a pipeline as it is, is the same for every base set: drawn once.
            own = dict(base) if fields["generator"] or job["from_real"] else {}
            job = self._override(job, {"data": {**self._data, **own}}, fields["config"])
        job = self._override(job, fields["overrides"], f"{at}.overrides")
        job = {**job, "name": name, "seed": seed}
        if job["task"] == "text_to_image" and not fields["generator"]:
            return self._stage("sample", job)
        find(f"{at}.generator", self._config["generators"], fields["generator"])
        generator = self.generator(fields["generator"], base)
        job = _drawing_from(generator, job, f"{at} draws from {fields['generator']!r}")
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
        job = self._override(self._classifier, fields["overrides"], f"config.arms.{name}.overrides")
        before: tuple[Stage, ...] = ()
        if fields.get(START):
            before = (self.classifier(fields[START], seed, waiting),)
            job = self._override(job, {"method": {"pretrained": before[0].name}}, self._config["classifier"])
        for one in fields["sets"]:
            find(f"config.arms.{name}.sets", self._config["sets"], one)
        made = [self.drawing(one, self._bases[name], seed) for one in fields["sets"]]
        named = _score_names(name, job["data"]["scores"], len(made))
        scores = [self._score(score, one, seed, waiting) for score, one in zip(named, made, strict=False)]
        mixed = {
            **job["data"],
            "synthetic": tuple(one.name for one in made),
            "scores": tuple(one.name for one in scores),
        }
        job = {**job, "sampler": fields["sampler"] or job["sampler"], "seed": seed, "data": mixed}
        self._classifiers[name, seed] = self._stage("train", job, (*made, *scores, *before))
        return self._classifiers[name, seed]

    def _score(self, score: str, made: Stage, seed: int, waiting: tuple[str, ...]) -> Stage:
        """The scoring of a set of the last of the arms that wait: by an arm's classifier, by CLIP, or as a domain."""
        arm, scores, domains = waiting[-1], self._config["scores"], self._config["domains"]
        where = f"config.arms.{arm}.overrides.data.scores"
        fields = find(where, {**scores, **domains}, score)
        if score in domains:
            if fields["set"] != made.config["name"]:
                raise ValueError(
                    f"{where} names the domain {score!r} for the set {made.config['name']!r}; it scores the set "
                    f"{fields['set']!r}. Give each set a score of its own."
                )
            return self.probe("domains", score, seed, self._bases[arm], waiting)
        job = self._override(self._load(fields["config"], "score", "clip_score"), {"set": made.name}, fields["config"])
        job = self._override(job, fields["overrides"], f"config.scores.{score}.overrides")
        if job["task"] == "clip_score":  # CLIP has learnt from neither
            if fields["arm"]:
                at = f"config.scores.{score}.arm"
                raise ValueError(f"{at} is {fields['arm']!r}, and CLIP is the judge. Leave the arm empty.")
            return self._stage("score", job, (made,))
        judge = self.classifier(fields["arm"], seed, waiting)
        return self._stage("score", {**job, "checkpoint": judge.name}, (made, judge))

    def probe(self, table: str, name: str, seed: int, base: Base, waiting: tuple[str, ...] = ()) -> Stage:
        """The look at a set of a seed and a base set, by the classifier of an arm at that seed where one is named."""
        at, fields, (kind, refer) = f"config.{table}.{name}", self._config[table][name], PROBES[table]
        find(f"{at}.set", self._config["sets"], fields["set"])
        made = self.drawing(fields["set"], base, seed)
        job = self._override(
            self._load(fields["config"], kind), {"data": {**self._data, **dict(base)}}, fields["config"]
        )
        job = self._override(job, fields["overrides"], f"{at}.overrides")
        job = self._override(job, {"set": made.name}, fields["config"])
        judge = (self.classifier(fields["arm"], seed, waiting),) if fields["arm"] else ()
        if judge:
            job = self._override(job, refer(judge[0].name), fields["config"])
        if "seed" in job:  # of its own training or drawing; a probe that draws nothing has none
            job = {**job, "seed": seed}
        return self._stage(kind, job, (made, *judge))

    def _stage(self, kind: str, job: Config, needs: tuple[Stage, ...] = ()) -> Stage:
        paths = {field: functools.reduce(lambda at, name: at.get(name, {}), field.split("."), job) for field in FILES}
        made = ("", *(need.name for need in needs))
        contents = {
            field: self._content_digest(path)
            for field, path in paths.items()
            if isinstance(path, str) and path not in made
        }
        return Stage(kind, job, needs, {field: content for field, content in contents.items() if content})

    def _load(self, path: str, *tasks: str) -> Config:
        job = self._load_config(path)
        if job.get("task") not in tasks:
            wanted = " or ".join(map(repr, tasks))
            raise ValueError(
                f"{path} is a configuration of task {job.get('task')!r}; one of task {wanted} belongs here."
            )
        return job


def find(what: str, table: Mapping[str, Any], name: str) -> Any:
    """Returns what a table has under a name. Raises: ValueError: nothing; it says who asked, and what there is."""
    if name not in table:
        raise ValueError(f"{what} names {name!r}; there are {', '.join(table) or 'none'}.")
    return table[name]


def _drawing_from(generator: Stage, job: Config, what: str) -> Config:
    """Tells a sampling job which generator it draws from: one inside the data set, or a fine-tuned pipeline."""
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
            f"config.arms.{arm}.overrides.data.scores {names} for {num_sets} sets: name one score for all of them, or "
            "one for each."
        )
    return names
