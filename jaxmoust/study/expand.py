"""An experiment's file into what it runs: every table completed, its arms, and one training run for each arm and seed.

An experiment file names configuration files and says beside them what differs. Equal work (every arm takes the same
number of steps of the same batch size) is checked here, before anything runs.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxmoust.analysis.decisions import CONTROL, MIXTURE, SYNTHETIC_ALONE
from jaxmoust.analysis.looks import Rule
from jaxmoust.config import Config, Field, Schema, check_names, complete, fields, meant, merge, unpack
from jaxmoust.data.real import real_data
from jaxmoust.data.source import REAL
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.study.experiment import (
    BASE_FIELDS,
    Arm,
    Base,
    DiagnosticRun,
    Experiment,
    Run,
    base_text,
    base_words,
)
from jaxmoust.study.stage_graph import DIAGNOSTICS, IMPORTED, OWN_BASE, START, StageGraph, find
from jaxmoust.study.store import Stage

# What all of a study shares of its data: which images there are, and what they are brought to.
OF_IMAGES = ("source", "path", "classes", *BASE_FIELDS, "image_px", "channels", "validation")
DATA = {**fields(real_data, only=OF_IMAGES), **fields(Rules)}

# Table -> the tasks of its entries. An entry is a configuration: that of the file it names as `config`, with what it
# says beside that in the place of what the file says.
TABLES: Mapping[str, tuple[str, ...]] = {
    "generators": ("diffuse", "finetune"),
    "sets": ("sample", "text_to_image", IMPORTED),
    "scores": ("score", "clip_score"),
    "domains": ("domain",),
    "measures": ("measure",),
}
# What an entry has besides its configuration.
_ARM = Field("", str, "the arm whose classifier, at the same seed, scores or is compared with; '' for none")
_SEEDS = Field("first", Literal["first", "all"], "of which seeds a set is measured")
_BASE = Field(False, bool, "keeps the base set of its own data section for every arm; true where it gives one")
OWN: Mapping[str, Schema] = {
    "generators": {},
    "sets": {
        "generator": Field("", str, "what samples it: a name of generators; '' a pipeline as it is, or nothing here"),
        "title": Field("", str, "what the page calls it; '' for its name"),
    },
    "scores": {"arm": _ARM},
    "domains": {"arm": _ARM, "seeds": _SEEDS},
    "measures": {"arm": _ARM, "seeds": _SEEDS},
    "classifier": {},
}
# What a study sets in its stages itself, so that it cannot be set in an entry on the command line.
SET_BY_STUDY = {"sets": ("name", "seed"), "domains": ("seed",), "classifier": ("seed", "order_seed")}
ARM: Schema = {
    "name": Field(type=str, doc="what rows of results.csv call it"),
    "title": Field(type=str, doc="what the page calls it"),
    "description": Field("", str, "what it does, in a sentence"),
    "sets": Field((), tuple[str, ...], "the synthetic sets that it mixes in"),
    START: Field("", str, "the arm whose classifier, at the same seed, its own begins as; '' for none"),
}
STUDY: Schema = {
    "name": Field(type=str, doc="what the study is called"),
    "question": Field("", str, "what it answers"),
    "baseline": Field(
        type=str | tuple[str, ...], doc="the arm that others are compared with, or one for each base set"
    ),
    "seeds": Field((0, 1, 2), tuple[int, ...], "of what vary says; arms are compared at equal seeds"),
    "vary": Field(
        ("init", "order", "draw"),
        tuple[Literal["init", "order", "draw", "generator", "base"], ...],
        "what each seed has of its own: init(ialisation) and order of a classifier, draw: the sets' images, generator: "
        "their generators' training, base: the base set; a claim holds for what is not here as it is",
    ),
    "decide": {
        **fields(Rule),
        "families": Field(
            {}, Mapping[str, str], "arm=family by ',', of arms that are not compared with those of their kind"
        ),
    },
    "data": DATA,
}


def entry_schema(table: str, task: str, schema_of: Callable[[str], Schema]) -> Schema:
    """What an entry of a table holds ("classifier" for the one that arms share)."""
    schema = {"task": Field(type=str, doc="what the configuration is of"), **schema_of(task), **OWN[table]}
    return {**schema, OWN_BASE: _BASE} if "data" in schema and table != "classifier" else schema


def complete_study(
    config: Config,
    changes: Config,
    load: Callable[[str], dict[str, Any]],
    schema_of: Callable[[str], Schema],
) -> dict[str, Any]:
    """Completes an experiment: every generator, set, score and diagnostic a whole configuration, with all its fields.

    Args:
        config: as its file gives it. changes: nested, as the command line gives them: the last word.
        load: reads `PATH[:arg]`. schema_of: what a configuration of a task holds.
    Raises: ValueError: unknown or missing fields, or a file of another task.
    """
    names = (*STUDY, *TABLES, "classifier", "arms")
    check_names("config", config, ("task", *names))
    check_names("config", changes, names)
    if "arms" in changes:
        raise ValueError("config.arms cannot be set on the command line: arms differ in the file. Change that.")
    if "classifier" not in config:
        raise ValueError("config.classifier is missing: the configuration file of the classifier that arms train.")
    top, said = ({name: value for name, value in layer.items() if name in STUDY} for layer in (config, changes))
    study = complete(merge(top, said, STUDY), STUDY)

    def entry(table: str, at: str, given: Any, change: Any, tasks: tuple[str, ...]) -> dict[str, Any]:
        given, change = _section(given, at), _section(change, at)
        if idle := [name for name in SET_BY_STUDY.get(table, ()) if name in change]:
            raise ValueError(f"{at}.{idle[0]} would do nothing: a study sets it, by config.seeds or the entry's name.")
        path = str(change.pop("config", given.pop("config", "")))
        given.pop("config", None)
        job = load(path) if path else {}
        if table == "sets" and not path and "path" in given:  # images that lie there
            job = {"task": IMPORTED}
        task = job.get("task", given.get("task"))
        if task not in tasks:
            raise ValueError(
                f"{at} is {path or 'without a file'}, a configuration of task {task!r}; one of task "
                f"{' or '.join(map(repr, tasks))} belongs here."
            )
        schema = entry_schema(table, task, schema_of)
        for layer in ({"data": study["data"]} if "data" in schema else {}, given, change):
            job = merge(job, layer, schema)
        if OWN_BASE in schema:
            named = {name for layer in (given, change) for name in layer.get("data") or ()}
            job.setdefault(OWN_BASE, not named.isdisjoint(BASE_FIELDS))
        return complete(job, schema, at)

    tables = {}
    for table, tasks in TABLES.items():
        given, change = _entries(table, config.get(table, {})), _entries(table, changes.get(table, {}))
        if unknown := [name for name in change if name not in given]:
            hint = meant(unknown[0], given)
            raise ValueError(
                f"config.{table} has no entry {unknown[0]!r}.{hint} Allowed: {', '.join(given) or 'none'}."
            )
        tables[table] = {
            name: entry(table, f"config.{table}.{name}", of, change.get(name, {}), tasks) for name, of in given.items()
        }
    classifier = entry(
        "classifier", "config.classifier", config["classifier"], changes.get("classifier", {}), ("classify",)
    )
    arms = tuple(_arm(i, arm, schema_of("classify")) for i, arm in enumerate(config.get("arms", ())))
    return {"task": "study", **study, **tables, "classifier": classifier, "arms": arms}


def _section(given: Any, at: str) -> dict[str, Any]:
    """An entry of a table as a dict; one that is a text names its file. Raises: ValueError: it is neither."""
    if isinstance(given, str):
        return {"config": given}
    if not isinstance(given, Mapping):
        raise ValueError(f"{at} is {given!r}, expected the path of a configuration, or dict(config=PATH, ...).")
    return dict(given)


def _entries(table: str, given: Any) -> Config:
    if not isinstance(given, Mapping):
        raise ValueError(f"config.{table} is {given!r}; it has entries by name: set config.{table}.NAME.FIELD.")
    return given


def _arm(i: int, given: Any, classifier: Schema) -> dict[str, Any]:
    """An arm's own fields, and what differs of the classifier; that is checked where it is put together."""
    at, sections = f"config.arms[{i}]", {name for name, part in classifier.items() if not isinstance(part, Field)}
    if not isinstance(given, Mapping):
        raise ValueError(f"{at} is {given!r}, expected dict(name=..., title=..., ...what differs...).")
    check_names(at, given, (*ARM, *sorted(sections)))
    if wrong := [name for name in given if name in sections and not isinstance(given[name], Mapping)]:
        raise ValueError(f"{at}.{wrong[0]} is {given[wrong[0]]!r}; it has fields: dict(FIELD=...).")
    own = {name: value for name, value in given.items() if name in ARM}
    return {**complete(own, ARM, at), **{name: value for name, value in given.items() if name in sections}}


