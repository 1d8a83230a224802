"""The section on the domain gap: every set's numbers and planes, read from what `domain` leaves."""

import dataclasses

import numpy as np
import pytest

from jaxmoust.report.sections import domain_gap
from jaxmoust.report.sections.diagnostic import Diagnostic
from jaxmoust.report.sections.domain_gap import PLANES

GAP = {
    "accuracy": 95.5,
    "accuracy_interval": [91.7, 97.6],
    "auc": 0.9976,
    "auc_interval": [0.9757, 0.9998],
    "n": 200,
    "real": "base",
    "image_shape": [8, 8, 1],
    "class_names": ["a", "b"],
    "own_shapes": {"real": [8, 8, 1], "synthetic": [8, 8, 1]},
    "overlap": {"domain": 0.05, "classifier": 1.04},
}


@pytest.fixture
def gap(tmp_path):
    points = np.random.default_rng(0).normal(size=(30, 2))
    shares = np.array([0.9, 0.05])
    planes = {"domain": points, "classifier": points, "domain_shares": shares, "classifier_shares": shares}
    np.savez(tmp_path / "features.npz", is_real=np.arange(30) < 10, label=np.arange(30) % 2, **planes)
    return Diagnostic("edm", "edm", 0, GAP, tmp_path, set_title="EDM")


def of_result(gap, **changes):
    return dataclasses.replace(gap, result={**gap.result, **changes})


def test_section_has_a_sentence_and_two_planes_for_each_set(gap):
    found = domain_gap.section([gap])
    assert found.words == [
        "A classifier that was trained to distinguish synthetic from real images is, on held-out ones, better than "
        "chance (EDM)."
    ]
    assert [(figure.title, figure.group) for figure in found.figures] == [(title, "EDM") for title in PLANES.values()]
    words = "10 real images and 20 synthetic ones in the plane of the classifier's features, 90 and 5 % of the variance"
    assert all(words in figure.markup.words for figure in found.figures)
    assert [figure.caption for figure in found.figures] == ["overlap 0.05", "overlap 1.04"]


def test_section_of_several_seeds_draws_the_first(gap):
    assert len(domain_gap.section([dataclasses.replace(gap, seed=seed) for seed in range(3)]).figures) == 2


def test_overview_has_a_set_s_own_intervals_or_those_over_its_seeds(gap):
    assert domain_gap.overview([gap]) == {
        "Distinguished, %": (95.5, "95.5 [91.7, 97.6]"),
        "AUC": (0.9976, "1.00 [0.98, 1.00]"),
        "Overlap: real?": (0.05, "0.05"),
        "Overlap: class?": (1.04, "1.04"),
    }
    seeds = [dataclasses.replace(of_result(gap, accuracy=x), seed=seed) for seed, x in enumerate((90, 99, 99))]
    assert domain_gap.overview(seeds)["Distinguished, %"] == (96.0, "96.0 [83.1, 100.0]")


def test_set_without_a_real_trained_classifier_has_one_plane(gap):
    alone = of_result(gap, overlap={"domain": 0.05})
    assert [figure.title for figure in domain_gap.section([alone]).figures] == [PLANES["domain"]]
    assert "Overlap: class?" not in domain_gap.overview([alone])


def test_sentence_follows_the_intervals_of_the_auc(gap):
    intervals = {"good": [0.9, 0.99], "fine": [0.6, 0.8], "chance": [0.45, 0.55], "copies": [0.2, 0.4]}
    found = [
        dataclasses.replace(of_result(gap, auc_interval=x), name=name, set=name, set_title=name)
        for name, x in intervals.items()
    ]
    (words,) = domain_gap.section(found).words
    assert "better than chance (good; fine), no better than chance (chance), worse than chance (copies)." in words


def test_section_says_which_sizes_the_images_had_where_they_differ(gap):
    found = domain_gap.section([of_result(gap, own_shapes={"real": None, "synthetic": [64, 64, 3]})])
    assert found.words[1] == "EDM: the real images had several sizes, the synthetic ones 64x64x3."
    assert any("traces of resizing" in note for note in found.notes)


def test_answer_is_over_seeds_with_an_interval_that_stays_within_percent(gap):
    found = [dataclasses.replace(of_result(gap, accuracy=x), seed=seed) for seed, x in enumerate((90, 99, 99))]
    assert "96.0 % [83.1, 100.0] (EDM) of cases; chance is 50 %" in domain_gap.section(found).answer
    assert domain_gap.section(found[:1]).answer == ""
