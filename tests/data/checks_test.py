"""Arguments are brought to plain values or refused: got, allowed, remedy."""

import math

import numpy as np
import pytest

from jaxmoust.data.checks import check_choice, check_number, check_whole, listed


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: check_choice("filter", "sinc", ("box", "")), "Got filter='sinc', expected box, ''. Choose one"),
        (
            lambda: check_choice("split", "all", ("train",), " of digits"),
            "Got split='all' of digits, expected train",
        ),
        (lambda: check_number("beta", math.nan, "any number"), "Got beta=nan, expected any number"),
        (lambda: check_number("beta", True, "any number"), "Got beta=True, expected"),
        (lambda: check_number("beta", "0.5", "any number"), "Got beta='0.5', expected"),
        (
            lambda: check_number("beta", 2, "below 1", lambda x: x < 1, " of a law"),
            "Got beta=2 of a law, expected below",
        ),
        (lambda: check_whole("seed", 1.0), r"Got seed=1\.0, expected a whole number from 1"),
        (lambda: check_whole("seed", True), "Got seed=True, expected"),
        (lambda: check_whole("step", -1, 0), "Got step=-1, expected a whole number from 0"),
        (lambda: check_whole("num_draws", 2**62), "Got num_draws=4611686018427387904, expected"),
    ],
)
def test_checks_refuse_what_is_not_allowed(check, said):
    with pytest.raises(ValueError, match=said):
        check()


def test_checks_give_plain_numbers():
    assert type(check_number("x", np.float32(0.5), "any")) is float and type(check_whole("n", np.int64(3))) is int


@pytest.mark.parametrize(
    ("names", "written"),
    [([], ""), (["a"], "a"), ("abcde", "a, b, c, d, e"), (range(1007), "0, 1, 2, 3, 4 and 1,002 more")],
)
def test_listed_writes_a_few_and_counts_the_rest(names, written):
    assert listed(names) == written
