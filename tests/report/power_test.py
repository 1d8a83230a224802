"""What so many seeds can show: the words have the numbers of the analysis, and say where no seed helps."""

import numpy as np
from made_up_page import make_page

from jaxmoust.analysis.decisions import seeds_needed, smallest_difference
from jaxmoust.analysis.looks import Path
from jaxmoust.report import html, power
from jaxmoust.report.power import family_words


def words(num_seeds=5, spread=0.8, image_error=0.1, seed_seconds=None, num_compared=4):
    return family_words("mixture", 4, num_compared, num_seeds, spread, image_error, 1.0, 0.05, "points", seed_seconds)


def test_words_say_the_smallest_difference_and_the_seeds_for_the_margin():
    least, needed = smallest_difference(0.8, 5, 4, 0.1, 0.05, 0.8), seeds_needed(1.0, 0.8, 4, 0.1, 0.05, 0.8)
    said = (
        f"5 seeds find differences of {least:.1f} points and more with probability 0.8; for 1 it takes {needed} seeds."
    )
    assert words() == f"Mixtures (4 arms, standard deviation over seeds 0.8 points): {said}"
    assert f"{needed} seeds, about {needed} min 00 s of runs." in words(seed_seconds=60.0)


def test_more_seeds_see_smaller_differences_and_more_arms_larger_ones():
    def least(**of):
        return float(words(**of).partition("differences of ")[2].partition(" points")[0])

    assert least(num_seeds=20) < least() < least(spread=3.0) and least(num_compared=1) <= least() <= least(
        num_compared=30
    )


def test_words_say_where_no_number_of_seeds_helps():
    assert words(image_error=5.0).endswith("for 1 there are too few test images, whatever the seeds.")


def test_page_says_it_again_of_families_that_are_not_decided_with_the_spreads_that_were_found(tmp_path):
    page = make_page((0, 2, 40))
    (section,) = power.sections(page)
    (said,) = section.words
    decisions = [arm.decision for arm in page.summaries if arm.decision]
    spread = np.sqrt(np.mean([one.spread**2 for one in decisions]))
    assert [one.verdict for one in decisions] == ["undecided", "better"]
    assert "(2 arms, " in said and f"over seeds {spread:.1f} points" in said and "3 seeds find" in said
    assert section.title in html.write_report(page, tmp_path).read_text()
    assert power.sections(make_page((0, 40, -40))) == []


def test_arm_that_no_look_was_made_of_is_undecided_however_many_runs_it_has():
    path = Path("mixture", "arm0", ("arm1", "arm2"), (), ("arm1", "arm2"), 5)
    page = make_page((0, 40, -40), paths=[path])
    assert [arm.verdict for arm in page.summaries] == ["undecided"] * 3 and power.sections(page) == []
