"""Verb `study`, task `study`: runs an experiment: every arm at every seed, then the page

Leaves results.csv (the runs), report/index.html and report/summary.csv (the arms) in --workdir; finished stages go to
--store (default: stages/ beside --workdir), are named by what they depend on, and are found again by this study and the
next. Several studies may run on one store, each in a --workdir of its own: each stage is computed by one of them. If a
stage fails, only stages that need it are left out; the same command tries it again. --dry-run says what would be run,
how long that takes, and which differences it can show.

--until-decided evaluates the arms after 3, 5, 7, ... seeds (config.decide). Those that are better, worse or equivalent
within the margin get no more; the others go on, up to --most_seeds. --budget=2h ends it in time; arms that are left are
undecided, and the same command goes on.

--workers=N computes N stages at once, in processes that share out the devices: by default one for each GPU or chip of a
TPU, and on other machines this process alone. --engine=ray and --engine=slurm compute stages on a cluster, with what
--resources=FILE says for each kind; docs/cluster.md has examples.

--index=FOLDER lists the studies below a folder on one page, each with its answer; a study writes that of the folder it
lies in by itself. --compare FIRST SECOND writes a page of two studies side by side, in the first one's report/.

  jaxmoust study --config=experiments/quickstart.py --workdir=runs/quickstart
  jaxmoust study --config=experiments/quickstart.py --workdir=runs/five_seeds --config.seeds=0,1,2,3,4 --dry-run
  jaxmoust study --config=experiments/quickstart.py --workdir=runs/longer --config.generators.edm.train.num_steps=3000
  jaxmoust study --config=experiments/quickstart.py --workdir=runs/decided --until-decided --budget=2h
  jaxmoust study --index=runs
  jaxmoust study --compare runs/quickstart runs/five_seeds
"""

import argparse
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxmoust.analysis.metrics import check_decidable
from jaxmoust.config import Config, Schema, read_config
from jaxmoust.jobs.parts import engines
from jaxmoust.jobs.parts.configure import TASK
from jaxmoust.jobs.parts.inputs import Inputs, Output
from jaxmoust.jobs.parts.job import (
    PLACES,
    Job,
    check_apart,
    check_free,
    check_on_disk,
    check_shared,
    do,
    folder_at,
    open_alone,
    refusals,
)
from jaxmoust.jobs.parts.registry import BadInput, job_of, schema_of
from jaxmoust.report import findings, index
from jaxmoust.report.numbers import seconds_text
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder, digest, identity
from jaxmoust.runtime.paths import refuse_url
from jaxmoust.study.bucket_store import store_at
from jaxmoust.study.dry_run import dry_run, expected
from jaxmoust.study.engines.loop import Engine
from jaxmoust.study.expand import STUDY, TABLES, complete_study, entry_schema, expand
from jaxmoust.study.runner import conduct, make_row
from jaxmoust.study.store import Stage, in_order
from jaxmoust.study.until import ENDLESS, Budget, read_budget

HERE = engines.Place()
SMALL_GPU_BYTES = 16e9  # of a T4, a V100, a core of a TPU v3
_FEWER = "a smaller train.batch_size, more optim.micro_batches,"
_LESS = {  # what needs less memory, of each kind of stage
    "fit": f"{_FEWER} pipeline.remat=True or method.precompute=True",
    "train": f"{_FEWER} or method.learn 'lora' or 'probe'",
    "sample": "a smaller sample.per_device_batch or sample.image_px, or pipeline.dtype and param_dtype 'bfloat16'",
    "features": "a smaller eval.batch_size",
}


class StudyFailed(RuntimeError):
    """Some stages could not be computed; everything that does not need them was, and the page says what is missing."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes besides --config and --workdir."""
    parser.add_argument("--store", default="", help="where finished stages lie; stages/ beside --workdir")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run and for how long; write nothing")
    parser.add_argument(
        "--until-decided", action="store_true", help="give arms seeds, look by look, until each is decided"
    )
    parser.add_argument(
        "--most_seeds", type=int, help="the most seeds of an arm, with --until-decided; config.decide.most_seeds"
    )
    parser.add_argument(
        "--budget", default="", help="such as 2h or 1h30m, with --until-decided: end in time, undecided"
    )
    engines.arguments(parser)
    parser.add_argument("--index", default="", help="a folder of studies: write its index.html, run nothing")
    parser.add_argument(
        "--compare", nargs=2, metavar="FOLDER", help="two studies' folders: write a page of both, run nothing"
    )


def without_config(args: argparse.Namespace) -> bool:
    """Does what needs no configuration, if that is asked for."""
    if not args.index and not args.compare:
        return False
    if args.config or args.workdir or (args.index and args.compare):
        raise BadInput(
            "--index and --compare stand alone, without --config and --workdir: each writes a page of studies that are "
            "there."
        )
    from jaxmoust.report import compare  # here, as its pandas takes a while, which no plan should pay

    with refusals():
        for place in (args.index, *(args.compare or ())):
            refuse_url("--index or --compare", place)
        print(compare.write_comparison(*args.compare) if args.compare else index.write_index(Path(args.index)))
    return True


