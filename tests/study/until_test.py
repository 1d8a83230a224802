"""A study until it is decided: which runs its looks take, who gets no more seeds, and what ends it."""

import dataclasses
import json

import numpy as np
import pytest
from toy_study import SHARE, arm, diagnostic, experiment, lay_out

from jaxmoust.analysis.decisions import Decision
from jaxmoust.analysis.looks import Look, Path
from jaxmoust.data.source import Source
from jaxmoust.study.runner import Work
from jaxmoust.study.store import Store, in_order
from jaxmoust.study.until import ENDLESS, Budget, follow_all, lost_arms, next_looks, reached, read_budget

NUM_IMAGES = 2000
# What each arm gets right, in percent: one is far worse, one as good as the baseline, one cannot be told in five seeds.
TOP1 = {"real": 80.0, "worse": 60.0, "same": 80.0, "alike": 80.0, "equal": 80.0, "close": 82.0}


def toy(**decide):
    """Five arms of one set beside real images, looked at after three, four and six seeds."""
    config = experiment()
    arms = (arm(name, ("a",), sampler=SHARE, method={"pretrained": name}) for name in [*TOP1][1:])
    config["arms"] = (arm("real"), *arms)
    config["measures"] = {"near": {**diagnostic("measure", "a"), "seeds": "all"}}
    rule = {"until_decided": True, "looks": (3, 4, 6), "most_seeds": 6, "spending": "pocock", "margin": 2.3, **decide}
    return lay_out({**config, "scores": {}, "decide": rule})


class Stages:
    """A store whose stages are made up: a run gets so many images right, and a little more or less by its seed."""

    def __init__(self, folder, of):
        self.store, self.computed, self.failing = Store(folder / "stages", self.run), [], set()
        self.of_stage = {run.stage.name: (run.arm.name, run.seed) for run in of.runs}

    def run(self, stage, folder):
        arm_and_seed = self.of_stage.get(stage.name)
        if arm_and_seed in self.failing or stage.kind in self.failing:
            raise RuntimeError("broken")
        self.computed.append(arm_and_seed or stage.kind)
        folder.mkdir(parents=True)
        result = {"seconds": 1.0}
        if arm_and_seed:
            name, seed = arm_and_seed
            rng = np.random.default_rng([seed, *name.encode()])
            right = (np.arange(NUM_IMAGES) % 100 < TOP1[name]) ^ (rng.random(NUM_IMAGES) < 0.1)
            np.save(folder / "ranks.npy", (~right).astype(np.int32))
            result |= {"top1": 100 * right.mean(), "top5": 100.0, "n": NUM_IMAGES, "n_base": 10, "steps": 1}
            result |= {"n_synthetic": 5, "share": 0.5}
        (folder / "result.json").write_text(json.dumps(result))
        return result


TEST = Source("test", np.zeros(NUM_IMAGES, np.int32), tuple("abcdefgh"), (1, 1, 1), range(NUM_IMAGES), "")


@pytest.fixture
def made_up(tmp_path):
    """Runs a toy until it is decided: (its work, its looks, the stages, what was said)."""

    def run(of, budget=ENDLESS, prepare=lambda stages: None, seconds_of=len, folder=tmp_path):
        stages, said = Stages(folder, of), []
        prepare(stages)
        work = Work(of, stages.store, folder, said.append, draw=lambda left: None)
        work.until_decided(TEST, budget, seconds_of)
        return work, work.paths, stages, said

    return run


def num_runs(work):
    return {name: sum(run.arm.name == name for run in work.reached.runs) for name in TOP1}


def verdicts(paths):
    return {name: one.verdict for path in paths for name, one in path.decisions.items()}


