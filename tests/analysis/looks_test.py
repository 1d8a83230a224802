"""Looks: published boundaries, the level over all looks, and which arms are looked at when."""

import numpy as np
import pytest
import scipy.stats

from jaxmoust.analysis.decisions import Decision
from jaxmoust.analysis.looks import Compared, Rule, follow, nominal_levels

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]


def boundaries(*args):
    return [float(scipy.stats.norm.isf(level / 2)) for level in nominal_levels(*args)]


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        # Of five looks at two-sided 5 %, as the programs of Reboussin, DeMets, Kim and Lan 2000 (Controlled Clinical
        # Trials 21) and their successors print them.
        ("obrien_fleming", [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        ("pocock", [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_nominal_levels_are_those_of_the_published_boundaries(spending, published):
    np.testing.assert_allclose(boundaries(FIVE, 0.05, spending), published, atol=2e-4)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
@pytest.mark.parametrize("fractions", [FIVE, [0.15, 0.25, 0.35, 0.5, 0.75, 1.0], [0.9, 1.0], [1.0]])
def test_looks_of_nothing_err_together_as_often_as_the_level_says(fractions, spending):
    """A million paths without any drift; four standard errors of their share."""
    rng, crossed, place, before = np.random.default_rng(0), False, 0.0, 0.0
    for t, z in zip(fractions, boundaries(fractions, 0.05, spending), strict=True):
        place, before = place + rng.standard_normal(1_000_000) * np.sqrt(t - before), t
        crossed = crossed | (np.abs(place) > z * np.sqrt(t))
    assert np.mean(crossed) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 1e6))


def test_one_look_has_the_whole_level():
    assert nominal_levels([1.0], 0.03) == pytest.approx([0.03], rel=1e-9)


def test_look_at_next_to_nothing_claims_nothing():
    levels = nominal_levels([0.001, 1.0])
    assert levels[0] == 0.0 and levels[1] == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("fractions", [[], [0.0, 1.0], [0.5, 0.5], [0.5, 1.1]])
def test_fractions_that_do_not_rise_to_one_are_refused(fractions):
    with pytest.raises(ValueError, match="expected numbers that rise"):
        nominal_levels(fractions)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"margin": 0.0}, "margin 0.0: expected a number above 0"),
        ({"margin": -1.0}, "margin -1.0: expected a number above 0"),
        ({"level": 0.0}, "level 0.0: expected a number above 0 and below 0.5"),
        ({"level": 0.5}, "level 0.5: expected"),
        ({"looks": ()}, "looks .*: expected numbers of seeds that rise"),
        ({"looks": (1, 3)}, "from 2 up"),
        ({"looks": (3, 3, 5)}, "that rise"),
        ({"most_seeds": 2}, "most_seeds 2 is below the first look, after 3 seeds"),
    ],
)
def test_rule_that_cannot_decide_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Rule(**fields)


def test_plan_ends_with_the_most_seeds():
    assert [seeds for seeds, _ in Rule(most_seeds=12).plan] == [3, 5, 7, 10, 12]
    assert [seeds for seeds, _ in Rule(most_seeds=3).plan] == [3]
    assert [seeds for seeds, _ in Rule().plan] == [3, 5, 7, 10, 15, 20]


# --- which arms are looked at ----------------------------------------------------------------------------------------

RULE = Rule(looks=(2, 3), most_seeds=4)
SEEDS = (7, 3, 1, 0)


def decision(arm, verdict, seeds):
    return Decision(arm, "mixture", "pooled", 0.0, -1.0, 1.0, -1.0, 1.0, 1.0, 1.0, 0.0, verdict, seeds, 3)


class Planned:
    """Decides each arm once it has so many seeds, and remembers what it was asked."""

    def __init__(self, **seeds_needed):
        self.seeds_needed, self.asked = seeds_needed, []

    def __call__(self, values, baselines, families, margin, level, higher_is_better):
        self.asked.append(({arm: len(of) for arm, of in values.items()}, level))
        assert set(values) == set(families) == set(baselines) and set(baselines.values()) <= set(values)
        assert all(tuple(of) == SEEDS[: len(of)] for of in values.values())
        found = {}
        for arm in (arm for arm in values if arm != baselines[arm]):
            enough = len(values[arm]) >= self.seeds_needed[arm]
            found[arm] = decision(arm, "better" if enough else "undecided", len(values[arm]))
        return found


def runs(**num_seeds):
    return {arm: {seed: np.ones(1) for seed in SEEDS[:n]} for arm, n in num_seeds.items()}


def look(values, decide, lost=(), **families):
    """The paths of arms beside real; families: arm=family, "mixture" where none is given."""
    arms = {arm: Compared("real", families.get(arm, "mixture")) for arm in ("real", "a", "b")}
    return follow(RULE, SEEDS, values, arms, lost, decide=decide)


LEVELS = [level for _, level in RULE.plan]


def test_arm_that_is_decided_is_looked_at_no_more_and_lends_its_spread():
    decide = Planned(a=2, b=4)
    (path,) = look(runs(real=4, a=2, b=4), decide)
    assert decide.asked == [
        ({"real": 2, "a": 2, "b": 2}, LEVELS[0]),
        ({"real": 3, "a": 2, "b": 3}, LEVELS[1]),
        ({"real": 4, "a": 2, "b": 4}, LEVELS[2]),
    ]
    assert path.num_seeds == {"a": 2, "b": 4} and path.undecided == () and path.next_seeds is None
    assert path.decisions["a"].seeds == 2 and path.decisions["b"].seeds == 4


