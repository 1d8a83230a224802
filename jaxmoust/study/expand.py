"""What an experiment runs: its arms, one training run for each arm and seed, and the stages these stand on.

An experiment file names configuration files and says in nested `overrides` what differs. Equal work (every arm takes
the same number of steps of the same batch size) is checked here, before anything runs.
"""

from collections.abc import Callable, Mapping

from jaxmoust.study.experiment import BASE_FIELDS, Arm, Base, Config, Experiment, Probe, Run, base_text, base_words
from jaxmoust.study.stage_graph import PROBES, START, Layout, find
from jaxmoust.study.store import Stage

FIELDS = ("task", "name", "question", "baseline", "seeds", "data", "generators", "sets", "scores", "classifier", "arms")
GENERATOR_FIELDS = ("config", "overrides")
SET_FIELDS = ("generator", "config", "overrides")
SCORE_FIELDS = ("arm", "config", "overrides")
ARM_FIELDS = ("name", "title", "description", "sets", "sampler", "overrides")
PROBE_FIELDS = ("set", "arm", "config", "overrides")
PROBE_SEEDS = ("first", "all")
OPTIONAL_FIELDS = tuple(PROBES)

# What the real images are called in every pool.
REAL = "real"


def expand(
    config: Config,
    load_config: Callable[[str], Config],
    override: Callable[[Config, Config, str], Config],
    data_digest: Callable[[Config], str],
    content_digest: Callable[[str], str],
) -> Experiment:
    """Lays out an experiment's configuration.

    Seeds vary a classifier's initialisation and order and a synthetic set's noise; the base set, the generators
    trained on it, and the test set stay. An arm may override the base set's fields of its data: the generators of its
    sets are then trained on that base set (unless their own overrides say otherwise), and looks at its sets compare
    with it. A study of several base sets names a baseline for each.

    Args:
        load_config: reads `PATH[:arg]`. override: replaces nested leaves, refusing unknown ones.
        data_digest: the content address of a data section's images, written into every stage.
        content_digest: the content address of a file, or of a folder of files; "" of what is no path here.
    Raises: ValueError: unknown or missing fields, names that refer to nothing, or arms of unequal work.
    """
    _check_fields("config", config, FIELDS, OPTIONAL_FIELDS)
    config = {**{name: {} for name in OPTIONAL_FIELDS}, **config}
    _check_tables(config)
    seeds = tuple(config["seeds"])
    fields_of = {fields["name"]: fields for fields in config["arms"]}
    data = {**config["data"], "digest": data_digest(config["data"])}
    bases = {name: _base_of(fields, data) for name, fields in fields_of.items()}
    baselines = _baselines(config["baseline"], [fields["name"] for fields in config["arms"]], bases)
    layout = Layout(config, data, bases, load_config, override, content_digest)
    for name in config["generators"]:  # those, too, that no arm asks for: what is wrong with one is said
        layout.generator(name, ())
    for name in config["sets"]:
        layout.drawing(name, (), seeds[0])

    arms, runs = [], []
    for name, fields in fields_of.items():
        stages = [layout.classifier(name, seed) for seed in seeds]
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
        Probe(table, name, fields["set"], seed, layout.probe(table, name, seed, bases.get(fields["arm"], ())))
        for table in PROBES
        for name, fields in config[table].items()
        for seed in (seeds if fields.get("seeds") == "all" else seeds[:1])
    )
    return Experiment(
        config["name"], config["question"], arms[0].baseline, seeds, tuple(arms), tuple(runs), firsts, data, probes
    )


def _check_tables(config: Config) -> None:
    """Checks the seeds, and which fields and names the tables have; what they refer to is found as it is laid out."""
    seeds = tuple(config["seeds"])
    if not seeds or len(set(seeds)) != len(seeds) or not all(isinstance(seed, int) and seed >= 0 for seed in seeds):
        raise ValueError(f"config.seeds {seeds}: give at least one, integers from 0 up, each once, such as 0,1,2.")
    for i, fields in enumerate(config["arms"]):
        _check_fields(f"config.arms[{i}]", fields, ARM_FIELDS, (START,))
        at, used = f"config.arms.{fields['name']}.sets", fields["sets"]
        if len(set(used)) < len(used):
            raise ValueError(f"{at} {used}: name each set once; its share says how much.")
    for name, fields in config["generators"].items():
        _check_fields(f"config.generators.{name}", fields, GENERATOR_FIELDS)
    for name, fields in config["sets"].items():
        _check_fields(f"config.sets.{name}", fields, SET_FIELDS)
        if name == REAL:
            raise ValueError(f"config.sets.{name}: {name!r} is what the real images are called. Choose another name.")
    for name, fields in config["scores"].items():
        _check_fields(f"config.scores.{name}", fields, SCORE_FIELDS)
        if name in config["domains"]:
            raise ValueError(
                f"config.scores and config.domains both have {name!r}: an arm's scores name one of either."
            )
    names = {fields["name"]: fields for fields in config["arms"]}
    for table in PROBES:
        for name, fields in config[table].items():
            at = f"config.{table}.{name}"
            _check_fields(at, fields, PROBE_FIELDS, ("seeds",))
            if fields.get("seeds", "first") not in PROBE_SEEDS:
                raise ValueError(f"{at}.seeds is {fields['seeds']!r}; allowed are {', '.join(PROBE_SEEDS)}.")
            if fields["arm"]:
                find(f"{at}.arm", names, fields["arm"])


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


def _check_fields(section: str, fields: Config, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    unknown, missing = sorted(set(fields) - {*needed, *optional}), sorted(set(needed) - set(fields))
    if unknown or missing:
        raise ValueError(
            f"{section} has unknown fields {unknown or 'none'} and lacks {missing or 'none'}. "
            f"Allowed: {', '.join((*needed, *optional))}."
        )


def _check_equal_work(runs: list[Run]) -> None:
    work = {
        run.arm.name: (run.stage.config["train"]["num_steps"], run.stage.config["train"]["batch_size"]) for run in runs
    }
    if len(set(work.values())) > 1:
        raise ValueError(f"Arms of one comparison take the same (num_steps, batch_size); these differ: {work}.")