def expand(
    config: Config,
    schema_of: Callable[[str], Schema],
    identify: Callable[[Config], Mapping[str, Any]],
    named: Callable[[str], object] = str,
) -> Experiment:
    """Lays out an experiment's complete configuration.

    Seeds vary what config.vary says; the rest and the test set stay. A study until it is decided is laid out for as
    many seeds as an arm may have. An arm may change the base set's fields of its data: the generators of its
    sets are then trained on that base set (unless they say their own), and diagnostics of its sets compare with it. A
    study of several base sets names a baseline for each.

    Args:
        schema_of: what a configuration of a task holds.
        identify: what tells a stage's configuration from another: itself, and the content of what it names.
        named: is told the name of each stage, before a configuration refers to it.
    Raises: ValueError: names that refer to nothing, or arms of unequal work.
    """
    _check_names(config)
    decided, data = dict(config["decide"]), config["data"]
    families = decided.pop("families")
    rule = unpack("decide", Rule, decided)
    seeds = _all_seeds(config["seeds"], rule)
    sections = {arm["name"]: arm for arm in config["arms"]}
    bases = {name: _base_of(section, data) for name, section in sections.items()}
    baselines = _baselines(config["baseline"], [arm["name"] for arm in config["arms"]], bases)
    graph = StageGraph(config, bases, schema_of, identify, named)
    for name in config["generators"]:  # those, too, that no arm asks for: what is wrong with one is said
        graph.generator(name, (), seeds[0])
    for name in config["sets"]:
        graph.sampling(name, (), seeds[0])

    arms, runs = [], []
    for name, section in sections.items():
        stages = [graph.classifier(name, seed) for seed in seeds]
        generators = tuple(config["sets"][one]["generator"] or one for one in section["sets"])
        words = section["description"]
        if section[START]:
            steps, first = stages[0].needs[-1].config["train"]["num_steps"], sections[section[START]]["title"]
            words += f" It begins as the classifier of {first}, after the {steps:,} steps of that."
        family = families.get(name) or _family(section)
        arm = Arm(name, section["title"], words, section["sets"], baselines[name], generators, family)
        arms.append(arm)
        runs += [Run(arm, seed, stage) for seed, stage in zip(seeds, stages, strict=True)]
    _check_equal_work(runs)
    _check_vary(config["vary"], arms, runs)
    pictured: dict[str, Stage] = {}
    for run in (run for run in runs if run.seed == seeds[0]):
        for name, sampled in zip(run.arm.sets, run.stage.needs, strict=False):
            pictured.setdefault(name + base_words(sampled, data), sampled)
    diagnostics = tuple(
        DiagnosticRun(table, name, one["set"], seed, graph.diagnostic(table, name, seed, bases.get(one["arm"], ())))
        for table in DIAGNOSTICS
        for name, one in config[table].items()
        for seed in (seeds if one["seeds"] == "all" else seeds[:1])
    )
    return Experiment(
        config["name"],
        config["question"],
        arms[0].baseline,
        seeds,
        tuple(arms),
        tuple(runs),
        pictured,
        data,
        diagnostics,
        rule,
        config["vary"],
    )