def test_look_waits_for_every_open_arm_and_for_the_baseline():
    for have in (runs(real=3, a=3, b=2), runs(real=2, a=3, b=3)):
        (path,) = look(have, Planned(a=9, b=9))
        assert [one.seeds for one in path.looks] == [2] and path.next_seeds == 3 and path.going_on == ("a", "b")
    (path,) = look(runs(real=3, a=3, b=2), Planned(a=9, b=2))
    assert [one.seeds for one in path.looks] == [2, 3] and path.next_seeds == 4 and path.going_on == ("a",)


def test_first_look_is_one_of_all_arms_and_families_go_on_alone():
    """Of another family an arm lends the spread of its seeds of the first look, however many it has by now."""
    waiting = look(runs(real=2, a=2, b=1), Planned(a=9, b=9), b="alone")
    assert [(path.family, path.looks, path.next_seeds) for path in waiting] == [("mixture", (), 2), ("alone", (), 2)]
    decide = Planned(a=9, b=9)
    mixture, alone = look(runs(real=4, a=2, b=4), decide, b="alone")
    assert [one.seeds for one in mixture.looks] == [2] and [one.seeds for one in alone.looks] == [2, 3, 4]
    first = ({"real": 2, "a": 2, "b": 2}, LEVELS[0])
    assert decide.asked == [
        *(first, first),
        ({"real": 3, "a": 2, "b": 3}, LEVELS[1]),
        ({"real": 4, "a": 2, "b": 4}, LEVELS[2]),
    ]


def test_looks_are_the_same_however_many_more_runs_there_are():
    ((first,), (second,)) = (look(runs(real=n, a=n, b=2), Planned(a=9, b=2)) for n in (3, 4))
    assert first.looks == second.looks[:2]


def test_lost_arm_is_left_behind_undecided_and_a_lost_baseline_ends_the_looks():
    (path,) = look(runs(real=3, a=2, b=3), Planned(a=9, b=3), lost=("a",))
    assert [tuple(one.decisions) for one in path.looks] == [("a", "b"), ("b",)]
    assert path.undecided == ("a",) and path.next_seeds is None and path.num_seeds == {"a": 2, "b": 3}
    (path,) = look(runs(real=4, a=1, b=4), Planned(b=9), lost=("a",))
    assert [tuple(one.decisions) for one in path.looks] == [("b",)] * 3 and path.undecided == ("a", "b")
    (path,) = look(runs(real=2, a=4, b=4), Planned(a=9, b=9), lost=("real",))
    assert len(path.looks) == 1 and path.undecided == ("a", "b") and (path.going_on, path.next_seeds) == ((), None)


def test_path_of_no_runs_waits_for_the_first_look():
    (path,) = look({}, Planned())
    assert path.looks == () and path.next_seeds == 2 and path.going_on == ("a", "b") and path.decisions == {}
    assert path.num_seeds == {}


# --- whether the promise is kept -------------------------------------------------------------------------------------

ARMS = ("real", "a", "b", "c", "d")
COMPARED = dict.fromkeys(ARMS, Compared("real", "mixture"))


def study(rng, truth, images, num_seeds=8, groups=40):
    """Runs of five arms that spread by a point over seeds, on groups of images that one arm or the other finds hard."""
    values = {}
    for arm, difference in zip(ARMS, truth, strict=True):
        own = rng.normal(0, images * np.sqrt(groups), groups)
        noise = rng.normal(0, 3, (num_seeds, groups))
        runs = 80 + difference + rng.normal(0, 1, (num_seeds, 1)) + own + noise - noise.mean(axis=1, keepdims=True)
        values[arm] = dict(enumerate(runs))
    return values


@pytest.mark.parametrize(("spending", "images"), [("obrien_fleming", 0.3), ("pocock", 0.0)])
def test_a_study_of_nothing_claims_a_difference_in_six_percent_of_cases_at_most(spending, images):
    """200 studies of three looks: at 5 %, more than 17 of them claim something with a chance of 1 %."""
    rng, rule = np.random.default_rng(0), Rule(looks=(3, 5), most_seeds=8, spending=spending)
    paths = [follow(rule, range(8), study(rng, (0, 0, 0, 0, 0), images), COMPARED)[0] for _ in range(200)]
    verdicts = [{one.verdict for one in path.decisions.values()} for path in paths]
    assert sum(not of_study.isdisjoint({"better", "worse"}) for of_study in verdicts) <= 17


def test_arms_that_differ_by_the_margin_are_seldom_called_equivalent_and_the_rest_saves_runs():
    """One arm is 1 point better, the margin, one is 6 worse: 100 studies."""
    rng, rule = np.random.default_rng(1), Rule(looks=(3, 5), most_seeds=8, spending="pocock")
    paths = [follow(rule, range(8), study(rng, (0, 1, -6, 0, 0), 0.0), COMPARED)[0] for _ in range(100)]
    assert sum(path.decisions["a"].verdict == "equivalent" for path in paths) <= 8
    assert all(path.decisions["b"].verdict == "worse" for path in paths)
    assert np.mean([path.num_seeds["b"] for path in paths]) < 6
