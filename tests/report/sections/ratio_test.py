"""Accuracy by ratio: a line for each kind of synthetic images, from the same numbers as the page's table."""

import pytest
from made_up_page import make_page

from jaxmoust.report.arms import summarise
from jaxmoust.report.sections import ratio


@pytest.fixture
def page():
    """Arm 0 is real images alone; 1 to 3 mix images of an EDM, 4 to 6 are of a DDPM alone; arm 2 and arm 6 are best."""
    page = make_page((0, 10, 40, -40, -80, -40, -20))
    sizes = {"arm0": 0, **{f"arm{i}": n for i, n in zip(range(1, 7), (50, 100, 200) * 2, strict=True)}}
    for row in page.rows:
        n, other = sizes[row["arm"]], row["arm"] > "arm3"
        row |= {"n_synthetic": n, "share": 1.0 if other else n / (100 + n), "generator": "ddpm" if other else "edm"}
    return page


def sections(page):
    return ratio.sections(summarise(page.arms, page.rows), page.baseline)


def top1(page, name):
    return page.summary_of(name).over_seeds("top1").mean


def test_each_kind_says_its_best_ratio(page):
    (made,) = sections(page)
    assert made.words == [
        f"edm: at best {top1(page, 'arm2'):.2f} % at 1 to 1, beside {top1(page, 'arm0'):.2f} % of Arm 0.",
        f"ddpm: at best {top1(page, 'arm6'):.2f} % at 2 to 1, beside {top1(page, 'arm0'):.2f} % of Arm 0.",
    ]
    (figure,) = made.figures
    assert ">edm</text>" in figure.markup.svg and ">ddpm</text>" in figure.markup.svg
    # Only what mixes real images begins with real images alone.
    assert figure.markup.svg.count("stroke-dasharray") == 1


def test_kinds_of_one_generator_are_told_apart_by_what_differs(page):
    for row in page.rows:
        row["generator"] = "edm"
    (made,) = sections(page)
    assert [words.partition(":")[0] for words in made.words] == ["edm", "edm, only"]


@pytest.mark.parametrize(
    "change",
    [{"n_synthetic": 50}, {"top1": None}, {"n_synthetic": 0}],
    ids=["one ratio", "no result", "no synthetic images"],
)
def test_study_of_fewer_ratios_has_no_such_section(page, change):
    for row in page.rows:
        row |= change
    assert sections(page) == []


def test_arm_whose_seeds_differ_in_size_or_share_is_on_no_line(page):
    """As after a filter by a score of each seed's own."""
    for row in page.rows:
        if row["arm"] == "arm6":
            row |= {"n_synthetic": 190 + row["seed"], "share": 0.5 + row["seed"] / 100}
    (made,) = sections(page)
    assert [words.partition(":")[0] for words in made.words] == ["edm"]


def test_study_of_several_base_sets_leaves_it_to_the_law(page):
    page.rows[0]["n_base"] = 50
    assert sections(page) == []
