"""The section on the domain gap: every set's numbers and planes, read from what `domain` leaves."""

import dataclasses

import numpy as np
import pytest

from jaxmoust.report.sections import domain_gap
from jaxmoust.report.sections.diagnostic import Diagnostic

GAP = {
    "accuracy": 95.5,
    "accuracy_interval": [91.7, 97.6],
    "auc": 0.9976,
    "auc_interval": [0.9757, 0.9998],
    "n": 200,
    "real": "base",
    "image_shape": [8, 8, 1],
    "own_shapes": {"real": [8, 8, 1], "synthetic": [8, 8, 1]},
    "overlap": {"domain": 0.05, "classifier": 1.04},
}


@pytest.fixture
def gap(tmp_path):
    points = np.random.default_rng(0).normal(size=(30, 2))
    shares = np.array([0.9, 0.05])
    planes = {"domain": points, "classifier": points, "domain_shares": shares, "classifier_shares": shares}
    np.savez(tmp_path / "features.npz", is_real=np.arange(30) < 10, **planes)
    return Diagnostic("edm", "edm", 0, GAP, tmp_path)


def of_result(gap, **changes):
    return dataclasses.replace(gap, result={**gap.result, **changes})


def test_section_has_a_sentence_a_row_and_two_planes_for_each_set(gap):
    made = domain_gap.section([gap])
    assert made.words == [
        "A classifier that was trained to distinguish synthetic from real images is, on held-out ones, better than "
        "chance for edm."
    ]
    (row,) = made.tables[0].rows
    assert row[:5] == ["edm", 0, (0.9976, "0.998 [0.976, 1.000]"), (95.5, "95.5 [91.7, 97.6]"), 200]
    assert row[5:] == [(0.05, "0.05"), (1.04, "1.04"), "of the base set", "8x8x1", "8x8x1"]
    assert [figure.title for figure in made.figures] == ["edm: real or synthetic?", "edm: which class?"]
    words = (
        "10 real images and 20 synthetic ones in the plane of the classifier&#39;s features, 90 and 5 % of the variance"
    )
    assert all(words.replace("&#39;", "'") in figure.markup for figure in made.figures)
    assert [figure.caption for figure in made.figures] == ["overlap 0.05", "overlap 1.04"]


def test_section_of_several_seeds_draws_the_first_and_has_a_row_for_each(gap):
    made = domain_gap.section([dataclasses.replace(gap, seed=seed) for seed in range(3)])
    assert len(made.figures) == 2 and [row[1] for row in made.tables[0].rows] == [0, 1, 2]


def test_set_without_a_real_trained_classifier_has_one_plane(gap):
    made = domain_gap.section([of_result(gap, overlap={"domain": 0.05})])
    assert [figure.title for figure in made.figures] == ["edm: real or synthetic?"]
    assert made.tables[0].rows[0][5:7] == [(0.05, "0.05"), None]


def test_sentence_follows_the_intervals_of_the_auc(gap):
    intervals = {"good": [0.9, 0.99], "fine": [0.6, 0.8], "chance": [0.45, 0.55], "copies": [0.2, 0.4]}
    found = [dataclasses.replace(of_result(gap, auc_interval=x), name=name, set=name) for name, x in intervals.items()]
    (words,) = domain_gap.section(found).words
    assert "better than chance for good, fine; no better than chance for chance; worse than chance for copies." in words


def test_table_has_the_sizes_that_images_had(gap):
    made = domain_gap.section([of_result(gap, own_shapes={"real": None, "synthetic": [64, 64, 3]}, real="outside")])
    assert made.tables[0].rows[0][-3:] == ["others", "several", "64x64x3"]
    assert any("traces of resizing" in note for note in made.notes)


def test_answer_is_over_seeds_with_an_interval_that_stays_within_percent(gap):
    found = [dataclasses.replace(of_result(gap, accuracy=x), seed=seed) for seed, x in enumerate((90, 99, 99))]
    assert "96.0 % [83.1, 100.0] (edm) of cases; chance is 50 %" in domain_gap.section(found).answer
    assert domain_gap.section(found[:1]).answer == ""