def test_decided_arms_get_no_more_seeds_and_the_baseline_goes_on_while_one_is_open(made_up):
    work, paths, stages, said = made_up(toy())
    as_real = dict.fromkeys(("same", "alike", "equal"), "equivalent")
    assert verdicts(paths) == {"worse": "worse", **as_real, "close": "undecided"}
    seeds = num_runs(work)
    assert seeds == {"real": 6, "worse": 3, "same": 3, "alike": 3, "equal": 3, "close": 6}
    trained = [one for one in stages.computed if isinstance(one, tuple)]
    assert len(trained) == sum(seeds.values())
    assert {seed for name, seed in trained if name == "worse"} == {0, 1, 2}
    assert any(words.startswith("look after 3 seeds, mixture beside real: ") for words in said)
    rows = (work.folder / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + sum(seeds.values())


def test_study_that_was_killed_looks_where_it_would_have(made_up, tmp_path):
    """Whatever a killed one left, and whatever else the store holds: of an arm that is decided, more seeds."""
    _, whole, _, _ = made_up(toy())
    (tmp_path / "again").mkdir()
    killed = toy()
    runs = [run for run in killed.runs if run.seed < 4 or run.arm.name == "worse"]

    def prepare(stages):
        stages.failing.add("measure")
        Work(killed, stages.store, tmp_path / "again", str, str).compute(in_order([run.stage for run in runs]))
        stages.failing.clear()

    work, paths, _, _ = made_up(killed, prepare=prepare, folder=tmp_path / "again")
    assert paths == whole and num_runs(work)["worse"] == 3
    rows = (tmp_path / "again" / "results.csv").read_text()
    assert rows.count(",worse,") == 3


def test_budget_ends_a_study_between_looks_and_says_so(made_up):
    """The 25 stages of the first look are said to fit into it, the 4 of the second are not."""
    work, paths, _, said = made_up(
        toy(), Budget(3600.0), seconds_of=lambda stages: 1.0 if len(stages) == 25 else 3601.0
    )
    asked = num_runs(work)  # those of the next look among them
    assert asked == {"real": 4, "worse": 3, "same": 3, "alike": 3, "equal": 3, "close": 4}
    assert [len(path.looks) for path in paths] == [1] and paths[0].undecided == ("close",)
    assert said[-1] == "The budget does not last until the next look; what is undecided stays undecided."
    assert len((work.folder / "results.csv").read_text().splitlines()) == 1 + 18


def test_budget_that_ends_inside_a_look_leaves_its_runs_for_the_next_time(made_up, tmp_path):
    hasty = Budget(1e9)

    def prepare(stages):
        of_run = stages.store.compute

        def compute(stage):
            if len(stages.computed) == 5:
                object.__setattr__(hasty, "seconds", 0.0)
            return of_run(stage)

        stages.store.compute = compute

    _, paths, stages, said = made_up(toy(), hasty, prepare)
    assert len(stages.computed) == 6 and paths[0].looks == () and "budget" in said[-1]
    assert verdicts(made_up(toy())[1])["worse"] == "worse"


def test_arm_whose_run_failed_is_left_behind_and_the_others_go_on(made_up):
    work, paths, _, _ = made_up(toy(), prepare=lambda stages: stages.failing.add(("close", 3)))
    assert [tuple(look.decisions) for look in paths[0].looks] == [tuple(TOP1)[1:]]
    assert paths[0].undecided == ("close",) and [*work.failures.values()] == ["train close, seed 3: broken"]


def test_study_whose_generator_fails_ends(made_up):
    _, paths, stages, _ = made_up(toy(), prepare=lambda stages: stages.failing.add("fit"))
    assert paths[0].looks == () and set(paths[0].undecided) == {*TOP1} - {"real"}
    assert [one for one in stages.computed if isinstance(one, tuple)] == [("real", seed) for seed in (0, 1, 2)]


def test_failed_diagnostic_costs_no_look(made_up):
    work, paths, _, _ = made_up(toy(), prepare=lambda stages: stages.failing.add("measure"))
    assert verdicts(paths)["worse"] == "worse" and num_runs(work)["close"] == 6


def test_answers_that_cannot_be_read_are_no_run(made_up, tmp_path):
    of = toy()
    made_up(of)
    broken = next(run.stage for run in of.runs if (run.arm.name, run.seed) == ("close", 1))
    (tmp_path / "stages" / broken.name / "ranks.npy").write_bytes(b"")
    _, paths, _, _ = made_up(of)
    assert {name for look in paths[0].looks for name in look.decisions} == {*TOP1} - {"real", "close"}
    assert "close" in paths[0].undecided
    assert lost_arms(of, {broken.name}) == {"close"} and lost_arms(of, ()) == set()


# --- what comes first ------------------------------------------------------------------------------------------------


def two_families():
    of = toy()
    arms = {one.name: dataclasses.replace(one, family="far" if one.name == "worse" else one.family) for one in of.arms}
    runs = tuple(dataclasses.replace(run, arm=arms[run.arm.name]) for run in of.runs)
    return dataclasses.replace(of, arms=tuple(arms.values()), runs=runs)


def waiting(of, **more_seeds):
    """The paths after a first look that expects so many more seeds of each arm."""
    arms = {"far": ("worse",), "mixture": ("same", "alike", "equal", "close")}
    first = {
        family: Look(3, 0.01, {arm: decision(arm, more_seeds.get(arm)) for arm in of_family})
        for family, of_family in arms.items()
    }
    return [Path(family, "real", of_family, (first[family],), of_family, 4) for family, of_family in arms.items()]


def decision(arm, more_seeds):
    return Decision(arm, "", "pooled", 0.0, -9.0, 9.0, -9.0, 9.0, 1.0, 1.0, 0.0, "undecided", 3, more_seeds)


def first_of(plans):
    return [plan.path.family for plan in plans]


def test_look_that_decides_most_arms_for_a_second_comes_first():
    of = two_families()
    paths = waiting(of, worse=1, same=2, close=10)  # 1 arm, and 0.6
    assert first_of(next_looks(of, paths, len)) == ["far", "mixture"]
    dear = {run.stage.name for run in of.runs if run.arm.name == "worse"}
    by_cost = next_looks(of, paths, lambda stages: sum(100 if stage.name in dear else 1 for stage in stages))
    assert first_of(by_cost) == ["mixture", "far"]
    assert first_of(next_looks(of, waiting(of, same=50), len)) == ["mixture", "far"]  # no number decides worse


def test_first_look_takes_all_arms_and_later_ones_a_family():
    of = two_families()
    before = follow_all(of, {})
    assert [{run.arm.name for run in plan.runs} for plan in next_looks(of, before, len)] == [set(TOP1)] * 2
    later = {plan.path.family: {run.arm.name for run in plan.runs} for plan in next_looks(of, waiting(of), len)}
    assert later == {"far": {"real", "worse"}, "mixture": {*TOP1} - {"worse"}}


def test_families_are_looked_at_each_for_itself(made_up):
    work, paths, _, _ = made_up(two_families())
    assert {path.family: len(path.looks) for path in paths}["far"] == 1
    assert num_runs(work)["worse"] == 3 and verdicts(paths)["worse"] == "worse"


def test_arm_of_a_lower_loss_is_better():
    of = toy(metric="nll", margin=0.1)
    rng = np.random.default_rng(0)
    values = {name: {seed: rng.normal(1 - (name == "close"), 0.1, 50) for seed in range(6)} for name in TOP1}
    assert verdicts(follow_all(of, values))["close"] == "better"


def test_looks_take_the_diagnostics_of_their_sets_and_seeds():
    of = toy()
    (plan,) = next_looks(of, follow_all(of, {}), len)
    assert [run.seed for run in plan.diagnostics] == [0, 1, 2] and len(plan.runs) == 6 * 3
    far = reached(of, follow_all(of, {}))
    assert far.seeds == (0, 1, 2) and len(far.runs) == 18 and len(far.diagnostics) == 3


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400)])
def test_budget_is_read_in_hours_minutes_and_seconds(text, seconds):
    assert read_budget(text) == seconds


@pytest.mark.parametrize("text", ["2", "two hours", "0h", "2h and more", "-2h", "h", "2h3"])
def test_budget_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected hours, minutes or seconds"):
        read_budget(text)


def test_budget_asks_the_other_processes():
    asked = []
    assert not Budget(5.0, lambda flag: (asked.append(flag), False)[1]).allows(1.0) and asked == [True]
    assert not Budget(5.0).allows(6.0) and ENDLESS.allows(1e12) and not Budget(0.0).allows(0.0)
