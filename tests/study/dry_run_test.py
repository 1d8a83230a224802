"""What a study would do, told before it is done: what is left, and times that were measured or are unknown."""

import copy
import json
import time
from types import SimpleNamespace

import pytest
from toy_study import lay_out

from jaxmoust.jobs.parts.registry import job_of
from jaxmoust.study.dry_run import _power, dry_run
from jaxmoust.study.experiment import Arm, Experiment, Run
from jaxmoust.study.store import Stage, Store

DEVICE = "2 x test"
MODEL = {"name": "resnet", "width": 8}


def fit(**more):
    config = {"seed": 0, "task": "diffuse", "method": {"name": "edm"}, "model": MODEL}
    return Stage("fit", config | {"train": {"num_steps": 100, "batch_size": 10}} | more)


def sample(generator, seed, num_images=50):
    config = {"seed": seed, "task": "sample", "name": "edm", "generator": generator.name, "num_images": num_images}
    return Stage("sample", config | {"sample": {"name": "heun", "num_steps": 4}}, (generator,))


def train(seed, sets=(), **more):
    config = {"seed": seed, "task": "classify", "model": MODEL, "train": {"num_steps": 20, "batch_size": 5}}
    return Stage("train", config | {"data": {"synthetic": [one.name for one in sets], "copies": 1}} | more, tuple(sets))


def experiment(stages):
    arms = [Arm(f"arm{i}", "", "", ()) for i in range(len(stages))]
    runs = tuple(Run(arm, stage.config["seed"], stage) for arm, stage in zip(arms, stages, strict=True))
    return Experiment("trial", "?", "arm0", (0,), tuple(arms), runs, {}, {})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "stages", run=None)


def finish(store, stage, seconds, device=DEVICE):
    folder = store.folder(stage)
    folder.mkdir(parents=True)
    files = {"config": stage.config, "result": {"seconds": seconds}, "environment": {"device": device}}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def work(config, size_of):
    """As the jobs of the tasks say."""
    return job_of(config["task"]).work(config, size_of)


def plan(store, *stages):
    return dry_run(experiment(stages), store, lambda kind: DEVICE, work, 797)


def times(store, *stages):
    return {planned.stage.name: planned.seconds for planned in plan(store, *stages).todo}


def test_plan_has_what_is_to_compute_and_counts_what_is_found(store):
    generator = fit()
    sampled = sample(generator, 0)
    runs = [train(0), train(0, [sampled])]
    finish(store, generator, 3.0)
    finish(store, runs[0], 3.0)
    planned = plan(store, *runs)
    assert [one.stage for one in planned.todo] == [sampled, runs[1]]
    assert planned.found == {"fit": 1, "train": 1}
    text = str(planned)
    assert "trial: 4 stages, 2 found (1 fit, 1 train), 2 to compute" in text
    assert "  sample edm, seed 0 " in text and "  train arm1, seed 0 " in text


def test_plan_writes_nothing(store, tmp_path):
    assert str(plan(store, train(0)))
    assert list(tmp_path.iterdir()) == []


def test_plan_of_what_was_never_measured_is_unknown(store):
    planned = plan(store, train(0), train(1))
    assert [one.seconds for one in planned.todo] == [None, None]
    assert "expected: unknown" in str(planned)


def test_plan_expects_the_median_of_other_seeds(store):
    for seed, seconds in enumerate((10.0, 12.0, 90.0)):
        finish(store, train(seed), seconds)
    wanted = train(9)
    assert times(store, wanted) == {wanted.name: pytest.approx(12.0)}
    assert "12 s  as 3 stages of the same settings" in str(plan(store, wanted))


def test_plan_takes_a_start_from_another_seeds_classifier_for_the_same_settings(store):
    first, second = (train(seed, method={"pretrained": train(seed).name}) for seed in (0, 1))
    finish(store, first, 10.0)
    assert "10 s  as 1 stage of the same settings" in str(plan(store, second))


def test_plan_scales_times_by_the_work(store):
    """Seconds per training image, and per evaluation of a generator."""
    generator = fit()
    finish(store, generator, 40.0)
    finish(store, sample(generator, 0), 8.0)
    twice = fit(train={"num_steps": 200, "batch_size": 10})
    sampled = sample(twice, 1, num_images=25)
    expected = times(store, train(0, [sampled]))
    assert expected[twice.name] == pytest.approx(80.0) and expected[sampled.name] == pytest.approx(4.0)


