"""Conducts an experiment: finds or computes every stage, writes results.csv, draws the page."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxmoust.data.sources import Source
from jaxmoust.data.synthetic import open_synthetic
from jaxmoust.data.transforms import Resize
from jaxmoust.runtime.folder import atomic_write, environment, read_json
from jaxmoust.study import draws, index, report, sections
from jaxmoust.study.experiment import Experiment, Run, base_words, tuned_parts
from jaxmoust.study.page import COLUMNS, Arm, Gallery, Page
from jaxmoust.study.stages import Stage, Store, compute_all

NUM_GALLERY_IMAGES = 8


def conduct(
    experiment: Experiment,
    store: Store,
    folder: Path,
    real: tuple[Source, Source, tuple],
    command: str,
    say: Callable = print,
) -> Page:
    """Runs every arm at every seed, skipping what the store holds.

    Leaves results.csv and report/ in the folder.

    The index of the studies beside this one is written again, unless somebody else's index.html stands there.

    Args:
        real: the base set, the test set and the shape images are brought to; for pictures and per-class numbers.
        command: how to run the study again. say: receives a line of text for each stage.
    Raises: stop.Stopped: asked to stop; finished stages stay, the interrupted one left a checkpoint.
    """
    stages = experiment.stages
    todo = [stage for stage in stages if not store.has(stage)]
    say(f"{experiment.name}: {len(stages)} stages, {len(stages) - len(todo)} found, {len(todo)} to compute")
    computed = set()
    for i, done in enumerate(compute_all(todo, store, say), 1):
        if done.here:
            computed.add(done.stage.name)
        write_results(experiment, store, folder)
        top1 = f"  top1 {done.result['top1']:.2f}" if "top1" in done.result else ""
        how = f"{done.seconds:.1f} s" if done.here else "found, another process computed it"
        say(f"[{i}/{len(todo)}] {describe(done.stage, experiment)}: {how}{top1}")
    write_results(experiment, store, folder)
    page = make_page(experiment, store, stages, computed, real, command)
    report.write_report(page, folder / "report")
    index.write_summary(page, folder)
    if index.may_write(folder.parent):
        index.write_index(folder.parent)
    return page


def write_results(experiment: Experiment, store: Store, folder: Path) -> None:
    """Writes results.csv: one row for each finished run, in the experiment's order."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for run in experiment.runs if (row := make_row(experiment, run, store)))
    atomic_write(folder / "results.csv", text.getvalue())


def make_row(experiment: Experiment, run: Run, store: Store) -> dict | None:
    """The row of a finished run, None for one that is not finished."""
    result = store.find(run.stage)
    if result is None:
        return None
    machine = store.environment(run.stage)
    return {
        "experiment": experiment.name,
        "arm": run.arm.name,
        "seed": run.seed,
        "generator": "+".join(run.arm.generators or run.arm.sets) or "none",
        "fine_tuning": run.fine_tuning,
        "sampler": run.stage.config["sampler"]["name"],
        "n_base": result["n_base"],
        "n_synthetic": result["n_synthetic"],
        "share": round(result["share"], 6),
        "steps": result["steps"],
        "top1": round(result["top1"], 6),
        "top5": round(result["top5"], 6),
        "n_test": result["n"],
        "seconds": round(result["seconds"], 2),
        "device": machine.get("device", ""),
        "commit": machine.get("commit", ""),
    }


