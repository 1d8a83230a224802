"""An experiment's file into what it runs: every table completed, its arms, and one training run for each arm and seed.

An experiment file names configuration files and says beside them what differs. Equal work (every arm takes the same
number of steps of the same batch size) is checked here, before anything runs.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from jaxmoust.config import Config, Field, Schema, check_names, complete, fields, merge
from jaxmoust.data.real import real_data
from jaxmoust.data.source import REAL
from jaxmoust.study.experiment import BASE_FIELDS, Arm, Base, Experiment, Probe, Run, base_text, base_words
from jaxmoust.study.stage_graph import PROBES, START, StageGraph, find
from jaxmoust.study.store import Stage

# What all of a study shares of its data: which images there are, and what they are brought to.
DATA = fields(real_data, only=("source", "path", "classes", *BASE_FIELDS, "image_px", "channels"))

# Table -> the tasks of its entries. An entry is a configuration: that of the file it names as `config`, with what it
# says beside that in the place of what the file says.
TABLES: Mapping[str, tuple[str, ...]] = {
    "generators": ("diffuse", "finetune"),
    "sets": ("sample", "text_to_image"),
    "scores": ("score", "clip_score"),
    "domains": ("domain",),
    "measures": ("measure",),
}
# What an entry has besides its configuration.
_ARM = Field("", str, "the arm whose classifier, at the same seed, scores or is drawn; '' for none")
_SEEDS = Field("first", Literal["first", "all"], "of which seeds a set is measured")
OWN: Mapping[str, Schema] = {
    "generators": {},
    "sets": {"generator": Field("", str, "what samples it: a name of generators; '' a pipeline as it is")},
    "scores": {"arm": _ARM},
    "domains": {"arm": _ARM, "seeds": _SEEDS},
    "measures": {"arm": _ARM, "seeds": _SEEDS},
}
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
    "seeds": Field((0, 1, 2), tuple[int, ...], "of initialisation, order and the sets' noise"),
    "data": DATA,
}


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
    top = {name: value for name, value in config.items() if name not in (*TABLES, "classifier", "arms")}
    said = {name: value for name, value in changes.items() if name not in (*TABLES, "classifier", "arms")}
    check_names("config", (*config, *changes), ("task", *STUDY, *TABLES, "classifier", "arms"))
    done = complete(merge({k: v for k, v in top.items() if k != "task"}, said, STUDY), STUDY)

    def entry(at: str, given: Any, change: Any, tasks: tuple[str, ...], own: Schema) -> dict[str, Any]:
        given = {"config": given} if isinstance(given, str) else dict(given)
        change = {"config": str(change)} if isinstance(change, str) else dict(change)
        path = str(change.pop("config", given.pop("config", "")))
        given.pop("config", None)
        job = load(path) if path else {}
        task = job.get("task", given.get("task"))
        if task not in tasks:
            raise ValueError(
                f"{at} is {path or 'without a file'}, a configuration of task {task!r}; one of task "
                f"{' or '.join(map(repr, tasks))} belongs here."
            )
        schema = {"task": Field(type=str), **schema_of(task), **own}
        shared = {"data": done["data"]} if "data" in schema else {}
        for layer in (shared, given, change):
            job = merge(job, layer, schema)
        return complete(job, schema, at)

    for table, tasks in TABLES.items():
        given, change = config.get(table, {}), changes.get(table, {})
        if not isinstance(change, Mapping) or (unknown := [name for name in change if name not in given]):
            named = change if isinstance(change, str) else unknown[0]
            raise ValueError(f"config.{table} has no entry {named!r}. Allowed: {', '.join(given) or 'none'}.")
        done[table] = {
            name: entry(f"config.{table}.{name}", of, change.get(name, {}), tasks, OWN[table])
            for name, of in given.items()
        }
    if "classifier" not in config:
        raise ValueError("config.classifier is missing: the configuration file of the classifier that arms train.")
    done["classifier"] = entry(
        "config.classifier", config["classifier"], changes.get("classifier", {}), ("classify",), {}
    )
    if "arms" in changes:
        raise ValueError("config.arms cannot be set on the command line: arms differ in the file. Change that.")
    done["arms"] = tuple(_arm(i, fields, schema_of("classify")) for i, fields in enumerate(config.get("arms", ())))
    return {"task": "study", **done}


def _arm(i: int, given: Config, classifier: Schema) -> dict[str, Any]:
    """An arm's own fields, and what differs of the classifier; that is checked where it is put together."""
    differs = {name: value for name, value in given.items() if name in classifier and value is not None}
    own = {name: value for name, value in given.items() if name not in classifier}
    return {**complete(own, ARM, f"config.arms[{i}]"), **differs}


