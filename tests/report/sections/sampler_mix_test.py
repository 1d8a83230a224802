"""Laws of the section on what the samplers drew: figures and numbers follow the counts."""

import numpy as np
from made_up_page import CLASSES, make_page

from jaxmoust.report.draw_counts import DrawCounts
from jaxmoust.report.sections import sampler_mix


def drawn():
    """32 windows of 6,000 draws of six classes, edm falling to nothing."""
    shares = (np.arange(32) + 0.5) / 32
    counts = np.repeat(np.stack([shares, 1 - shares], axis=1)[:, :, None], 6, axis=2) * 1000
    return DrawCounts(list(range(0, 801, 25)), ["real", "edm"], list(CLASSES), np.round(counts).astype(int))


def of_arms(**changes):
    real = DrawCounts([0, 400, 800], ["real", "edm"], list(CLASSES), np.tile([[[1000] * 6, [0] * 6]], (2, 1, 1)))
    return {"arm0": real, "arm1": drawn(), "arm2": drawn(), **changes}


def test_page_without_draws_has_no_such_section():
    assert sampler_mix.sections(make_page()) == []


def test_arms_of_one_source_are_in_the_table_alone_and_equal_arms_share_a_figure():
    (section,) = sampler_mix.sections(make_page(draws=of_arms()))
    (figure,) = section.figures
    assert figure.title == "Arm 1 · Arm 2" and not any("No record" in note for note in section.notes)
    assert "real 2 % at first, 98 % at the end, edm 98 % at first, 2 % at the end; classes even" in figure.markup.words
    assert [row[:2] for row in section.tables[0].rows] == [
        *(["Arm 0", "real"], ["Arm 1", "real"], ["Arm 1", "edm"], ["Arm 2", "real"], ["Arm 2", "edm"]),
    ]


def test_arms_without_a_record_are_named():
    draws = of_arms()
    del draws["arm1"]
    (section,) = sampler_mix.sections(make_page(draws=draws))
    assert section.notes[0] == "No record was kept for Arm 1." and len(section.figures) == 1


def test_table_has_the_shares_in_percent_at_the_start_the_middle_the_end_and_in_all():
    (section,) = sampler_mix.sections(make_page(draws=of_arms()))
    (_, _, edm, *_) = section.tables[0].rows
    shares = [value for value, _ in edm[2:6]]
    np.testing.assert_allclose(shares, [98.4, 48.4, 1.6, 50.0], atol=0.11)  # whole draws
    assert edm[6] == "even"


def test_arm_that_prefers_classes_has_a_figure_though_its_source_is_one():
    counts = np.tile(np.array([[[2000] + [1000] * 5]]), (2, 1, 1))
    only = DrawCounts([0, 400, 800], ["real"], list(CLASSES), counts)
    (section,) = sampler_mix.sections(make_page(draws={"arm0": only}))
    assert "classes 0.86 (bee) to 1.7 (ant)" in section.figures[0].markup.words and len(section.tables[0].rows) == 1
