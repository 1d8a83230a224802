"""Verb `study`, task `study`: runs an experiment: every arm at every seed, then the page

Leaves results.csv (the runs), report/index.html and report/summary.csv (the arms) in --workdir; finished stages go to
--store (default: stages/ beside --workdir), are named by what they depend on, and are found again by this study and the
next. Several processes may be given the same command, or share a store: each stage is computed by one of them. A stage
that fails costs what needs it and no more; the same command tries it again. --dry-run says what would be run, and how
long that takes where the like was measured. --index=FOLDER lists the studies below a folder on one page, each with its
answer; a study writes that of the folder it lies in by itself.

  jaxmoust study --config=experiments/quickstart.py --workdir=runs/quickstart
  jaxmoust study --config=experiments/quickstart.py --workdir=runs/five_seeds --config.seeds=0,1,2,3,4 --dry-run
  jaxmoust study --config=experiments/quickstart.py --workdir=runs/longer --config.generators.edm.train.num_steps=3000
  jaxmoust study --index=runs
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxmoust.config import Config, Schema, read_config
from jaxmoust.jobs.parts.configure import TASK
from jaxmoust.jobs.parts.inputs import Inputs, Output
from jaxmoust.jobs.parts.job import Job, alone, check_free, do
from jaxmoust.jobs.parts.registry import BadInput, job_of, schema_of
from jaxmoust.report import findings, index
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder, environment, identity
from jaxmoust.study.dry_run import make_plan, plan_text
from jaxmoust.study.expand import OWN, STUDY, TABLES, complete_study, expand
from jaxmoust.study.experiment import Experiment
from jaxmoust.study.runner import conduct, make_row
from jaxmoust.study.store import Stage, Store

PLACES = ("data.path", "data.classes")


class StudyFailed(RuntimeError):
    """Some stages could not be computed; everything that does not need them was, and the page says what it lacks."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what this verb takes besides --config and --workdir."""
    parser.add_argument("--store", default="", help="where finished stages lie; stages/ beside --workdir")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run and for how long; write nothing")
    parser.add_argument("--index", default="", help="a folder of studies: write its index.html, run nothing")


def without_config(args: argparse.Namespace) -> bool:
    """Does what needs no configuration, if that is asked for."""
    if not args.index:
        return False
    try:
        print(index.write_index(Path(args.index)))
    except (ValueError, OSError) as e:
        raise BadInput(str(e)) from e
    return True


def complete(config: Config, changes: Config) -> dict[str, Any]:
    """Completes an experiment's configuration with the last word of the command line."""
    return complete_study(config, changes, read_config, schema_of)


def schema(config: Config) -> Schema:
    """What each field of a complete experiment is."""
    tables = {
        table: {name: {**TASK, **schema_of(of["task"]), **OWN[table]} for name, of in config[table].items()}
        for table in TABLES
    }
    return {**TASK, **STUDY, **tables, "classifier": {**TASK, **schema_of("classify")}}


def main(config: Config, args: argparse.Namespace, command: str) -> None:
    """Runs an experiment and prints its table; or, dry, prints what it would run and writes nothing.

    Raises:
        BadInput: an experiment that cannot be laid out; nothing was written.
        StudyFailed: some stages could not be computed.
    """
    workdir = Path(args.workdir)
    study = Study(config, Path(args.store or workdir.parent / "stages"))
    if args.dry_run:
        study.check(workdir)
        print(study.plan())
        return
    study.run(workdir, command)


class Study:
    """An experiment laid out over a store.

    Args:
        config: complete. store: the folder of finished stages.
    Raises: BadInput: an experiment that cannot be laid out.
    """

    def __init__(self, config: Config, store: Path):
        self.config, self.machine = config, parallel.Machine.all()
        names: set[str] = set()
        machine = self.machine
        self.store = Store(store, self._compute, machine.primary, lambda flag: machine.any(machine.primary and flag))
        self.inputs = Inputs(lambda ref: self.store.folder(ref) if ref in names else Path(ref), names.__contains__)

        def identify(job_config: Config) -> Mapping[str, Any]:
            job = self._job(job_config)
            return identity(job_config, job.contents(), job.places)

        try:
            self.experiment: Experiment = expand(config, schema_of, identify, names.add)
            self.real = self.inputs.real(config["data"])
        except (ValueError, OSError) as e:
            raise BadInput(str(e)) from e

    def check(self, workdir: Path) -> None:
        """Refuses now what a stage's job would refuse only when its turn comes, which may be hours later."""
        store, experiment = self.store, self.experiment
        try:
            check_free(workdir, self.machine)
            store.check_folder()
            for run_of_arm in experiment.runs:
                make_row(experiment, run_of_arm, store)  # refuses a result.json that is none
            todo = [stage for stage in experiment.stages if store.find(stage) is None]
            if todo and self.machine.primary:
                store.check_folder(writable=True)
            for stage in todo:
                job = self._job(stage.config)
                job.check()
                self.inputs.planned[stage.name] = Output(stage.config, job.promise(), None)
                self.inputs.shared[stage.name] = job.opened()
            RunFolder.check(workdir, self.config, self._contents(), PLACES)
        except (ValueError, OSError) as e:
            raise BadInput(str(e)) from e

    def plan(self) -> str:
        """What would be computed, in words, with the time that it should take."""
        work = _work_of
        return plan_text(make_plan(self.experiment, self.store, self.machine.description, work))

    def run(self, workdir: Path, command: str) -> findings.Page:
        """Computes what is not there, and writes the page."""
        self.check(workdir)
        here = environment(self.machine.description)
        try:
            folder = RunFolder.open(workdir, self.config, here, self.machine.primary, self._contents(), PLACES)
        except (ValueError, OSError) as e:
            raise BadInput(str(e)) from e
        real = (self.real.base, self.real.test, self.real.shape)
        with alone(workdir, self.machine):
            page, failed = conduct(self.experiment, self.store, folder.path, real, command, self.config)
        print(findings.table_text(page))
        print(folder.path / "results.csv", folder.path / "report" / "index.html", sep="\n")
        if failed:
            lines = [f"  {what}: {why}" for what, why in failed.items()]
            raise StudyFailed(
                f"{len(failed)} of {len(self.experiment.stages)} stages have no result:\n"
                + "\n".join(lines)
                + f"\nWhat does not need them is done. {self.store.path}/*.error.json says more; the same command "
                "tries them again."
            )
        return page

    def _job(self, config: Config) -> Job:
        return job_of(config["task"])(config, self.inputs)

    def _contents(self) -> dict[str, str]:
        real = self.real
        return {"data.base": real.base.digest, "data.test": real.test.digest}

    def _compute(self, stage: Stage, folder: Path) -> dict[str, Any]:
        for need in stage.needs:  # finished by now: what lies there counts, and no more what was known beforehand
            self.inputs.forget(need.name)
        return do(stage.config, folder, self.inputs).result


def _work_of(config: Config, size_of: Callable[[str], int]) -> float:
    return job_of(config["task"]).work(config, size_of)
