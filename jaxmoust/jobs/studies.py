"""The job of a study: every stage of an experiment planned and checked, then computed or found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust import build
from jaxmoust.build import Config, RealData
from jaxmoust.data.pool import Pool
from jaxmoust.data.source import digest_files
from jaxmoust.data.sources import registry as sources
from jaxmoust.jobs.classifiers import OPTIONAL_SET_FIELDS, evaluate, plan_score, plan_train, score, train
from jaxmoust.jobs.clip_scores import plan_clip_score, read_clip
from jaxmoust.jobs.cross_scores import check_trained
from jaxmoust.jobs.domain import domain_gap, plan_domain
from jaxmoust.jobs.external import merge, plan_external
from jaxmoust.jobs.generators import SAMPLE_SECTIONS, fit_generator, import_generator, make_spec, plan_fit, sample
from jaxmoust.jobs.job import BadInput, Resolve, open_real_data, run
from jaxmoust.jobs.measure import measure, plan_measure
from jaxmoust.report import findings, index
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder, digest, environment
from jaxmoust.study import dry_run as plan
from jaxmoust.study import expand
from jaxmoust.study.runner import conduct, make_row
from jaxmoust.study.store import Stage, Store, in_order

JOBS = {
    "fit": fit_generator,
    "import": import_generator,
    "merge": merge,
    "sample": sample,
    "train": train,
    "evaluate": evaluate,
    "score": score,
    "measure": measure,
    "domain": domain_gap,
}

# What refuses a probe's configuration before anything runs: `plan(config, machine, open_real)`, by kind of stage.
PLANS: dict[str, Callable] = {"domain": plan_domain, "measure": plan_measure}


def study(
    config: Config, workdir: Path, store_path: Path, command: str, dry_run: bool = False
) -> findings.Page | plan.Plan:
    """Runs an experiment and prints its table (verb `study`); or, dry, prints what it would run and writes nothing.

    Raises: BadInput: an experiment that cannot be laid out; nothing was written.
    """

    def compute(kind: str, stage_config: Config, stage_folder: Path, resolve: Resolve) -> dict:
        return run(JOBS[kind], stage_config, stage_folder, resolve)

    machine = parallel.Machine.all()
    store = Store(store_path, compute, machine.primary, lambda flag: machine.any(machine.primary and flag))
    config = build.plain(config)
    try:
        experiment = expand.expand(config, build.load_config, build.override, _data_digest, content_digest)
        real = build.unpack("data", build.real_data, experiment.data)
        store.check_folder()
        for run_of_arm in experiment.runs:
            make_row(experiment, run_of_arm, store)  # refuses a result.json that is none
        todo = [stage for stage in experiment.stages if store.find(stage) is None]
        if todo and machine.primary:
            store.check_folder(writable=True)
        _check_stages(todo, machine)
        if dry_run:
            RunFolder.check(workdir, config)
            planned = plan.make_plan(experiment, store, machine.description)
            print(plan.plan_text(planned))
            return planned
        folder = RunFolder.open(workdir, config, environment(machine.description), primary=machine.primary)
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e

    page = conduct(experiment, store, folder.path, (real.base, real.test, real.shape), command, config)
    print(findings.table_text(page))
    print(folder.path / "results.csv", folder.path / "report" / "index.html", sep="\n")
    return page


def index_studies(folder: Path) -> Path:
    """Writes the index of the studies of a folder (verb `study` with --index) and returns its path.

    Raises: BadInput: no study is there, or an index.html that is not ours.
    """
    try:
        return index.write_index(folder)
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e


def _check_stages(stages: list[Stage], machine: parallel.Machine) -> None:
    """Refuses now what a stage's job would refuse only when its turn comes, which may be hours later."""
    opened: dict[str, RealData] = {}
    planned: dict[str, Any] = {}

    def open_real(data: Config) -> RealData:
        name = digest(data)
        if name not in opened:
            opened[name] = open_real_data(data)
        return opened[name]

    def plan_tuning(config: Config) -> Any:
        """Plans a fine-tuning once, for itself and for every set that is drawn with it: its gradient is traced."""
        name = digest(config)
        if name not in planned:
            planned[name] = _plan_pipeline(config, machine, open_real)
        return planned[name]

    def read_by_clip(config: Config, data: Config) -> None:
        """Opens CLIP and its prompts once, whichever sets it will score."""
        name = digest([config, data])
        if name not in planned:
            planned[name] = read_clip(config, open_real(data).base.class_names)

    def read_start(stage: Stage, training: build.Training) -> None:
        """Reads the public checkpoint that a training starts from once, whatever arms and seeds start from it."""
        path = training.task.pretrained
        name = digest([path, stage.config["model"]])
        if path and name not in planned and not any(need.kind == "train" for need in stage.needs):
            planned[name] = training.task.warm_start() is not None

    for stage in stages:
        config = stage.config
        if stage.kind == "fit" and config["task"] == "finetune":
            plan_tuning(config)
        elif stage.kind == "fit":
            plan_fit(config, machine, open_real)
        elif stage.kind == "sample" and config["task"] == "text_to_image":
            _check_external(stage, plan_tuning, open_real)
        elif stage.kind == "sample":
            build.check_sections(config, SAMPLE_SECTIONS, "sample")
            real, fitted = plan_fit(stage.needs[0].config, machine, open_real)
            sampling = build.make_sampling(config["sample"], fitted.task.method, fitted.task.label_dropout)
            make_spec(config, sampling, "", real.base.class_names, real.shape)
        elif stage.kind == "score" and config["task"] == "clip_score":
            plan_clip_score(config, machine)
            made = stage.needs[0]
            read_by_clip(
                {**config, "set": ""}, (made.config if "data" in made.config else made.needs[0].config)["data"]
            )
        elif stage.kind == "score":
            _check_score(stage, machine)
        elif stage.kind == "train":
            real, training = plan_train(config, machine, open_real)
            _check_train(stage, real, training)
            read_start(stage, training)
        else:
            PLANS[stage.kind](config, machine, open_real)
            _check_probe(stage)


