"""The section of mistakes: the confusion matrix, the most confident mistakes, and what is shown of which runs."""

import re

import numpy as np
import pytest

from jaxmoust.report.sections import predictions

LABELS = np.array([0, 0, 0, 1, 1, 2])
NAMES = ("cat", "do<g", "owl", "none of it")
#            wrong in both runs: image 1; in one: 3
RUNS = {
    0: (np.array([0, 1, 0, 2, 1, 2]), np.array([0.9, 0.8, 0.7, 0.99, 0.6, 0.5])),
    1: (np.array([0, 1, 0, 1, 1, 2]), np.array([0.9, 0.9, 0.7, 0.5, 0.6, 0.5])),
}


def image(i):
    return np.full((4, 4, 1), 10 * i, np.uint8), f"{NAMES[LABELS[i]]}/{i}.png"


def section(runs=RUNS, **titles):
    titles = titles or {"real": "Real <only>"}
    return predictions.sections(titles, {"real": runs}, LABELS, NAMES, image)


def test_confusion_shares_are_of_a_class_over_all_runs():
    shares = predictions.confusion_shares([of_run for of_run, _ in RUNS.values()], LABELS, NAMES)
    np.testing.assert_allclose(shares[:3], [[2 / 3, 1 / 3, 0, 0], [0, 3 / 4, 1 / 4, 0], [0, 0, 1, 0]])
    assert np.isnan(shares[3]).all()  # a class without a test image


def test_confident_mistakes_come_first_and_those_of_all_runs_before_those_of_one():
    assert predictions.confident_mistakes([*RUNS.values()], LABELS) == [
        (1, 1, 2, pytest.approx(0.85)),
        (3, 2, 1, pytest.approx(0.99)),
    ]


def test_section_shows_matrix_pairs_and_pictures_with_their_files_and_escapes_names():
    (found,) = section()
    matrix, pictures = found.figures
    assert "cat as do<g 33.3%" in matrix.markup.words and "33%" in matrix.markup.svg
    assert "do<g" not in matrix.markup.__html__()
    assert [row[:3] for row in found.tables[0].rows] == [
        ["cat", "do<g", (pytest.approx(1 / 3), "33.3%")],
        ["do<g", "owl", (0.25, "25.0%")],
    ]
    assert re.findall(r'<figure title="(\S+)"', pictures.markup) == ["cat/1.png", "do&lt;g/3.png"]
    assert "cat, predicted do&lt;g<br>" in pictures.markup and "2 of 2, 85%" in pictures.markup


def test_section_is_of_arms_that_kept_predictions_and_none_where_no_run_did():
    assert section({}) == []
    assert len(section(real="Real", mixed="Mixed")[0].tables[0].columns) == 3
    right = {0: (LABELS, np.ones(6))}
    (found,) = section(right)
    assert len(found.figures) == 1 and not found.tables  # there is no mistake


def test_read_takes_what_a_run_kept_nothing_of_an_older_one_and_refuses_other_images(tmp_path):
    assert predictions.read(tmp_path, LABELS, 4) is None
    for name, array in zip(predictions.FILES, RUNS[0], strict=True):
        np.save(tmp_path / name, array)
    np.testing.assert_array_equal(predictions.read(tmp_path, LABELS, 4)[0], RUNS[0][0])
    for labels, num_classes in ((LABELS[:5], 4), (LABELS, 2)):
        with pytest.raises(ValueError, match="got predictions"):
            predictions.read(tmp_path, labels, num_classes)
