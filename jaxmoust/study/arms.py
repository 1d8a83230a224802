"""What an experiment runs: its arms, one training run for each arm and seed, and the stages these stand on.

An experiment file names configuration files and says in nested `overrides` what differs. Equal work (every arm takes
the same number of steps of the same batch size) is checked here, before anything runs.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxmoust.study.experiment import BASE_FIELDS, Arm, Experiment, Probe, Run, base_text, base_words
from jaxmoust.study.stages import Stage

Config = Mapping[str, Any]

FIELDS = ("task", "name", "question", "baseline", "seeds", "data", "generators", "sets", "scores", "classifier", "arms")
GENERATOR_FIELDS = ("config", "overrides")
SET_FIELDS = ("generator", "config", "overrides")
SCORE_FIELDS = ("arm", "config", "overrides")
ARM_FIELDS = ("name", "title", "description", "sets", "sampler", "overrides")
START = "start"  # of an arm, optional: the arm whose classifier, at the same seed, its own begins as

# Tables that an experiment may leave out. Each entry is a probe: a stage that looks at one synthetic set, with or
# without an arm's classifier, and whose result is shown on the page beside the runs.
PROBE_FIELDS = ("set", "arm", "config", "overrides")
PROBE_SEEDS = ("first", "all")
# Table -> the kind of its stages (also their task), and how a stage's configuration names the arm's classifier.
PROBES: Mapping[str, tuple[str, Callable[[str], Config]]] = {
    "domains": ("domain", lambda classifier: {"classifier": classifier}),
    "measures": ("measure", lambda classifier: {"extractor": {"path": classifier}}),
}
OPTIONAL_FIELDS = tuple(PROBES)

# What the real images are called in every pool.
REAL = "real"

# What an arm's base set has other than the study's: fields of the data section with their values.
Base = tuple[tuple[str, Any], ...]


def expand(
    config: Config,
    load_config: Callable[[str], Config],
    override: Callable[[Config, Config, str], Config],
    data_digest: Callable[[Config], str],
) -> Experiment:
    """Lays out an experiment's configuration.

    Seeds vary a classifier's initialisation and order and a synthetic set's noise; the base set, the generators
    trained on it, and the test set stay. An arm may override the base set's fields of its data: the generators of its
    sets are then trained on that base set (unless their own overrides say otherwise), and looks at its sets compare
    with it. A study of several base sets names a baseline for each.

    Args:
        load_config: reads `PATH[:arg]`. override: replaces nested leaves, refusing unknown ones.
        data_digest: the content address of a data section's images, written into every stage.
    Raises: ValueError: unknown or missing fields, names that refer to nothing, or arms of unequal work.
    """
    _check_fields("config", config, FIELDS, OPTIONAL_FIELDS)
    config = {**{name: {} for name in OPTIONAL_FIELDS}, **config}
    seeds = tuple(config["seeds"])
    if not seeds or len(set(seeds)) != len(seeds) or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise ValueError(f"config.seeds {seeds}: give at least one, integers from 0 up, each once, such as 0,1,2.")
    for i, fields in enumerate(config["arms"]):
        _check_fields(f"config.arms[{i}]", fields, ARM_FIELDS, (START,))
    fields_of = {fields["name"]: fields for fields in config["arms"]}
    data = {**config["data"], "digest": data_digest(config["data"])}
    bases = {name: _base_of(fields, data) for name, fields in fields_of.items()}
    baselines = _baselines(config["baseline"], [fields["name"] for fields in config["arms"]], bases)

    @functools.cache
    def generator_stage(name: str, base: Base) -> Stage:
        """The fitting of a generator on a base set."""
        fields = config["generators"][name]
        job = _load(load_config, fields["config"], "diffuse", "finetune")
        job = override(job, {"data": {**data, **dict(base)}}, fields["config"])
        return Stage("fit", override(job, fields["overrides"], f"config.generators.{name}.overrides"))

    @functools.cache
    def set_stage(name: str, base: Base, seed: int) -> Stage:
        """The drawing of a set at a seed, from a generator of a base set."""
        fields, at = config["sets"][name], f"config.sets.{name}"
        job = _load(load_config, fields["config"], "sample", "text_to_image")
        if job["task"] == "text_to_image":
            # What is drawn from text alone, with a pipeline as it is, is the same for every base set: drawn once.
            own = dict(base) if fields["generator"] or job["from_real"] else {}
            job = override(job, {"data": {**data, **own}}, fields["config"])
        job = override(job, fields["overrides"], f"{at}.overrides")
        job = {**job, "name": name, "seed": seed}
        if job["task"] == "text_to_image" and not fields["generator"]:
            return Stage("sample", job)
        generator = generator_stage(_named(f"{at}.generator", config["generators"], fields["generator"]), base)
        return Stage("sample", _drawing_from(generator, job, f"{at} draws from {fields['generator']!r}"), (generator,))

    for name, fields in config["generators"].items():
        _check_fields(f"config.generators.{name}", fields, GENERATOR_FIELDS)
        generator_stage(name, ())
    for name, fields in config["sets"].items():
        _check_fields(f"config.sets.{name}", fields, SET_FIELDS)
        if name == REAL:
            raise ValueError(f"config.sets.{name}: {name!r} is what the real images are called. Choose another name.")
        set_stage(name, (), seeds[0])

    for name, fields in config["scores"].items():
        _check_fields(f"config.scores.{name}", fields, SCORE_FIELDS)
        if name in config["domains"]:
            raise ValueError(
                f"config.scores and config.domains both have {name!r}: an arm's scores name one of either."
            )

    classifier = override(_load(load_config, config["classifier"], "classify"), {"data": data}, config["classifier"])
    laid_out: dict[tuple[str, int], Stage] = {}

    def train_stage(name: str, seed: int, on_the_way: tuple[str, ...] = ()) -> Stage:
        """The training of an arm at a seed, and of the arms whose classifiers it waits for before it."""
        if (name, seed) in laid_out:
            return laid_out[name, seed]
        if name in on_the_way:
            raise ValueError(f"config.arms: the arms {[*on_the_way, name]} wait for each other's classifiers.")
        fields = _find("config.scores.*.arm or config.arms.*.start", fields_of, name)
        job = override(classifier, fields["overrides"], f"config.arms.{name}.overrides")
        before: tuple[Stage, ...] = ()
        if fields.get(START):
            before = (train_stage(fields[START], seed, (*on_the_way, name)),)
            job = override(job, {"method": {"pretrained": before[0].name}}, config["classifier"])
        used = [_named(f"config.arms.{name}.sets", config["sets"], one) for one in fields["sets"]]
        made = [set_stage(one, bases[name], seed) for one in used]
        scores = []
        for score, one in zip(_score_names(name, job["data"]["scores"], len(made)), made, strict=False):
            where = f"config.arms.{name}.overrides.data.scores"
            scoring = _find(where, {**config["scores"], **config["domains"]}, score)
            if score in config["domains"]:
                if scoring["set"] != one.config["name"]:
                    raise ValueError(
                        f"{where} names the domain {score!r} for the set {one.config['name']!r}; it scores the set "
                        f"{scoring['set']!r}. Give each set a score of its own."
                    )
                scores.append(probe_stage("domains", score, seed, bases[name], (*on_the_way, name)))
                continue
            score_job = _load(load_config, scoring["config"], "score", "clip_score")
            score_job = override(score_job, {"set": one.name}, scoring["config"])
            score_job = override(score_job, scoring["overrides"], f"config.scores.{score}.overrides")
            if score_job["task"] == "clip_score":  # CLIP has learnt from neither
                if scoring["arm"]:
                    at = f"config.scores.{score}.arm"
                    raise ValueError(f"{at} is {scoring['arm']!r}, and CLIP is the judge. Leave the arm empty.")
                scores.append(Stage("score", score_job, (one,)))
                continue
            judge = train_stage(scoring["arm"], seed, (*on_the_way, name))
            scores.append(Stage("score", {**score_job, "checkpoint": judge.name}, (one, judge)))
        mixed = {
            **job["data"],
            "synthetic": tuple(one.name for one in made),
            "scores": tuple(one.name for one in scores),
        }
        job = {**job, "sampler": fields["sampler"] or job["sampler"], "seed": seed, "data": mixed}
        laid_out[name, seed] = Stage("train", job, (*made, *scores, *before))
        return laid_out[name, seed]

    def probe_stage(table: str, name: str, seed: int, base: Base, on_the_way: tuple[str, ...] = ()) -> Stage:
        """The look at a set of a seed and a base set, by the classifier of an arm at that seed where one is named."""
        at, fields, (kind, refer) = f"config.{table}.{name}", config[table][name], PROBES[table]
        made = set_stage(_named(f"{at}.set", config["sets"], fields["set"]), base, seed)
        job = override(_load(load_config, fields["config"], kind), {"data": {**data, **dict(base)}}, fields["config"])
        job = override(job, fields["overrides"], f"{at}.overrides")
        job = override(job, {"set": made.name}, fields["config"])
        judge = (train_stage(fields["arm"], seed, on_the_way),) if fields["arm"] else ()
        if judge:
            job = override(job, refer(judge[0].name), fields["config"])
        if "seed" in job:  # of its own training or drawing; a probe that draws nothing has none
            job = {**job, "seed": seed}
        return Stage(kind, job, (made, *judge))

    for table in PROBES:
        for name, fields in config[table].items():
            _check_fields(f"config.{table}.{name}", fields, PROBE_FIELDS, ("seeds",))
            if fields.get("seeds", "first") not in PROBE_SEEDS:
                raise ValueError(
                    f"config.{table}.{name}.seeds is {fields['seeds']!r}; allowed are {', '.join(PROBE_SEEDS)}."
                )
            if fields["arm"]:
                _find(f"config.{table}.{name}.arm", fields_of, fields["arm"])

    arms, runs = [], []
    for name, fields in fields_of.items():
        if len(set(fields["sets"])) < len(fields["sets"]):
            raise ValueError(f"config.arms.{name}.sets {fields['sets']}: name each set once; its share says how much.")
        stages = [train_stage(name, seed) for seed in seeds]
        made_by = tuple(config["sets"][one]["generator"] or one for one in fields["sets"])
        words = fields["description"]
        if fields.get(START):
            steps, first = stages[0].needs[-1].config["train"]["num_steps"], fields_of[fields[START]]["title"]
            words += f" It begins as the classifier of {first}, after the {steps:,} steps of that."
        arm = Arm(name, fields["title"], words, tuple(fields["sets"]), baselines[name], made_by)
        arms.append(arm)
        runs += [Run(arm, seed, stage) for seed, stage in zip(seeds, stages, strict=True)]
    _check_equal_work(runs)
    firsts: dict[str, Stage] = {}
    for run in (run for run in runs if run.seed == seeds[0]):
        for name, made in zip(run.arm.sets, run.stage.needs, strict=False):
            firsts.setdefault(name + base_words(made, data), made)
    probes = tuple(
        Probe(table, name, fields["set"], seed, probe_stage(table, name, seed, bases.get(fields["arm"], ())))
        for table in PROBES
        for name, fields in config[table].items()
        for seed in (seeds if fields.get("seeds") == "all" else seeds[:1])
    )
    return Experiment(
        config["name"], config["question"], arms[0].baseline, seeds, tuple(arms), tuple(runs), firsts, data, probes
    )


def _base_of(fields: Config, data: Config) -> Base:
    """What an arm's base set has other than the study's."""
    overrides = fields["overrides"].get("data", {})
    return tuple(
        (name, overrides[name]) for name in BASE_FIELDS if overrides.get(name, data.get(name)) != data.get(name)
    )


def _baselines(baseline: str | tuple[str, ...], names: list[str], bases: Mapping[str, Base]) -> dict[str, str]:
    """The arm that each arm is compared with: the one there is, or of several that of the same base set."""
    given = (baseline,) if isinstance(baseline, str) else tuple(baseline)
    if not given or not set(given) <= set(names) or len({*names}) != len(names) or len({*given}) != len(given):
        raise ValueError(f"config.baseline is {baseline!r}; it must be one of the arms {names}, each once.")
    if len(given) == 1:
        return dict.fromkeys(names, given[0])
    found = {}
    for name in names:
        of_base = [other for other in given if bases[other] == bases[name]]
        if len(of_base) != 1:
            raise ValueError(
                f"config.baseline {given} holds {of_base or 'no arm'} for the base set of the arm {name!r} "
                f"({base_text(bases[name]) or 'the one of config.data'}); allowed is one for each base set."
            )
        found[name] = of_base[0]
    return found


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


def _check_fields(section: str, fields: Config, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    unknown, missing = sorted(set(fields) - {*needed, *optional}), sorted(set(needed) - set(fields))
    if unknown or missing:
        raise ValueError(
            f"{section} has unknown fields {unknown or 'none'} and lacks {missing or 'none'}. "
            f"Allowed: {', '.join((*needed, *optional))}."
        )


def _load(load_config: Callable[[str], Config], path: str, *tasks: str) -> Config:
    job = load_config(path)
    if job.get("task") not in tasks:
        wanted = " or ".join(map(repr, tasks))
        raise ValueError(f"{path} is a configuration of task {job.get('task')!r}; one of task {wanted} belongs here.")
    return job


def _named(what: str, table: Mapping[str, Any], name: str) -> str:
    """The name, if the table has it."""
    _find(what, table, name)
    return name


def _find(what: str, table: Mapping[str, Any], name: str) -> Any:
    if name not in table:
        raise ValueError(f"{what} names {name!r}; there are {', '.join(table) or 'none'}.")
    return table[name]


def _check_equal_work(runs: list[Run]) -> None:
    work = {
        run.arm.name: (run.stage.config["train"]["num_steps"], run.stage.config["train"]["batch_size"]) for run in runs
    }
    if len(set(work.values())) > 1:
        raise ValueError(f"Arms of one comparison take the same (num_steps, batch_size); these differ: {work}.")