def _plan_pipeline(config: Config, machine: parallel.Machine, open_real: Callable[[Config], RealData]) -> Any:
    """Plans a fine-tuning; imported here, as diffusers takes seconds to import, which no other study should pay."""
    from jaxmoust.jobs.tuning import plan_pipeline

    return plan_pipeline(config, machine, open_real)


def _check_external(stage: Stage, plan_tuning: Callable[[Config], Any], open_real: Callable) -> None:
    """Checks what is asked of a pipeline; of one that is yet to be fine-tuned, by the one it starts from."""
    from jaxmoust.jobs.pipelines import open_pipeline

    config = stage.config
    if stage.needs:
        plan = plan_tuning(stage.needs[0].config)
        loaded, words = plan.loaded, plan.words
    else:
        loaded, words = open_pipeline(config["pipeline"]), {}
    plan_external(config, loaded, words, open_real)


def _check_score(stage: Stage, machine: parallel.Machine) -> None:
    """Checks a scoring, and that neither the arm whose classifier scores, nor what that began as, mixes the set in."""
    plan_score(stage.config, machine)
    drawn = _drawn_as(stage.needs[0])
    judges = [need for need in in_order([stage]) if need.kind == "train"]
    if any(need.kind == "sample" and _drawn_as(need) == drawn for judge in judges for need in judge.needs):
        if stage.config["folds"]:  # the arm is trained anew, without what it judges
            check_trained(stage.needs[1].config)
        else:
            raise ValueError(
                "config.scores: the classifier of an arm that trains on a set is to score that very set, or one that "
                "was drawn alike, of which it knows what it remembers. Let an arm score that trains on real images "
                "only, or cross-fit: overrides=dict(folds=2)."
            )


def _drawn_as(made: Stage) -> dict:
    """What the images of a set depend on, but for how many there are."""
    return {name: value for name, value in made.config.items() if name not in ("name", "num_images", "shard_images")}


def _check_probe(stage: Stage) -> None:
    """Checks that the classifier whose features a domain gap is drawn in, and what that began as, know no set."""
    judges = [need for need in in_order([stage]) if need.kind == "train"]
    if stage.kind == "domain" and any(judge.config["data"]["synthetic"] for judge in judges):
        raise ValueError(
            "config.domains: the arm of a domain gap trains on synthetic images, or begins as one that does; allowed "
            "is one that knows real images alone. Name the baseline, or none."
        )


def _check_train(stage: Stage, real: RealData, training: build.Training) -> None:
    """Builds the sampler of a training stage over the labels that its sets will have, with scores made up."""
    config, recipe = stage.config, training.recipe
    for first in (need for need in stage.needs if need.kind == "train"):
        if first.config["model"] != config["model"]:
            raise ValueError(
                f"config.arms: an arm of the network {config['model']} is to begin as the classifier of one of "
                f"{first.config['model']}; allowed is one of the same network. Override the model of both or of none."
            )
    data = {**OPTIONAL_SET_FIELDS, **config["data"]}
    n_synthetic, num_classes = data["n_synthetic"], len(real.base.class_names)
    level = build.threshold(data["keep_above"], num_classes)
    highest = 0.9 if level is None else max(0.9, level + 1.0)  # a filter leaves something: how much nobody knows yet
    labels, made_up = {"real": real.base.labels}, {}
    for made in (need for need in stage.needs if need.kind == "sample"):
        name, size = made.config["name"], made.config["num_images"]
        build.check_set_size(name, n_synthetic, size)
        labels[name] = np.arange(n_synthetic or size) % num_classes
        for scoring in (
            need for need in stage.needs if need.kind in ("score", "domain") and need.config["set"] == made.name
        ):
            # Margins may be negative, the others lie in 0..1; density ratios are positive.
            low = -1.0 if scoring.config.get("score") == "margin" else 0.1
            made_up[name] = np.linspace(low, highest, labels[name].size)
    pool = Pool.from_labels(labels, real.base.class_names)
    pool = build.filtered(pool, data["drop_lowest"], data["drop_per_class"], made_up, data["keep_above"])
    build.make_sampler(config["sampler"], pool, config["seed"], recipe.num_steps * recipe.batch_size, made_up)


def _data_digest(data: Config) -> str:
    fields = {name: data.get(name, "") for name in ("path", "classes")}
    return sources.open_source(data.get("source", ""), "train", **fields).digest


def content_digest(path: str) -> str:
    """The content address of a file, or of a folder's files but hidden ones; "" where nothing lies: of a hub's name."""
    here = Path(path).expanduser()
    names = sorted(str(file.relative_to(here)) for file in here.rglob("*") if file.is_file()) if here.is_dir() else [""]
    names = [name for name in names if not any(part.startswith(".") for part in Path(name).parts)]
    files = [here / name for name in names]
    return digest_files(files, *(name.encode() for name in names)) if here.exists() else ""