def complete(config: Config, changes: Config) -> dict[str, Any]:
    """Completes an experiment's configuration with the last word of the command line."""
    return complete_study(config, changes, read_config, schema_of)


def schema(config: Config) -> Schema:
    """What each field of a complete experiment is."""
    tables = {
        table: {name: entry_schema(table, entry["task"], schema_of) for name, entry in config[table].items()}
        for table in TABLES
    }
    return {**TASK, **STUDY, **tables, "classifier": entry_schema("classifier", "classify", schema_of)}


def main(config: Config, args: argparse.Namespace, command: str) -> None:
    """Runs an experiment and prints its table; or, dry, prints what it would run and writes nothing.

    Raises:
        BadInput: an experiment that cannot be laid out; nothing was written.
        StudyFailed: some stages could not be computed.
    """
    with engines.chosen(args) as place, folder_at(args.workdir) as workdir:
        study = Study(_until(config, args), args.store or _beside(args.workdir, "stages"), place)
        study.check(workdir)
        budget = study.budget(args.budget)
        if args.dry_run:
            num_images = len(study.real.test)
            given = (study.experiment, study.store, place.device, _work_of, num_images)
            print(
                dry_run(
                    *given,
                    study.calibrate,
                    study.memory_words(),
                    place.width,
                    place.parts,
                    place.devices,
                    place.count_of,
                )
            )
            return
        with contextlib.closing(place.engine(study.store)) as engine:
            study.run(workdir, command, budget, engine)


def _beside(where: str, name: str) -> str:
    return os.path.join(os.path.dirname(where.rstrip("/")), name)


def _until(config: Config, args: argparse.Namespace) -> Config:
    """The configuration with what --until-decided and --most_seeds say."""
    decide = {**config["decide"], "until_decided": config["decide"]["until_decided"] or args.until_decided}
    if not decide["until_decided"] and (args.budget or args.most_seeds is not None):
        raise BadInput("--budget and --most_seeds would do nothing: they go with --until-decided. Give that as well.")
    return {**config, "decide": decide if args.most_seeds is None else {**decide, "most_seeds": args.most_seeds}}