def make_page(
    experiment: Experiment,
    store: Store,
    stages: list[Stage],
    computed: set[str],
    real: tuple[Source, Source, tuple],
    command: str,
) -> Page:
    """Gathers everything the page shows from the store."""
    base, test, shape = real
    labels = {run.stage.name: run for run in experiment.runs}
    ranks: dict[str, dict[int, np.ndarray]] = {}
    curves: dict[str, dict[int, list]] = {}
    for run in experiment.runs:
        folder = store.folder(run.stage)
        ranks.setdefault(run.arm.name, {})[run.seed] = np.load(folder / "ranks.npy")
        curves.setdefault(run.arm.name, {})[run.seed] = _read_curve(folder / "metrics.jsonl")
    galleries = [Gallery("Real", f"The base set: {len(base)} images.", _pictures(base, shape))]
    for name, stage in experiment.sets.items():
        made = open_synthetic(store.folder(stage))
        caption = f"{len(made):,} images, seed {stage.config['seed']}; the first of each class, not picked."
        galleries.append(Gallery(name, caption, _pictures(made, shape)))
    page = Page(
        title=experiment.name,
        question=experiment.question,
        command=command,
        baseline=experiment.baseline,
        arms=[Arm(arm.name, arm.title, arm.description, arm.baseline) for arm in experiment.arms],
        rows=[make_row(experiment, run, store) for run in experiment.runs],
        ranks=ranks,
        labels=test.labels,
        class_names=test.class_names,
        curves=curves,
        galleries=galleries,
        draws=_read_draws(experiment, store),
        provenance=[_provenance(stage, store, stage.name in computed, labels) for stage in stages],
        environment=environment(),
    )
    page.sections = sections.collect(page, _looked(experiment, store))
    return page


def _looked(experiment: Experiment, store: Store) -> dict[str, list[sections.Looked]]:
    """What the experiment's probes found, table by table."""
    found: dict[str, list[sections.Looked]] = {}
    for probe in experiment.probes:
        result, folder = store.find(probe.stage), store.folder(probe.stage)
        found.setdefault(probe.table, []).append(sections.Looked(probe.name, probe.set, probe.seed, result, folder))
    return found


def describe(stage: Stage, experiment: Experiment) -> str:
    """What a stage of an experiment does, in a few words: "train edm_only, seed 2"."""
    for run in experiment.runs:
        if run.stage.name == stage.name:
            return f"train {run.arm.name}, seed {run.seed}"
    for probe in experiment.probes:
        if probe.stage.name == stage.name:
            return f"{stage.kind} {probe.name}, seed {probe.seed}"
    if stage.kind == "fit":
        method = stage.config["method"]
        name = method.get("name") or f"{stage.config['task']} {tuned_parts(method)}"
        return f"fit {name}{base_words(stage, experiment.data)}"
    if stage.kind == "score":
        made = stage.needs[0].config
        return f"score {stage.config.get('score', 'clip')} of {made['name']}, seed {made['seed']}"
    made = stage if stage.kind == "sample" else stage.needs[0]  # a probe that only scores looks at this set
    return f"{stage.kind} {made.config['name']}{base_words(made, experiment.data)}, seed {made.config['seed']}"


def _read_curve(path: Path) -> list[tuple[int, dict[str, float]]]:
    """The training loss and the test accuracy over the steps of one run."""
    shown = {"loss": "loss", "eval_top1": "top1"}
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["step"], {shown[k]: v for k, v in row.items() if k in shown}) for row in rows]


def _read_draws(experiment: Experiment, store: Store) -> dict[str, draws.Draws]:
    """What each arm's sampler drew, its seeds added up; arms of which a run kept no record are left out."""
    records: dict[str, list] = {}
    for run in experiment.runs:
        records.setdefault(run.arm.name, []).append(read_json(store.folder(run.stage) / "draws.json"))
    return {
        arm: draws.pooled([draws.from_record(r) for r in of_seeds])
        for arm, of_seeds in records.items()
        if all(of_seeds)
    }


def _pictures(source: Source, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """The first images of each class, distinct keys of the source in order, as the networks see them."""
    resize = Resize(shape[0], shape[2])
    chosen = {name: np.flatnonzero(source.labels == k) for k, name in enumerate(source.class_names)}
    return {
        name: np.stack([resize.map(source.read(int(key))) for key in keys[:NUM_GALLERY_IMAGES]])
        for name, keys in chosen.items()
        if len(keys)
    }


def _provenance(stage: Stage, store: Store, computed: bool, labels: dict[str, Run]) -> dict:
    result, machine = store.find(stage), store.environment(stage)
    run = labels.get(stage.name)
    return {
        "kind": stage.kind,
        "digest": stage.name,
        "seconds": result.get("seconds"),
        "found": not computed,
        "device": machine.get("device", ""),
        "commit": machine.get("commit", ""),
        "versions": machine.get("packages", {}),
        "config": stage.config,
        **({"arm": run.arm.name, "seed": run.seed} if run else {}),
    }
