"""The stages that an experiment's arms stand on, each laid out once, and referring to the others by their names."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxmoust.config import Config, Field, Schema, complete, fields, meant, merge
from jaxmoust.core.augment.augment import Augment
from jaxmoust.data.real import real_data
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.study.experiment import BASE_FIELDS, Base
from jaxmoust.study.store import Stage

PROBE, FEATURES = "probe", "features"  # the way to learn that stands on features, and the task that computes these
START = "start"  # of an arm: the arm whose classifier, at the same seed, its own begins as
IMPORTED = "imported"  # the task of a set whose images something else made
OWN_BASE = "own_base"  # of an entry: whether it keeps the base set of its own data section, whatever the arm's is

# Each entry of these tables is a diagnostic: a stage that measures one synthetic set, with or without an arm's
# classifier, and whose result is shown on the page beside the runs.
# Table -> the kind of its stages (also their task), and how a stage's configuration names the arm's classifier.
DIAGNOSTICS: Mapping[str, tuple[str, Callable[[str], Config]]] = {
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
        self._config, self._bases, self._vary, self._first = config, bases, config["vary"], config["seeds"][0]
        self._schema_of, self._identify, self._named = schema_of, identify, named
        self._arms = {arm["name"]: arm for arm in config["arms"]}
        self._classifiers: dict[tuple[str, int], Stage] = {}
        # Asked for again and again by arms and seeds; the caches go with the graph.
        self.generator = functools.cache(self._generator)
        self.sampling = functools.cache(self._sampling)
        self._of_arm = functools.cache(self._whole_arm)

    def _seed(self, what: str, seed: int) -> int:
        """The seed of something at a seed of the study: that one, or, of what does not vary, the first."""
        return seed if what in self._vary else self._first

    def _generator(self, name: str, base: Base, seed: int) -> Stage:
        """The training of a generator on a base set: at a seed as many further on from its own as vary it."""
        job = self._job(self._config["generators"][name], base, seed)
        job["seed"] += seed if "generator" in self._vary else 0
        prior = job["method"].get("prior")
        if prior not in self._config["sets"]:  # none, or a folder
            return self._stage("fit", job)
        entry, at = self._config["sets"][prior], f"config.generators.{name}.method.prior"
        if entry["task"] != "text_to_image" or entry["generator"]:
            whose = "itself, so each would wait for the other" if entry["generator"] == name else entry["generator"]
            raise ValueError(
                f"{at} names the set {prior!r} of task {entry['task']!r}, sampled from {whose or 'elsewhere'}: "
                "expected images of the pipeline as it is. Name a set of task 'text_to_image' whose generator is ''."
            )
        # A generator that is the same at every seed has one prior.
        sampled = self.sampling(prior, base, seed if "base" in self._vary else self._seed("generator", seed))
        return self._stage("fit", {**job, "method": {**job["method"], "prior": sampled.name}}, (sampled,))

    def _sampling(self, name: str, base: Base, seed: int) -> Stage:
        """The sampling of a set at a seed, from a generator of a base set."""
        entry, at = self._config["sets"][name], f"config.sets.{name}"
        imported, external, source = entry["task"] == IMPORTED, entry["task"] == "text_to_image", entry["generator"]
        # What something else made, and what is sampled from text alone, with a pipeline as it is, is the same for every
        # base set: done once.
        alone = imported or (external and not source and not entry["from_real"])
        job = self._job(entry, () if alone else base, 0 if alone else seed)
        job |= {"name": name} if imported else {"name": name, "seed": self._seed("draw", seed)}
        if imported and source:
            raise ValueError(f"{at}.generator is {source!r}, and its images lie in {entry['path']!r}. Leave it empty.")
        late = self._hard(at, entry["hard"]["scores"], seed) if external and entry["hard"]["scores"] else ()
        if late:
            job |= {"hard": {**job["hard"], "scores": late[0].name}}
        if imported or (external and not source):
            return self._stage("sample", job, late)
        find(f"{at}.generator", self._config["generators"], source)
        generator = self.generator(source, base, seed)
        job = _from_generator(generator, job, f"{at} samples from {source!r}")
        if not (weaker := entry.get("autoguidance")):
            return self._stage("sample", job, (generator, *late))
        find(f"{at}.autoguidance", self._config["generators"], weaker)
        guiding = self.generator(weaker, base, seed)
        return self._stage("sample", {**job, "autoguidance": guiding.name}, (generator, guiding))

    def _hard(self, at: str, score: str, seed: int) -> tuple[Stage]:
        """The scoring of the real images that a set starts from, by an arm that learnt from them alone."""
        entry = find(f"{at}.hard.scores", self._config["scores"], score)
        where = f"config.scores.{score}"
        judge = find(f"{where}.arm", self._arms, entry["arm"])
        if judge["sets"] or judge[START] or entry["task"] != "score" or not entry["folds"]:
            raise ValueError(
                f"{at}.hard.scores names {score!r}, which is to score the base set: expected a configuration of task "
                f"'score' with folds=2 or more, and as {where}.arm one without sets."
            )
        classifier = self.classifier(entry["arm"], seed if "base" in self._vary else self._seed("draw", seed))
        job = self._job(entry, (), seed) | {"set": "", "checkpoint": classifier.name}
        return (self._stage("score", job, (classifier,)),)

    def classifier(self, name: str, seed: int, waiting: tuple[str, ...] = ()) -> Stage:
        """The training of an arm at a seed, with those of the arms whose classifiers it waits for.

        Args: waiting: the arms that wait for this one's.
        """
        if (name, seed) in self._classifiers:
            return self._classifiers[name, seed]
        if name in waiting:
            raise ValueError(f"config.arms: the arms {[*waiting, name]} wait for each other's classifiers.")
        waiting = (*waiting, name)
        arm = find("config.scores.*.arm or config.arms.*.start", self._arms, name)
        job = self._of_arm(name)
        before: tuple[Stage, ...] = ()
        if arm[START]:
            before = (self.classifier(arm[START], seed, waiting),)
            job = {**job, "method": {**job["method"], "pretrained": before[0].name}}
        for one in arm["sets"]:
            find(f"config.arms.{name}.sets", self._config["sets"], one)
        sets = [self.sampling(one, self._bases[name], seed) for one in arm["sets"]]
        names = _score_names(name, job["data"]["scores"], len(sets))
        scores = [self._score(score, one, seed, waiting) for score, one in zip(names, sets, strict=False)]
        if job["data"]["synthetic"]:
            raise ValueError(
                f"data.synthetic is {job['data']['synthetic']!r} for the arm {name!r} and would do nothing: in a study "
                "an arm's sets are those that it names, sets=(...), of config.sets. Leave it empty."
            )
        mixed = {"synthetic": tuple(one.name for one in sets), "scores": tuple(one.name for one in scores)}
        init, order = self._seed("init", seed), self._seed("order", seed)
        drawn = {"seed": init, "order_seed": None if order == init else order, "data": {**job["data"], **mixed}}
        job = self._on_base({**job, **drawn}, (), seed)
        features: tuple[Stage, ...] = ()
        if job["method"].get("learn") == PROBE and not job["probe"]["features"]:
            features = self._features(job, sets)
            job = {**job, "probe": {**job["probe"], "features": tuple(one.name for one in features)}}
        self._classifiers[name, seed] = self._stage("train", job, (*sets, *scores, *features, *before))
        return self._classifiers[name, seed]

    def _whole_arm(self, name: str) -> dict[str, Any]:
        """The classifier with what an arm has other; of seeds and stages, nothing yet."""
        arm, schema = self._arms[name], {"task": Field(), **self._schema_of("classify")}
        job = merge(self._config["classifier"], {key: arm[key] for key in arm if key in schema}, schema)
        return complete(job, schema, f"config.arms.{name}")

    def _features(self, job: Config, sets: Sequence[Stage]) -> tuple[Stage, ...]:
        """What a probe stands on: features of the training images, of the test images, and of its sets.

        Where base sets differ by arm or seed, features are of all training images, of which each takes its own.
        """
        schema = {"task": Field(), **self._schema_of(FEATURES)}
        of_images = fields(real_data, skip=("rules", "look"))
        usual = {"copies": 1, "random_crop": 0.0}
        if "base" in self._vary or any(self._bases.values()):
            usual |= {name: of_images[name].default for name in BASE_FIELDS}
        shared = {
            "task": FEATURES,
            "data": {name: usual.get(name, job["data"][name]) for name in (*of_images, *fields(Rules))},
            "model": job["model"],
            "method": {"pretrained": job["method"]["pretrained"]},
            "eval": {"batch_size": job["eval"]["batch_size"]},
        }
        plain = {name: field.default for name, field in fields(Augment).items()}
        augmented = {"views": 1 + job["probe"]["views"], "augment": job["augment"]}
        views = {} if job["augment"] == plain else augmented

        def stage(needs: tuple[Stage, ...], **look: Any) -> Stage:
            return self._stage(FEATURES, complete({**shared, **look}, schema), needs)

        select = [stage((), part="validation")] if job["data"]["validation"] else []
        return (
            stage((), **views),
            stage((), part="test"),
            *select,
            *(stage((one,), **views, set=one.name) for one in sets),
        )

    def _score(self, score: str, of_set: Stage, seed: int, waiting: tuple[str, ...]) -> Stage:
        """The scoring of a set of the last of the arms that wait: by an arm's classifier, by CLIP, or as a domain."""
        arm, scores, domains = waiting[-1], self._config["scores"], self._config["domains"]
        where = f"config.arms.{arm}.data.scores"
        entry = find(where, {**scores, **domains}, score)
        if score in domains:
            if entry["set"] != of_set.config["name"]:
                raise ValueError(
                    f"{where} names the domain {score!r} for the set {of_set.config['name']!r}; it scores the set "
                    f"{entry['set']!r}. Give each set a score of its own."
                )
            return self.diagnostic("domains", score, seed, self._bases[arm], waiting)
        job = self._job(entry, (), seed) | {"set": of_set.name}
        if job["task"] == "clip_score":  # CLIP has learnt from neither
            if entry["arm"]:
                at = f"config.scores.{score}.arm"
                raise ValueError(f"{at} is {entry['arm']!r}, and CLIP is what scores. Leave the arm empty.")
            return self._stage("score", job, (of_set,))
        classifier = self.classifier(entry["arm"], seed, waiting)
        return self._stage("score", {**job, "checkpoint": classifier.name}, (of_set, classifier))

    def diagnostic(self, table: str, name: str, seed: int, base: Base, waiting: tuple[str, ...] = ()) -> Stage:
        """The diagnostic of a set of a seed and a base set, with the classifier of its arm at that seed, if any."""
        entry, (kind, refer) = self._config[table][name], DIAGNOSTICS[table]
        find(f"config.{table}.{name}.set", self._config["sets"], entry["set"])
        of_set = self.sampling(entry["set"], base, seed)
        job = self._job(entry, base, seed) | {"set": of_set.name}
        classifier = (self.classifier(entry["arm"], seed, waiting),) if entry["arm"] else ()
        if classifier:
            job = merge(job, refer(classifier[0].name), {})
        if "seed" in job:  # of its own training; a diagnostic that draws nothing has none
            job = {**job, "seed": seed}
        return self._stage(kind, job, (of_set, *classifier))

    def _job(self, entry: Config, base: Base, seed: int) -> dict[str, Any]:
        """The job that an entry of a table describes, on the base set of an arm unless the entry gives one itself."""
        schema = self._schema_of(entry["task"])
        job = {name: value for name, value in entry.items() if name == "task" or name in schema}
        return self._on_base(job, () if entry.get(OWN_BASE, True) else base, seed)

    def _on_base(self, job: dict[str, Any], base: Base, seed: int) -> dict[str, Any]:
        """A job on a base set, drawn anew at each seed where that varies: then its own base_seed counts from there."""
        if "data" not in job:
            return job
        data = {**job["data"], **dict(base)}
        return {**job, "data": {**data, "base_seed": data["base_seed"] + (seed if "base" in self._vary else 0)}}

    def _stage(self, kind: str, job: Config, needs: tuple[Stage, ...] = ()) -> Stage:
        stage = Stage(kind, job, needs, self._identify(job))
        self._named(stage.name)
        return stage


def find(what: str, table: Mapping[str, Any], name: str) -> Any:
    """Returns what a table has under a name. Raises: ValueError: nothing; it says who asked, and what there is."""
    if name not in table:
        raise ValueError(f"{what} names {name!r}; there are {', '.join(table) or 'none'}.{meant(name, table)}")
    return table[name]


def _from_generator(generator: Stage, job: dict[str, Any], what: str) -> dict[str, Any]:
    """Tells a sampling job which generator it samples from: an internal one, or a fine-tuned pipeline."""
    tasks = {"sample": "diffuse", "text_to_image": "finetune"}
    if generator.config["task"] != tasks[job["task"]]:
        raise ValueError(
            f"{what} by a configuration of task {job['task']!r}; that generator is one of "
            f"{generator.config['task']!r}, and this expects one of {tasks[job['task']]!r}."
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