class Study:
    """An experiment laid out over a store.

    Args:
        config: complete. store: the folder of finished stages, or one of a bucket.
        place: where stages are computed.
    Raises: BadInput: an experiment that cannot be laid out.
    """

    def __init__(self, config: Config, store: str | os.PathLike, place: engines.Place = HERE):
        self.config, self.machine, self.place = config, parallel.Machine.all(), place
        names: set[str] = set()  # of the stages
        with refusals():
            check_on_disk("--store", os.fspath(store))
            self.store = store_at(os.fspath(store), self._compute, self.machine.primary, self.machine.agree)
        self.inputs = Inputs(lambda ref: self.store.folder(ref) if ref in names else Path(ref), names.__contains__)
        self.contents: dict[str, str] = {}  # digests of all that the study reads besides what it makes itself

        def identify(job_config: Config) -> Mapping[str, Any]:
            job = self._job(job_config)
            contents = job.contents()
            for field, address in contents.items():
                if not field.startswith("data.") and names.isdisjoint(address.split(",")):
                    self.contents[f"{job_config['task']}.{field}.{address}"] = address
            return identity(job_config, contents, job.places)

        with refusals(), self.machine.together():
            self.experiment = expand(config, schema_of, identify, names.add)
            self.real = self.inputs.real(self.inputs.local(config["data"]))
            self.contents |= {"data.base": self.real.base.digest, "data.test": self.real.test.digest}

    def check(self, workdir: Path) -> None:
        """Refuses now what a stage's job would refuse only when its turn comes, which may be hours later."""
        store, experiment = self.store, self.experiment
        with refusals():
            check_free(workdir, self.machine)
            with self.machine.together():
                check_apart(workdir, self.config, (), self.inputs)
                store.check_folder()
                for run_of_arm in experiment.runs:
                    keep = run_of_arm.stage.config["eval"]["keep"]
                    check_decidable(experiment.rule.metric, keep, len(self.real.base.class_names))
                    make_row(experiment, run_of_arm, store)  # refuses a result.json that is none
            todo = store.unfinished(experiment.stages)
            with self.machine.together():
                if todo and self.machine.primary:
                    store.check_folder(writable=True)
                kinds: dict[str, str] = {}  # of stages still to do
                for stage in todo:
                    for seed in _seeds_of(stage.config):
                        parallel.check_seed(seed)
                    kind = digest(_without_seeds(stage.config, kinds))
                    if kind not in kinds.values():
                        self._plan(stage)
                    kinds[stage.name] = kind
                RunFolder.check(workdir, self.config, self.contents, self._places)

    def _plan(self, stage: Stage) -> Job:
        """Checks a stage's job, after those of what it needs, and keeps what is known of its result beforehand.

        Raises: ValueError: what the job refuses, and which stage it is.
        """
        for need in stage.needs:
            if need.name not in self.inputs.planned and self.store.find(need) is None:
                self._plan(need)
        with self.place.planning(stage.kind):
            job = self._job(stage.config)
            try:
                job.check()
            except ValueError as e:
                raise ValueError(f"{self.experiment.describe(stage)}: {e}") from e
        self.inputs.planned[stage.name] = Output(stage.config, job.promise(), None)
        self.inputs.shared[stage.name] = job.opened()
        return job

    def budget(self, text: str) -> Budget:
        """Reads --budget, from now on. Raises: BadInput: no time, or less than a run of this study is known to take."""
        if not text:
            return ENDLESS
        try:
            budget = Budget(read_budget(text), self.machine.agree)
        except ValueError as e:
            raise BadInput(str(e)) from e
        runs = [run.stage for run in self.experiment.runs if not self.store.has(run.stage)]
        if runs and not budget.allows(seconds := self._seconds_of(runs[:1])):
            raise BadInput(
                f"--budget={text} is shorter than one run, which takes {seconds_text(seconds)} here. Allow more."
            )
        return budget

    def calibrate(self, stage: Stage) -> float | None:
        """What a stage should take, by a little of it; None where that cannot be tried yet, or not here."""
        return None if parallel.stands_in() else self._plan(stage).calibrate()

    def memory_words(self) -> list[str]:
        """The memory that public networks need on one device, and whether GPUs that are free to use have it."""
        words: dict[str, str] = {}
        for stage in self.experiment.stages:
            what = self.experiment.describe(stage).partition(",")[0]  # of whatever base set and seed
            if stage.kind == "train":  # all arms train one network
                what = f"classifiers, method.learn {stage.config['method']['learn']!r}"
            elif stage.kind == "features":
                what = "features of images"
            if stage.kind not in _LESS or self.store.has(stage) or what in words:
                continue
            need = getattr(self._plan(stage), "need_alone", None)
            if need is None:
                words[what] = ""
                continue
            fits = need.total <= 0.75 * SMALL_GPU_BYTES  # the rest is the compiler's
            verdict = "holds it" if fits else f"does not hold it; what needs less is {_LESS[stage.kind]}"
            words[what] = f"{what}: {need} on one device; a GPU or TPU core of 16 GB {verdict}."
        return [*filter(None, words.values())]

    def _seconds_of(self, stages: Sequence[Stage]) -> float:
        """What stages are expected to take, as far as that is known."""
        plan = expected(stages, self.experiment, self.store, self.place.device, _work_of)
        return sum(one.seconds or 0.0 for one in plan)

    def run(self, workdir: Path, command: str, budget: Budget = ENDLESS, engine: Engine | None = None) -> findings.Page:
        """Computes what is not there, and writes the page. Raises: BadInput, StudyFailed: as `main`."""
        with refusals():
            check_shared(self.store.path, self.machine, "--store")
        with open_alone(workdir, self.config, self.contents, self._places, self.machine):
            given = (workdir, self.real, command, self.config, print, budget, self._seconds_of, engine)
            page, failures = conduct(self.experiment, self.store, *given)
        print(findings.table_text(page))
        print(workdir / "results.csv", workdir / "report" / "index.html", sep="\n")
        if failures:
            raise StudyFailed(
                f"{len(failures)} of {len(self.experiment.stages)} stages have no result:\n  "
                + "\n  ".join(failures)
                + f"\nWhat does not need them is done. {self.store.path}/*.error.json says more; the same command "
                "tries them again."
            )
        return page

    @property
    def _places(self) -> tuple[str, ...]:
        """Fields that only say where images lie or a copy is kept, of the study and its entries; and titles of sets."""
        tables = [f"{table}.{name}." for table in TABLES for name in self.config[table]]
        titles = [f"sets.{name}.title" for name in self.config["sets"]]
        return (*titles, *(at + place for at in ("", "classifier.", *tables) for place in PLACES))

    def _job(self, config: Config) -> Job:
        return job_of(config["task"])(self.inputs.local(config), self.inputs)

    def _compute(self, stage: Stage, folder: Path) -> dict[str, Any]:
        # All that it stands on is finished by now: what lies there counts, and no more what was known beforehand.
        for need in in_order([*stage.needs]):
            self.inputs.forget(need.name)
        return do(stage.config, folder, self.inputs).result


_SEEDS = ("seed", "order_seed")


def _seeds_of(config: Config) -> list[int]:
    return [config[name] for name in _SEEDS if config.get(name) is not None]


def _without_seeds(value: Any, kinds: Mapping[str, str]) -> Any:
    """A configuration without its seeds, with kinds in the place of the stages it names: alike is checked once."""
    if isinstance(value, str):
        return kinds.get(value, value)
    if isinstance(value, (dict, Mapping)):
        return {name: _without_seeds(one, kinds) for name, one in value.items() if name not in _SEEDS}
    return [_without_seeds(one, kinds) for one in value] if isinstance(value, list | tuple) else value


def _work_of(config: Config, size_of: Callable[[str], int]) -> float:
    return job_of(config["task"]).work(config, size_of)
