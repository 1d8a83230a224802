"""The section on fidelity and memorisation: every set's numbers, charts and pairs, read from what `measure` leaves."""

import dataclasses
import json

import numpy as np
import pytest

from jaxmoust.report.sections import fidelity
from jaxmoust.report.sections.diagnostic import Diagnostic
from jaxmoust.report.sections.fidelity import copies_by_class, overview

NEAR = {"fid[net-1]": 4.5, "fid_floor[net-1]": 1.2, "class_names": ["zero", "one"]}

OF_CLASS = [
    {"class": "zero", "n": 20, "share_expected": 0.01, "share_suspicious": 0.25, "lowest_ratio": 0.21},
    {"class": "one", "n": 0, "share_expected": 0.0, "share_suspicious": None, "lowest_ratio": None},
]


def diagnostic(folder, set_name, result):
    folder.mkdir()
    return Diagnostic(set_name, set_name, 0, result, folder)


@pytest.fixture
def near(tmp_path):
    found = diagnostic(tmp_path / "near", "edm", NEAR)
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


def test_fidelity_has_a_histogram_for_each_space_and_the_closest_pairs_beside_the_images(near):
    distances, closest = fidelity.sections([near])
    spaces = ("pixels", "net-1")
    assert [figure.title for figure in distances.figures] == [f"By {space}" for space in spaces]
    assert [figure.title for figure in closest.figures] == [f"edm, {space}" for space in spaces] and closest.of_images
    for pairs in closest.figures:
        assert pairs.markup.count("<img") == fidelity.NUM_PAIRS
        assert "a synthetic one and the nearest training image, a one" in pairs.markup
    assert [table.rows for table in distances.tables] == [[("zero", (25.0, "25.0 (1.0; 0.21)"))]] * 2
    assert "5.0 % of synthetic images lie at or below 0.50" not in distances.figures[0].markup.words
    assert "% of synthetic images lie at or below 0.50" in distances.figures[0].markup.words
    assert all(space in table.title for space, table in zip(spaces, distances.tables, strict=True))


def test_each_shown_image_stands_beside_its_nearest_training_image_by_features(near):
    assert len(fidelity.sections([near])) == 2  # measured by an earlier version
    with np.load(near.folder / "pairs.npz") as pairs:
        np.savez(near.folder / "shown.npz", **pairs)
    _, above, _ = fidelity.sections([near])
    assert above.folded and above.of_images and [figure.title for figure in above.figures] == ["edm, net-1"]
    assert above.figures[0].markup.count("<img") == 12


def test_diagnostic_of_another_name_than_its_set_is_told_apart(near):
    other = Diagnostic("by_clip", "edm", 0, near.result, near.folder)
    assert list(overview([near, other])) == ["edm", "edm (by_clip)"]


def test_overview_names_the_accuracy_of_classifiers_of_the_set_alone(near):
    alone = dataclasses.replace(near, top1_alone=(90.0, 92.0, 91.0))
    # Student's t by hand: 1 x 4.303 / sqrt(3)
    assert overview([alone])["edm"] == {"FID ↓": (4.5, "4.50 (1.20)"), "CAS, %": (91.0, "91.00 [88.52, 93.48]")}
    assert list(overview([near])["edm"]) == ["FID ↓"]


def test_fidelity_of_a_generator_that_learnt_elsewhere_says_so_and_shows_no_copies(near, tmp_path):
    other = diagnostic(
        tmp_path / "other", "many", {**NEAR, "notes": "The generator learnt from other images than these."}
    )
    (found,) = fidelity.sections([other])
    assert not found.figures and not found.tables
    assert found.words == ["many: The generator learnt from other images than these."]


RESULT = {
    "n": 2000,
    "extractor": "clip-1",
    "fid[clip-1]": 4.5678,
    "fid_floor[clip-1]": 1.2,
    "kid[clip-1]": 0.0123,
    "kid_floor[clip-1]": -0.001,
    "kid_std[clip-1]": 0.1,
    "kid_std_floor[clip-1]": 0.1,
    "closer[pixels-8px]": 0.5,
    "closer_floor[pixels-8px]": 0.5,
}


def measured(tmp_path, **results):
    return overview([Diagnostic(name, name, 0, result, tmp_path) for name, result in results.items()])


def test_overview_gives_each_metric_of_each_set_beside_its_floor(tmp_path):
    found = measured(tmp_path, edm=RESULT, ddpm={**RESULT, "fid[clip-1]": 9.0})
    assert {name: [text for _, text in cells.values()] for name, cells in found.items()} == {
        "edm": ["4.57 (1.20)", "12.30 (\N{MINUS SIGN}1.00)", "0.50 (0.50)"],
        "ddpm": ["9.00 (1.20)", "12.30 (\N{MINUS SIGN}1.00)", "0.50 (0.50)"],
    }
    assert list(found["edm"]) == ["FID ↓", "1000 KID ↓", "P(closer)"]
    assert [value for value, _ in found["edm"].values()] == pytest.approx([4.5678, 12.3, 0.5])


def test_metrics_of_several_spaces_are_apart_and_of_nothing_are_none(tmp_path):
    other = {k.replace("clip-1", "vit-2"): v for k, v in RESULT.items()}
    found = measured(tmp_path, a=RESULT, b=other)
    assert list(found["a"]) == ["FID ↓ clip-1", "1000 KID ↓ clip-1", "P(closer)"]
    assert list(found["b"]) == ["FID ↓ vit-2", "1000 KID ↓ vit-2", "P(closer)"]
    assert overview([]) == {} and measured(tmp_path, a={"n": 3}) == {"a": {}}


def test_spaces_are_named_without_the_digest_of_a_checkpoint_unless_two_differ_in_it():
    one, two = "real_classifier-d2118848", "real_classifier-0a1b2c3d"
    assert fidelity.space_words(one, [one, "pixels-8px"]) == "real classifier"
    assert [fidelity.space_words(space, [one, two]) for space in (one, two)] == [one, two]


def test_overview_compares_as_many_synthetic_as_test_images(tmp_path):
    found = measured(tmp_path, a={"fid[x]": 1.0, "fid_alike[x]": 1.25, "fid_floor[x]": 0.5})
    assert found == {"a": {"FID ↓": (1.25, "1.25 (0.50)")}}


def of_class(name, n, share):
    found = {"class": name, "n": n, "share_suspicious": share if n else None, "lowest_ratio": 0.5 if n else None}
    return {**found, "share_expected": 0.01 if n > 1 else None}


def test_copies_by_class_keep_the_order_of_classes_and_show_a_dash_for_none():
    one = [of_class("a", 0, 0), of_class("b", 5, 0.2), of_class("c", 0, 0)]
    two = [of_class("a", 1, 0.4), of_class("b", 0, 0), of_class("c", 0, 0)]
    found = copies_by_class("net-1", {"edm": one, "ddpm": two})
    assert found.columns == ("Class", "edm", "ddpm")
    dash = "\N{EN DASH}"
    assert found.rows == [("a", None, (40.0, f"40.0 ({dash}; 0.50)")), ("b", (20.0, "20.0 (1.0; 0.50)"), None)]
    assert not copies_by_class("net-1", {"edm": ()}).rows