def _all_seeds(seeds: tuple[int, ...], rule: Rule) -> tuple[int, ...]:
    """The seeds that a study may come to: those given, or of one until it is decided, as many as an arm may have."""
    if not rule.until_decided:
        return seeds
    further = range(max(seeds) + 1, max(seeds) + 1 + max(rule.most_seeds - len(seeds), 0))
    return (*seeds, *further)[: rule.most_seeds]


def _family(arm: Config) -> str:
    """What an arm is: a control without synthetic images, one of these alone, or a mixture."""
    if not arm["sets"]:
        return MIXTURE if arm[START] else CONTROL  # what begins as a classifier of synthetic images
    shares = arm.get("sampler", {}).get("shares")
    return SYNTHETIC_ALONE if shares and not shares.get(REAL) else MIXTURE


def _check_vary(vary: tuple[str, ...], arms: list[Arm], runs: list[Run]) -> None:
    """Refuses what leaves an arm that is a baseline one and the same run at every seed: it would have no spread."""
    for arm in arms:
        names = [run.stage.name for run in runs if run.arm is arm]
        if arm.baseline == arm.name and len({*names}) < len(names):
            raise ValueError(
                f"config.vary {vary} leaves {arm.name!r}, which others are compared with, the same at several seeds. "
                "Add what varies it: init, order or base."
            )