def test_plan_times_a_diagnostic_by_the_images_that_it_takes(store):
    """0 is every image of the set."""
    generator = fit()
    small, large = sample(generator, 0, num_images=50), sample(generator, 1, num_images=100)
    of_small, of_large, of_some = (
        Stage("measure", {"task": "measure", "seed": 0, "set": sampled.name, "num_images": num_images}, (sampled,))
        for sampled, num_images in ((small, 0), (large, 0), (large, 25))
    )
    finish(store, small, 1.0)
    finish(store, of_small, 6.0)
    expected = times(store, of_large, of_some)
    assert (expected[of_large.name], expected[of_some.name]) == (pytest.approx(12.0), pytest.approx(3.0))


def test_plan_prefers_the_stages_that_are_most_alike(store):
    finish(store, train(0), 10.0)
    finish(store, train(0, sampler={"name": "other"}), 30.0)
    assert list(times(store, train(1)).values()) == [pytest.approx(10.0)]
    assert list(times(store, train(1, sampler={"name": "other"})).values()) == [pytest.approx(30.0)]
    text = str(plan(store, train(1, sampler={"name": "third"})))
    assert "as 1 stage of similar settings" in text or "as 2 stages of similar settings" in text


@pytest.mark.parametrize(
    "change", [{"model": {**MODEL, "width": 16}}, {"model": {**MODEL, "name": "vit"}}, {"task": "finetune"}]
)
def test_plan_takes_no_time_from_another_network(store, change):
    finish(store, train(0), 10.0)
    assert list(times(store, train(1, **change)).values()) == [None]


def test_plan_takes_no_time_from_a_set_of_another_generators_network(store):
    small, wide = fit(), fit(model={**MODEL, "width": 16})
    for generator in (small, wide):
        finish(store, generator, 1.0)
    finish(store, sample(small, 0), 8.0)
    of_wide, of_small = sample(wide, 1), sample(small, 1)
    expected = times(store, train(0, [of_wide, of_small]))
    assert expected[of_wide.name] is None and expected[of_small.name] == pytest.approx(8.0)


def test_plan_takes_no_time_from_another_clip(store):
    sampled = sample(fit(), 0)
    base, large = (
        Stage("score", {"task": "clip_score", "clip": clip, "set": sampled.name}, (sampled,))
        for clip in ("base", "large")
    )
    finish(store, base, 5.0)
    assert times(store, train(0, [sampled, large]))[large.name] is None


def test_plan_takes_no_time_from_another_device(store):
    finish(store, train(0), 10.0, device="8 x accelerator")
    assert list(times(store, train(1)).values()) == [None]


def test_plan_sums_what_is_known_and_says_what_is_not(store):
    finish(store, train(0), 60.0)
    runs = [train(1), train(2), train(0, model={**MODEL, "width": 99})]
    text = str(plan(store, *runs))
    assert "expected: 2 min 00 s in one process for 2 of them; 1 more of unknown time" in text


def test_hours_at_a_width_count_the_parts_of_a_set_beside_each_other(store):
    """A generator of 1 min 40 s, its set of 50 files' worth of 200 s in four parts, and a training of a minute."""
    generator = fit()
    of_set = Stage("sample", sample(generator, 0).config | {"shard_images": 5}, (generator,))
    wanted = train(0, [of_set])
    finish(store, fit(seed=9), 100.0)
    finish(store, sample(fit(seed=9), 9), 200.0)
    finish(store, train(9, [sample(fit(seed=9), 9)]), 60.0)
    given = (experiment([wanted]), store, lambda kind: DEVICE, work, 797)
    expected = {1: "6 min 00 s with 4 at once", 2: "4 min 20 s with 4 at once", 4: "3 min 30 s with 4 at once"}
    for parts, said in expected.items():
        shown = str(dry_run(*given, width=4, parts={"sample": parts}))
        assert f"expected: 6 min 00 s in one process, {said} for 3 of them" in shown
        assert f"at once: up to {parts} of them" in shown


