"""Looks: published boundaries, the level over all looks, and which arms are looked at when."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from jaxmoust.analysis.decisions import Decision
from jaxmoust.analysis.looks import Rule, follow, nominal_levels

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
    with pytest.raises(ValueError, match="allowed are numbers that rise"):
        nominal_levels(fractions)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"margin": 0.0}, "margin 0.0: allowed is above 0"),
        ({"margin": -1.0}, "margin -1.0: allowed is above 0"),
        ({"level": 0.0}, "level 0.0: allowed is above 0 and below 0.5"),
        ({"level": 0.5}, "level 0.5: allowed"),
        ({"looks": ()}, "looks .*: allowed are numbers of seeds that rise"),
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

    def __call__(self, values, baseline, families, margin, level, higher_is_better):
        assert set(values) == {baseline, *families}
        seeds = tuple(values[baseline])
        assert all(tuple(of_arm) == seeds for of_arm in values.values())
        self.asked.append((seeds, tuple(families), level))
        enough = {arm: len(seeds) >= self.seeds_needed[arm] for arm in families}
        return {arm: decision(arm, "better" if enough[arm] else "undecided", len(seeds)) for arm in families}


def runs(**num_seeds):
    return {arm: {seed: np.ones(1) for seed in SEEDS[:n]} for arm, n in num_seeds.items()}


def test_arm_that_is_decided_is_looked_at_no_more():
    decide = Planned(a=2, b=4)
    path = follow(RULE, SEEDS, runs(real=4, a=2, b=4), "real", "mixture", ("a", "b"), decide=decide)
    levels = [level for _, level in RULE.plan]
    assert decide.asked == [
        ((7, 3), ("a", "b"), levels[0]),
        ((7, 3, 1), ("b",), levels[1]),
        ((7, 3, 1, 0), ("b",), levels[2]),
    ]
    assert path.num_seeds == {"a": 2, "b": 4} and path.undecided == () and path.next_seeds is None
    assert path.decisions["a"].seeds == 2 and path.decisions["b"].seeds == 4


def test_look_waits_for_every_open_arm_and_for_the_baseline():
    for have in (runs(real=3, a=3, b=2), runs(real=2, a=3, b=3)):
        path = follow(RULE, SEEDS, have, "real", "mixture", ("a", "b"), decide=Planned(a=9, b=9))
        assert [look.seeds for look in path.looks] == [2] and path.next_seeds == 3 and path.undecided == ("a", "b")
    path = follow(RULE, SEEDS, runs(real=3, a=3, b=2), "real", "mixture", ("a", "b"), decide=Planned(a=9, b=2))
    assert [look.seeds for look in path.looks] == [2, 3] and path.next_seeds == 4 and path.undecided == ("a",)


def test_looks_are_the_same_however_many_more_runs_there_are():
    few, many = (runs(real=n, a=n, b=2) for n in (3, 4))
    first, second = (
        follow(RULE, SEEDS, of, "real", "mixture", ("a", "b"), decide=Planned(a=9, b=2)) for of in (few, many)
    )
    assert first.looks == second.looks[:2]


def test_path_of_no_runs_waits_for_the_first_look():
    path = follow(RULE, SEEDS, {}, "real", "mixture", ("a",), decide=Planned(a=2))
    assert path.looks == () and path.next_seeds == 2 and path.undecided == ("a",) and path.decisions == {}
    assert dataclasses.replace(path, undecided=()).num_seeds == {}
