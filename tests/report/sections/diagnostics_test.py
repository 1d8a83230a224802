"""The sections of probes: every set's numbers, charts and pairs, read from what the verbs leave."""

import dataclasses
import json

import numpy as np
import pytest

from jaxmoust.report.sections import diagnostics
from jaxmoust.study import stage_graph

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
NEAR = {"fid[net-1]": 4.5, "fid_floor[net-1]": 1.2, "class_names": ["zero", "one"]}

OF_CLASS = [
    {"class": "zero", "n": 20, "share_expected": 0.01, "share_suspicious": 0.25, "lowest_ratio": 0.21},
    {"class": "one", "n": 0, "share_expected": 0.0, "share_suspicious": None, "lowest_ratio": None},
]


def looked(folder, set_name, result):
    folder.mkdir()
    return diagnostics.Looked(set_name, set_name, 0, result, folder)


@pytest.fixture
def gap(tmp_path):
    found = looked(tmp_path / "gap", "edm", GAP)
    points = np.random.default_rng(0).normal(size=(30, 2))
    shares = np.array([0.9, 0.05])
    planes = {"domain": points, "classifier": points, "domain_shares": shares, "classifier_shares": shares}
    np.savez(found.folder / "features.npz", is_real=np.arange(30) < 10, **planes)
    return found


@pytest.fixture
def near(tmp_path):
    found = looked(tmp_path / "near", "edm", NEAR)
    (found.folder / "memorisation.json").write_text(
        json.dumps({s: {"threshold": 0.5, "per_class": OF_CLASS} for s in ("pixels", "net-1")})
    )
    ratios = {f"{s}/{kind}": np.linspace(0.2, 2, 20) for s in ("pixels", "net-1") for kind in ("synthetic", "heldout")}
    np.savez(found.folder / "ratios.npz", **ratios)
    pairs = {}
    for space in ("pixels", "net-1"):
        pairs |= {f"{space}/{kind}": np.zeros((12, 8, 8, 1), np.uint8) for kind in ("synthetic", "train")}
        pairs |= {f"{space}/{kind}_label": np.arange(12) % 2 for kind in ("synthetic", "train")}
        pairs[f"{space}/ratio"] = np.linspace(0.21, 0.9, 12)
    np.savez(found.folder / "pairs.npz", **pairs)
    return found


def test_every_table_of_probes_has_a_section():
    assert set(diagnostics.PROBES) == set(stage_graph.PROBES)


def test_domain_gap_has_a_sentence_a_row_and_two_panels_for_each_set(gap):
    made = diagnostics.domain_gap([gap])
    (words,), (row,) = made.words, made.tables[0].rows
    assert words.startswith("edm: A classifier tells synthetic images from real ones: 95.5 % right [91.7, 97.6]")
    assert row == ("edm", 0, "0.998 [0.976, 1.000]", "95.5 [91.7, 97.6]", 200)
    assert [figure.title for figure in made.figures] == ["edm. Asked: real or synthetic?", "edm. Asked: which class?"]


def test_domain_gap_of_several_seeds_draws_the_first_and_says_the_mean_of_all(gap):
    looked = [diagnostics.Looked("edm", "edm", seed, {**GAP, "accuracy": 90.0 + seed}, gap.folder) for seed in range(3)]
    made = diagnostics.domain_gap(looked)
    (words,) = made.words
    # Student's t for 3 seeds: 4.303 * 1 / sqrt(3) = 2.48.
    assert "90.0 % right" in words and words.endswith("Over 3 seeds 91.0 % [88.5, 93.5] are told right.")
    assert len(made.figures) == 2 and [row[1] for row in made.tables[0].rows] == [0, 1, 2]


def test_fidelity_has_a_histogram_for_each_space_and_the_closest_pairs(near):
    made = diagnostics.fidelity([near])
    spaces = ("pixels", "net-1")
    titles = [f"edm, {space}{what}" for space in spaces for what in ("", ": closest pairs")]
    assert [figure.title for figure in made.figures] == titles
    for pairs in made.figures[1::2]:
        assert pairs.markup.count("<img") == diagnostics.NUM_PAIRS
        assert "a synthetic one and the nearest training image, a one" in pairs.markup
    nearness, *copies = made.tables
    assert nearness.rows == [("edm", "4.50 (1.20)")]
    assert [(table.rows, table.values) for table in copies] == [([("zero", "25.0 (1.0; 0.21)")], [(None, 25.0)])] * 2
    assert all(space in table.title for space, table in zip(spaces, copies, strict=True))


def test_probe_of_another_name_than_its_set_is_told_apart(near):
    other = diagnostics.Looked("by_clip", "edm", 0, near.result, near.folder)
    assert [row[0] for row in diagnostics.fidelity([near, other]).tables[0].rows] == ["edm", "edm (by_clip)"]


def test_fidelity_names_the_accuracy_of_classifiers_of_the_set_alone(near):
    alone = dataclasses.replace(near, only=(90.0, 92.0, 91.0))
    tables = diagnostics.fidelity([near, alone, dataclasses.replace(alone, name="by_clip")]).tables
    (cas,) = [table for table in tables if "CAS" in table.title]
    assert cas.rows == [("edm", "91.00 [88.52, 93.48]", 3)]  # once a set; Student's t by hand: 1 x 4.303 / sqrt(3)
    assert not any("CAS" in table.title for table in diagnostics.fidelity([near]).tables)


def test_fidelity_of_a_generator_that_learnt_elsewhere_says_so_and_shows_no_copies(near, tmp_path):
    other = looked(tmp_path / "other", "many", {**NEAR, "notes": "The generator learnt from other images than these."})
    made = diagnostics.fidelity([other])
    assert not made.figures and len(made.tables) == 1
    assert made.words == ["many: The generator learnt from other images than these."]


def test_domain_gap_answers_over_seeds_with_an_interval_that_stays_within_percent(gap):
    looked = [dataclasses.replace(gap, seed=seed, result={**GAP, "accuracy": x}) for seed, x in enumerate((90, 99, 99))]
    assert "96.0 % [83.1, 100.0] (edm) of cases; chance is 50 %" in diagnostics.domain_gap(looked).answer
    assert diagnostics.domain_gap(looked[:1]).answer == ""
