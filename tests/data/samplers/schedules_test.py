"""Schedules: tables of stages that start at one end, arrive at the other, and follow their curve in between."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.data.samplers.schedules import PACES, RAMPS, Pacing, Ramp, fractions, levels

quick = settings(max_examples=40, deadline=None)
lengths = st.integers(1, 10**7)
numbers_of_stages = st.integers(1, 150)
shares = st.floats(0, 1)
parts = st.floats(0.001, 1)
_ROUNDING = 2.0**-20  # values of a table are multiples of it


def parted(table, num_draws):
    """The lengths of the stages before the last, and the values of all."""
    starts, values = (np.array(column) for column in zip(*table, strict=True))
    return np.diff(starts), values, starts


@quick
@given(num_draws=lengths, start=shares, end=shares, shape=st.sampled_from(list(RAMPS)), num_stages=numbers_of_stages)
def test_ramp_is_made_of_equal_stages_and_stays_at_its_end(num_draws, start, end, shape, num_stages):
    table = Ramp(num_draws, start, end, shape, num_stages).table()
    lengths, _, starts = parted(table, num_draws)
    assert starts[0] == 0 and table[-1] == (num_draws, end)
    assert lengths.size == min(num_stages, num_draws)
    assert lengths.min() >= 1 and lengths.max() - lengths.min() <= 1


@quick
@given(num_draws=lengths, start=shares, end=shares, shape=st.sampled_from(list(RAMPS)), num_stages=numbers_of_stages)
def test_ramp_goes_one_way_between_its_ends(num_draws, start, end, shape, num_stages):
    _, values, _ = parted(Ramp(num_draws, start, end, shape, num_stages).table(), num_draws)
    low, high = min(start, end), max(start, end)
    assert np.all((values >= low - _ROUNDING) & (values <= high + _ROUNDING))
    assert np.all(np.diff(values) * np.sign(end - start) >= -_ROUNDING)


@quick
@given(shape=st.sampled_from(["linear", "cosine"]), start=shares, end=shares, num_stages=st.integers(1, 200))
def test_ramp_holds_the_integral_of_its_curve(shape, start, end, num_stages):
    """Both curves are symmetric about their middle, so the mean of the shares is that of the ends."""
    lengths, values, _ = parted(Ramp(num_stages * 40, start, end, shape, num_stages).table(), 0)
    assert np.average(values[:-1], weights=lengths) == pytest.approx((start + end) / 2, abs=_ROUNDING)


@pytest.mark.parametrize(
    ("shape", "curve"),
    [("linear", lambda t: t), ("cosine", lambda t: (1 - np.cos(np.pi * t)) / 2)],
)
def test_ramp_follows_its_curve(shape, curve):
    _, values, starts = parted(Ramp(1000, 0.1, 0.9, shape, 50).table(), 1000)
    middles = (starts[:-1] + starts[1:]) / 2000
    np.testing.assert_allclose(values[:-1], 0.1 + 0.8 * curve(middles), atol=_ROUNDING)


@quick
@given(start=shares, end=shares, num_stages=st.integers(2, 20))
def test_ramp_in_steps_climbs_equally_from_the_start_to_the_end(start, end, num_stages):
    _, values, _ = parted(Ramp(1000, start, end, "steps", num_stages).table(), 1000)
    np.testing.assert_allclose(values[:-1], np.linspace(start, end, num_stages), atol=_ROUNDING)


@quick
@given(ramp=st.builds(Ramp, lengths, shares, shares, st.sampled_from(list(RAMPS)), numbers_of_stages))
def test_ramp_shares_do_not_hang_on_the_last_bit_of_a_library(ramp):
    _, values, _ = parted(ramp.table(), 0)
    np.testing.assert_array_equal(values[:-1] * 2**20 % 1, 0)


@quick
@given(num_draws=lengths, start=parts, full_at=parts, shape=st.sampled_from(list(PACES)), num_stages=numbers_of_stages)
def test_pacing_grows_from_its_start_to_everything(num_draws, start, full_at, shape, num_stages):
    table = Pacing(num_draws, start, full_at, shape, num_stages).table()
    lengths, values, starts = parted(table, num_draws)
    growth = max(1, round(num_draws * full_at))
    assert starts[0] == 0 and table[-1] == (growth, 1.0)
    assert values[0] == pytest.approx(start, abs=_ROUNDING)
    assert np.all(np.diff(values) >= 0) and values.max() <= 1
    assert lengths.size == min(num_stages, growth)
    assert lengths.min() >= 1 and lengths.max() - lengths.min() <= 1


@pytest.mark.parametrize(
    ("shape", "curve"),
    [
        ("linear", lambda t: 0.2 + 0.8 * t),
        ("root", lambda t: np.sqrt(0.04 + 0.96 * t)),
        ("geometric", lambda t: 0.2 * 5**t),
    ],
)
def test_pacing_follows_its_curve(shape, curve):
    _, values, starts = parted(Pacing(1000, 0.2, 0.5, shape, 25).table(), 1000)
    np.testing.assert_allclose(values[:-1], curve(starts[:-1] / 500), atol=_ROUNDING)


@quick
@given(num_draws=st.integers(40, 10**6), num_levels=st.integers(1, 10), real_part=st.just(0.0) | st.floats(0.1, 0.6))
def test_levels_come_in_order_equally_long_and_then_real(num_draws, num_levels, real_part):
    order = [f"level{k}" for k in range(num_levels)]
    stages = levels(num_draws, order, real_part)
    num_real = round(num_draws * real_part)
    made = stages[:-1] if num_real else stages
    assert [shares for _, shares in made] == [{name: 1.0} for name in order]
    assert max(n for n, _ in made) - min(n for n, _ in made) <= 1
    assert sum(n for n, _ in made) == num_draws - num_real
    assert not num_real or stages[-1] == (num_real, {"real": 1.0})


@quick
@given(num_draws=st.integers(100, 10**9), weights=st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_fractions_fill_training_to_within_a_draw(num_draws, weights):
    rows = [{"real": 1.0 / (k + 1), "edm": k / (k + 1)} for k in range(len(weights))]
    given_parts = [weight / sum(weights) for weight in weights]
    stages = fractions(num_draws, list(zip(given_parts, rows, strict=True)))
    assert [row for _, row in stages] == rows
    assert sum(n for n, _ in stages) == num_draws
    edges, due = (np.cumsum(part) for part in ([n for n, _ in stages], np.array(given_parts) * num_draws))
    assert np.abs(edges - due).max() <= 0.5 + 1e-6  # of the nearest whole draw


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Ramp(0, 0.0, 1.0), "Got num_draws=0, expected a whole number from 1"),
        (lambda: Ramp(10.5, 0.0, 1.0), r"Got num_draws=10\.5, expected a whole number"),
        (lambda: Ramp(2**62, 0.0, 1.0), "Got num_draws=4611686018427387904, expected"),
        (lambda: Ramp(True, 0.0, 1.0), "Got num_draws=True, expected"),
        (lambda: Ramp(10, 0.0, 1.0, num_stages=0), "Got num_stages=0, expected a whole number from 1"),
        (lambda: Ramp(10, -0.1, 1.0), r"Got start=-0\.1 of a ramp, expected a share from 0 to 1"),
        (lambda: Ramp(10, 0.0, 1.1), r"Got end=1\.1 of a ramp, expected a share from 0 to 1"),
        (lambda: Ramp(10, math.nan, 1.0), "Got .*nan.* of a ramp, expected a share from 0 to 1"),
        (lambda: Ramp(10, 0.0, 1.0, "sine"), "Got shape='sine' of a ramp, expected linear, cosine, steps. Choose"),
        (lambda: Pacing(0), "Got num_draws=0, expected a whole number from 1"),
        (lambda: Pacing(10, num_stages=-1), "Got num_stages=-1, expected a whole number from 1"),
        (lambda: Pacing(10, start=0.0), r"Got start=0\.0 of a pacing, expected above 0, up to 1"),
        (lambda: Pacing(10, start=math.nan), "Got .*nan.* of a pacing, expected above 0, up to 1"),
        (lambda: Pacing(10, full_at=1.2), r"Got full_at=1\.2 of a pacing, expected above 0, up to 1"),
        (lambda: Pacing(10, shape="cosine"), "Got shape='cosine' of a pacing, expected linear, root, geometric. Ch"),
        (lambda: levels(10, []), r"Got the levels \[\], expected synthetic sources, each once"),
        (lambda: levels(10, ["a", "a"]), r"Got the levels \['a', 'a'\], expected"),
        (lambda: levels(10, ["a", "real"]), r"Got the levels \['a', 'real'\], expected"),
        (lambda: levels(10, ["a"], 1.0), r"Got real_part=1\.0, expected 0 <= real_part < 1"),
        (lambda: levels(10, ["a"], math.nan), "Got real_part=nan, expected"),
        (lambda: levels(0, ["a"]), "Got num_draws=0, expected"),
        (lambda: levels(10, "ab"), r"Got the levels .*, expected synthetic sources, each once"),
        (
            lambda: levels(3, ["a", "b", "c", "d"]),
            "Got 3 draws for 4 levels .* expected at least one draw for each. Train",
        ),
        (lambda: levels(10, ["a"], 0.01), "Got 10 draws for 1 levels .* expected at least one draw for each. Train"),
        (lambda: Ramp(10, "a", 1.0), "Got start='a' of a ramp, expected a share from 0 to 1"),
        (lambda: Pacing(10, full_at=None), "Got full_at=None of a pacing, expected above 0, up to 1"),
        (lambda: fractions(10, [(1.0,)]), r"Got the stages .*, expected pairs \(length, "),
        (lambda: fractions(10, []), r"Got stages of \[\] of training, expected parts above 0 that sum"),
        (lambda: fractions(10, [(0.5, {}), (0.4, {})]), r"Got stages of \[0\.5, 0\.4\] of training, expected"),
        (lambda: fractions(10, [(1.5, {}), (-0.5, {})]), r"Got stages of \[1\.5, -0\.5\] of training, expected"),
        (lambda: fractions(10, [(math.nan, {}), (0.5, {})]), "Got .*nan.*, expected .* above 0"),
        (
            lambda: fractions(3, [(0.1, {}), (0.9, {})]),
            r"Got stages of \[0, 3\] draws, expected at least 1 each. Train",
        ),
    ],
)
def test_schedule_refuses_what_is_no_schedule(make, said):
    with pytest.raises(ValueError, match=said):
        make()