def test_hours_at_a_width_count_the_devices_that_stages_share(store):
    """Eight devices: two generators of 1 min 40 s, on some each, and with their sets two trainings of a minute."""
    generators = [fit(seed=1), fit(seed=2)]
    finish(store, fit(seed=9), 100.0)
    finish(store, train(9), 60.0)
    stages = [train(seed, [sample(one, 0)]) for seed, one in enumerate(generators)]
    given = (experiment(stages), store, lambda kind: DEVICE, work, 797)
    for of_fit, said in ((8, "4 min 20 s with up to 8 at once"), (4, "2 min 40 s with up to 8 at once")):
        shown = str(dry_run(*given, width=8, room=8, count_of={"fit": of_fit, "train": 1}.get))
        assert f"expected: 5 min 20 s in one process, {said}" in shown


def test_plan_does_not_touch_the_stages_configurations(store):
    wanted = train(1)
    before = copy.deepcopy(wanted.config)
    finish(store, train(0), 1.0)
    plan(store, wanted)
    assert wanted.config == before


@pytest.mark.parametrize("damaged", ["[]", "{", '"seconds"'])
def test_plan_takes_no_time_from_a_stage_that_is_damaged(store, damaged):
    for seed in (1, 2):
        finish(store, train(seed), 3.0)
    (store.folder(train(1)) / "result.json").write_text(damaged)
    finish(store, train(3), 3.0)
    (store.folder(train(3)) / "config.json").write_text(damaged)
    assert times(store, train(0)) == {train(0).name: 3.0}


@pytest.mark.parametrize("change", [{"task": "of_before"}, {"train": {"num_steps": 0, "batch_size": 5}}])
def test_plan_takes_no_time_from_a_stage_of_before_todays_tasks_or_without_work(store, change):
    finish(store, train(1, **change), 3.0)
    assert times(store, train(0)) == {train(0).name: None}


def test_plan_of_thousand_stages_is_not_quadratic(store):
    """Each is described and timed by itself: no more than ten times as long as a hundred, with room for noise."""
    for seed in range(20):
        finish(store, train(seed), 3.0)

    def secs(n):
        runs = [train(100 + seed) for seed in range(n)]
        started = time.process_time()
        assert len(plan(store, *runs).todo) == n
        return time.process_time() - started

    def best(n):
        return min(secs(n) for _ in range(3))  # whatever else the machine does

    assert best(1000) < 40 * best(100)


def test_what_was_never_computed_is_tried_once_for_all_that_are_alike(store, monkeypatch):
    asked = []

    def calibrate(stage):
        asked.append(stage.config["seed"])
        return 10.0

    longer = fit(seed=1, train={"num_steps": 200, "batch_size": 10})
    given = (experiment([fit(), longer]), store, lambda kind: DEVICE, work, 797)
    shown = str(dry_run(*given, calibrate, ["fit: 6.9 GiB a device"]))
    assert asked == [0] and shown.count("by a trial of a moment") == 2 and " 20 s " in shown
    assert "expected: 30 s in one process for 2 of them" in shown and "fit: 6.9 GiB a device" in shown
    for limit in ("CALIBRATION_SECS", "KINDS_SECS"):
        monkeypatch.setattr(f"jaxmoust.study.dry_run.{limit}", 0.0)
    assert "unknown" in str(dry_run(*given, calibrate)) and asked == [0]


def test_what_is_left_when_the_minute_is_over_is_told_from_what_is_similar(store, monkeypatch):
    clock = iter((0.0, 0.0, 61.0))
    monkeypatch.setattr("jaxmoust.study.dry_run.time", SimpleNamespace(monotonic=lambda: next(clock)))
    other = fit(seed=1, augment={"flip": True})
    shown = str(dry_run(experiment([fit(), other]), store, lambda kind: DEVICE, work, 797, lambda stage: 10.0))
    assert "by a trial of something similar" in shown and "unknown" not in shown


def test_power_says_beside_which_baseline_where_there_are_several(grid):
    lines = list(_power(lay_out(grid | {"seeds": (0, 1)}), (), 900))
    assert len(set(lines)) == len(lines) > 1 and all(line.startswith("Beside ") for line in lines)
    alone = list(
        _power(
            lay_out(grid | {"seeds": (0, 1), "arms": grid["arms"][:2], "baseline": "real_10", "domains": {}}), (), 900
        )
    )
    assert not any(line.startswith("Beside ") for line in alone)
