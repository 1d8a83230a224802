"""What so many seeds can show: the words have the numbers of the analysis, and say where no seed helps."""

from jaxmoust.analysis.decisions import seeds_needed, smallest_difference
from jaxmoust.report.power import family_words


def words(num_seeds=5, spread=0.8, image_error=0.1, seed_seconds=None, num_compared=4):
    return family_words("mixture", 4, num_compared, num_seeds, spread, image_error, 1.0, 0.05, "points", seed_seconds)


def test_words_say_the_smallest_difference_and_the_seeds_for_the_margin():
    least, needed = smallest_difference(0.8, 5, 4, 0.1, 0.05, 0.8), seeds_needed(1.0, 0.8, 4, 0.1, 0.05, 0.8)
    said = f"5 seeds find differences from {least:.1f} points on with probability 0.8; for 1 it takes {needed} seeds."
    assert words() == f"Mixtures (4 arms, which spread by 0.8 points over seeds): {said}"
    assert f"{needed} seeds, about {needed} min 00 s of runs." in words(seed_seconds=60.0)


def test_more_seeds_see_smaller_differences_and_more_arms_larger_ones():
    def least(**of):
        return float(words(**of).partition("differences from ")[2].partition(" points")[0])

    assert least(num_seeds=20) < least() < least(spread=3.0) and least(num_compared=1) <= least() <= least(
        num_compared=30
    )


def test_words_say_where_no_number_of_seeds_helps():
    assert words(image_error=5.0).endswith("for 1 there are too few test images, whatever the seeds.")
