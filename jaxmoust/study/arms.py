"""What an experiment runs: its arms, one training run for each arm and seed, and the stages these stand on.

An experiment file names configuration files and says in nested `overrides` what differs. Equal work (every arm takes
the same number of steps of the same batch size) is checked here, before anything runs.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jaxmoust.study.experiment import Arm, Experiment, Probe, Run
from jaxmoust.study.stages import Stage

Config = Mapping[str, Any]

FIELDS = ("task", "name", "question", "baseline", "seeds", "data", "generators", "sets", "scores", "classifier", "arms")
GENERATOR_FIELDS = ("config", "overrides")
SET_FIELDS = ("generator", "config", "overrides")
SCORE_FIELDS = ("arm", "config", "overrides")
ARM_FIELDS = ("name", "title", "description", "sets", "sampler", "overrides")

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


def expand(
    config: Config,
    load_config: Callable[[str], Config],
    override: Callable[[Config, Config, str], Config],
    data_digest: Callable[[Config], str],
) -> Experiment:
    """Lays out an experiment's configuration.

    Seeds vary a classifier's initialisation and order and a synthetic set's noise; the base set, the generators
    trained on it, and the test set stay.

    Args:
        load_config: reads `PATH[:arg]`. override: replaces nested leaves, refusing unknown ones.
        data_digest: the content address of a data section's images, written into every stage.
    Raises: ValueError: unknown or missing fields, names that refer to nothing, or arms of unequal work.
    """
    _check_fields("config", config, FIELDS, OPTIONAL_FIELDS)
    config = {**{name: {} for name in OPTIONAL_FIELDS}, **config}
    seeds = tuple(config["seeds"])
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"config.seeds {seeds}: give at least one, each once, such as 0,1,2.")
    for i, fields in enumerate(config["arms"]):
        _check_fields(f"config.arms[{i}]", fields, ARM_FIELDS)
    names = [fields["name"] for fields in config["arms"]]
    if config["baseline"] not in names or len(set(names)) != len(names):
        raise ValueError(f"config.baseline is {config['baseline']!r}; it must be one of the arms {names}, each once.")
    data = {**config["data"], "digest": data_digest(config["data"])}

    generators = {}
    for name, fields in config["generators"].items():
        _check_fields(f"config.generators.{name}", fields, GENERATOR_FIELDS)
        job = _load(load_config, fields["config"], "diffuse", "finetune")
        job = override(job, {"data": data}, fields["config"])
        generators[name] = Stage("fit", override(job, fields["overrides"], f"config.generators.{name}.overrides"))

    sets: dict[str, dict[int, Stage]] = {}
    for name, fields in config["sets"].items():
        _check_fields(f"config.sets.{name}", fields, SET_FIELDS)
        if name == REAL:
            raise ValueError(f"config.sets.{name}: {name!r} is what the real images are called. Choose another name.")
        job = _load(load_config, fields["config"], "sample", "text_to_image")
        job = override(job, fields["overrides"], f"config.sets.{name}.overrides")
        job, needs = _from_generator(name, {**job, "name": name}, fields["generator"], generators, data, override)
        sets[name] = {seed: Stage("sample", {**job, "seed": seed}, needs) for seed in seeds}

    for name, fields in config["scores"].items():
        _check_fields(f"config.scores.{name}", fields, SCORE_FIELDS)
        if name in config["domains"]:
            raise ValueError(
                f"config.scores and config.domains both have {name!r}: an arm's scores name one of either."
            )

    classifier = override(_load(load_config, config["classifier"], "classify"), {"data": data}, config["classifier"])
    fields_of = dict(zip(names, config["arms"], strict=True))
    laid_out: dict[tuple[str, int], Stage] = {}

    def train_stage(name: str, seed: int, on_the_way: tuple[str, ...] = ()) -> Stage:
        """The training of an arm at a seed, and of the arm whose classifier scores its sets before it."""
        if (name, seed) in laid_out:
            return laid_out[name, seed]
        if name in on_the_way:
            raise ValueError(f"config.scores: the arms {[*on_the_way, name]} wait for each other's classifiers.")
        fields = _find("config.scores.*.arm", fields_of, name)
        job = override(classifier, fields["overrides"], f"config.arms.{name}.overrides")
        made = [_find(f"config.arms.{name}.sets", sets, s)[seed] for s in fields["sets"]]
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
                scores.append(probe_stage("domains", score, seed, (*on_the_way, name)))
                continue
            judge = train_stage(scoring["arm"], seed, (*on_the_way, name))
            score_job = _load(load_config, scoring["config"], "score")
            score_job = override(score_job, scoring["overrides"], f"config.scores.{score}.overrides")
            scores.append(Stage("score", {**score_job, "checkpoint": judge.name, "set": one.name}, (judge, one)))
        mixed = {
            **job["data"],
            "synthetic": tuple(one.name for one in made),
            "scores": tuple(one.name for one in scores),
        }
        job = {**job, "sampler": fields["sampler"] or job["sampler"], "seed": seed, "data": mixed}
        laid_out[name, seed] = Stage("train", job, (*made, *scores))
        return laid_out[name, seed]

    def probe_stage(table: str, name: str, seed: int, on_the_way: tuple[str, ...] = ()) -> Stage:
        """The look at a set of a seed, by the classifier of an arm at that seed where one is named."""
        at, fields, (kind, refer) = f"config.{table}.{name}", config[table][name], PROBES[table]
        made = _find(f"{at}.set", sets, fields["set"])[seed]
        job = override(_load(load_config, fields["config"], kind), {"data": data}, fields["config"])
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
        arm = Arm(name, fields["title"], fields["description"], tuple(fields["sets"]))
        arms.append(arm)
        runs += [Run(arm, seed, train_stage(name, seed)) for seed in seeds]
    _check_equal_work(runs)
    firsts = {name: sets[name][seeds[0]] for arm in arms for name in arm.sets}
    probes = tuple(
        Probe(table, name, fields["set"], seed, probe_stage(table, name, seed))
        for table in PROBES
        for name, fields in config[table].items()
        for seed in (seeds if fields.get("seeds") == "all" else seeds[:1])
    )
    return Experiment(
        config["name"], config["question"], config["baseline"], seeds, tuple(arms), tuple(runs), firsts, data, probes
    )


def _from_generator(
    name: str, job: Config, generator: str, generators: Mapping[str, Stage], data: Config, override: Callable
) -> tuple[Config, tuple[Stage, ...]]:
    """Tells a sampling job which generator it draws from: (the job, the stages it needs).

    A generator inside the data set is always a stage; Stable Diffusion may be one (fine-tuned), or be drawn from as it
    is, by an empty name.
    """
    if job["task"] == "text_to_image":
        job = override(job, {"data": data}, f"config.sets.{name}.config")
        if not generator:
            return job, ()
    stage = _find(f"config.sets.{name}.generator", generators, generator)
    tasks = {"sample": "diffuse", "text_to_image": "finetune"}
    if stage.config["task"] != tasks[job["task"]]:
        raise ValueError(
            f"config.sets.{name} draws by a configuration of task {job['task']!r} from {generator!r}, which is one of "
            f"{stage.config['task']!r}: allowed is one of {tasks[job['task']]!r}."
        )
    if job["task"] == "text_to_image":
        return {**job, "pipeline": {**job["pipeline"], "path": stage.name}}, (stage,)
    return {**job, "generator": stage.name}, (stage,)


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