def _check_names(config: Config) -> None:
    """Checks the seeds and the names of the tables; what they refer to is found as it is laid out."""
    seeds = config["seeds"]
    if len(set(config["vary"])) < len(config["vary"]):
        raise ValueError(f"config.vary {config['vary']}: name each thing once.")
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise ValueError(f"config.seeds {seeds}: give at least one, integers from 0 up, each once, such as 0,1,2.")
    if not config["arms"]:
        raise ValueError("config.arms is empty: give at least one, the baseline.")
    for arm in config["arms"]:
        if len(set(arm["sets"])) < len(arm["sets"]):
            at = f"config.arms.{arm['name']}.sets"
            raise ValueError(f"{at} {arm['sets']}: name each set once; its share says how much.")
    if REAL in config["sets"]:
        raise ValueError(f"config.sets.{REAL}: {REAL!r} is what the real images are called. Choose another name.")
    if both := sorted(set(config["scores"]) & set(config["domains"])):
        raise ValueError(f"config.scores and config.domains both have {both[0]!r}: an arm's scores name one of either.")
    names = {arm["name"]: arm for arm in config["arms"]}
    for name in config["decide"]["families"]:
        find("config.decide.families", names, name)
    for table in DIAGNOSTICS:
        for name, one in config[table].items():
            if one["arm"]:
                find(f"config.{table}.{name}.arm", names, one["arm"])


def _base_of(arm: Config, data: Config) -> Base:
    """What an arm's base set has other than the study's."""
    own = arm.get("data", {})
    return tuple((name, own[name]) for name in BASE_FIELDS if own.get(name, data[name]) != data[name])


def _baselines(baseline: str | tuple[str, ...], names: list[str], bases: Mapping[str, Base]) -> dict[str, str]:
    """The arm that each arm is compared with: the one there is, or of several that of the same base set."""
    given = (baseline,) if isinstance(baseline, str) else tuple(baseline)
    if not given or not set(given) <= set(names) or len({*names}) != len(names) or len({*given}) != len(given):
        raise ValueError(f"config.baseline is {baseline!r}; it must be one of the arms {names}, each once.")
    if len(given) == 1:
        return dict.fromkeys(names, given[0])
    baselines = {}
    for name in names:
        of_base = [other for other in given if bases[other] == bases[name]]
        if len(of_base) != 1:
            raise ValueError(
                f"config.baseline {given} holds {of_base or 'no arm'} for the base set of the arm {name!r} "
                f"({base_text(bases[name]) or 'the one of config.data'}), expected one for each base set."
            )
        baselines[name] = of_base[0]
    return baselines


def _check_equal_work(runs: list[Run]) -> None:
    work = {
        run.arm.name: (run.stage.config["train"]["num_steps"], run.stage.config["train"]["batch_size"]) for run in runs
    }
    if len(set(work.values())) > 1:
        raise ValueError(f"Arms of one comparison take the same (num_steps, batch_size); these differ: {work}.")