def expand(
    config: Config,
    schema_of: Callable[[str], Schema],
    identify: Callable[[Config], Mapping[str, Any]],
    named: Callable[[str], object] = str,
) -> Experiment:
    """Lays out an experiment's complete configuration.

    Seeds vary a classifier's initialisation and order and a synthetic set's noise; the base set, the generators
    trained on it, and the test set stay. An arm may change the base set's fields of its data: the generators of its
    sets are then trained on that base set (unless they say their own), and diagnostics of its sets compare with it. A
    study of several base sets names a baseline for each.

    Args:
        schema_of: what a configuration of a task holds.
        identify: what tells a stage's configuration from another: itself, and the content of what it names.
        named: is told the name of each stage, before a configuration refers to it.
    Raises: ValueError: names that refer to nothing, or arms of unequal work.
    """
    _check_names(config)
    seeds, data = config["seeds"], config["data"]
    arms_of = {fields["name"]: fields for fields in config["arms"]}
    bases = {name: _base_of(fields, data) for name, fields in arms_of.items()}
    baselines = _baselines(config["baseline"], [fields["name"] for fields in config["arms"]], bases)
    graph = StageGraph(config, bases, schema_of, identify, named)
    for name in config["generators"]:  # those, too, that no arm asks for: what is wrong with one is said
        graph.generator(name, ())
    for name in config["sets"]:
        graph.sampling(name, (), seeds[0])

    arms, runs = [], []
    for name, of_arm in arms_of.items():
        stages = [graph.classifier(name, seed) for seed in seeds]
        generators = tuple(config["sets"][one]["generator"] or one for one in of_arm["sets"])
        words = of_arm["description"]
        if of_arm[START]:
            steps, first = stages[0].needs[-1].config["train"]["num_steps"], arms_of[of_arm[START]]["title"]
            words += f" It begins as the classifier of {first}, after the {steps:,} steps of that."
        arm = Arm(name, of_arm["title"], words, of_arm["sets"], baselines[name], generators)
        arms.append(arm)
        runs += [Run(arm, seed, stage) for seed, stage in zip(seeds, stages, strict=True)]
    _check_equal_work(runs)
    firsts: dict[str, Stage] = {}
    for run in (run for run in runs if run.seed == seeds[0]):
        for name, sampled in zip(run.arm.sets, run.stage.needs, strict=False):
            firsts.setdefault(name + base_words(sampled, data), sampled)
    probes = tuple(
        Probe(table, name, of_probe["set"], seed, graph.probe(table, name, seed, bases.get(of_probe["arm"], ())))
        for table in PROBES
        for name, of_probe in config[table].items()
        for seed in (seeds if of_probe["seeds"] == "all" else seeds[:1])
    )
    return Experiment(
        config["name"], config["question"], arms[0].baseline, seeds, tuple(arms), tuple(runs), firsts, data, probes
    )


def _check_names(config: Config) -> None:
    """Checks the seeds and the names of the tables; what they refer to is found as it is laid out."""
    seeds = config["seeds"]
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
    for table in PROBES:
        for name, probe in config[table].items():
            if probe["arm"]:
                find(f"config.{table}.{name}.arm", names, probe["arm"])


def _base_of(fields: Config, data: Config) -> Base:
    """What an arm's base set has other than the study's."""
    own = fields.get("data", {})
    return tuple((name, own[name]) for name in BASE_FIELDS if own.get(name, data[name]) != data[name])


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


def _check_equal_work(runs: list[Run]) -> None:
    work = {
        run.arm.name: (run.stage.config["train"]["num_steps"], run.stage.config["train"]["batch_size"]) for run in runs
    }
    if len(set(work.values())) > 1:
        raise ValueError(f"Arms of one comparison take the same (num_steps, batch_size); these differ: {work}.")
