"""Laws of core/checks.py."""

import pytest

from jaxmoust.core.checks import check_choice, check_not_negative, check_rate


def test_names_that_are_known_and_rates_below_one_pass():
    check_choice("pool", "gap", ("token", "gap"))
    check_rate("dropout", 0.0)


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="got pool='max'; known: 'gap', 'token'"):
        check_choice("pool", "max", ("token", "gap"))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rate_outside_its_range_is_refused(rate):
    with pytest.raises(ValueError, match=r"got dropout=.*, expected 0 <= dropout < 1"):
        check_rate("dropout", rate)


@pytest.mark.parametrize("value", [-1, float("nan")])
def test_number_below_zero_is_refused_by_name(value):
    with pytest.raises(ValueError, match="got scale="):
        check_not_negative(rotate_deg=0, scale=value)
