"""The real images of a job: the base set, what is left, the shape they are brought to; sets that join them; filters."""

import types

import numpy as np
import photographs
import pytest

from jaxmoust.data.pool import Pool
from jaxmoust.data.real import filtered, open_set, real_data, shape_of
from jaxmoust.data.sources import registry as sources
from jaxmoust.data.sources.image_folder import Rules

GOLDEN_BASE = "2c5146de288ebacb40ee3d701421281a"


def test_real_data_splits_the_training_images_into_base_and_unused():
    real, train = real_data("digits", n_base=100), sources.digits("train")
    assert (len(real.base), len(real.unused), len(real.test), real.shape) == (100, 900, 797, (8, 8, 1))
    assert real.base.name == "real"
    np.testing.assert_array_equal(real.base.class_counts(), np.full(10, 10))
    union = np.concatenate([real.base.images(np.arange(100)), real.unused.images(np.arange(900))])
    everything = train.images(np.arange(1000))
    assert sorted(map(bytes, union)) == sorted(map(bytes, everything))


@pytest.mark.parametrize("field", [{"copies": 0}, {"random_crop": 1.5}, {"test_crop": 0.0}, {"test_crop": 1.1}])
def test_real_data_refuses_crops_and_copies_out_of_range(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        real_data("digits", **field)


def test_real_data_copies_repeat_every_base_image():
    once, thrice = real_data("digits", n_base=20), real_data("digits", n_base=20, copies=3)
    np.testing.assert_array_equal(thrice.base.labels, np.tile(once.base.labels, 3))
    np.testing.assert_array_equal(thrice.base.images(np.arange(40, 60)), once.base.images(np.arange(20)))


def test_real_data_imbalanced_is_a_part_of_the_balanced_base_set():
    whole = real_data("digits", n_per_class=50)
    cut = real_data("digits", n_per_class=50, imbalance="step", imbalance_ratio=5.0)
    assert cut.base.class_counts().tolist() == [50] * 5 + [10] * 5
    assert whole.base.class_counts().tolist() == [50] * 10
    images = [set(map(bytes, real.base.images(np.arange(len(real.base))))) for real in (cut, whole)]
    assert images[0] < images[1] and len(cut.base) + len(cut.unused) == 1000


def test_real_data_without_the_fields_of_imbalance_means_what_it_did():
    """The address of a base set that published runs on digits stand on."""
    assert real_data("digits", n_base=100).base.digest == GOLDEN_BASE
    assert real_data("digits", n_per_class=10).base.digest == GOLDEN_BASE


def test_real_data_of_a_class_list_holds_these_classes_in_both_splits(tmp_path):
    (tmp_path / "list.txt").write_text("9\n4\n")
    real = real_data("digits", n_base=20, classes=str(tmp_path / "list.txt"))
    assert real.base.class_names == real.test.class_names == ("9", "4")
    assert real.base.class_counts().tolist() == [10, 10]
    nine = sources.digits("train").images(np.flatnonzero(sources.digits("train").labels == 9))
    assert set(map(bytes, real.base.images(np.flatnonzero(real.base.labels == 0)))) <= set(map(bytes, nine))


def test_real_data_refuses_two_sizes():
    with pytest.raises(ValueError, match="n_base=100 and n_per_class=10, expected one"):
        real_data("digits", n_base=100, n_per_class=10)


def test_real_data_of_the_whole_split_leaves_nothing_unused():
    assert real_data("digits").unused is None


def test_real_data_cuts_a_validation_split_that_neither_learns_nor_tests():
    real, whole = real_data("digits", n_base=100, validation=0.1), real_data("digits", n_base=100)
    assert (len(real.base), len(real.unused), len(real.validation), len(real.test)) == (100, 800, 100, 797)
    assert real.validation.class_counts().tolist() == [10] * 10 and real.test.digest == whole.test.digest
    sets = [set(map(bytes, one.images(np.arange(len(one))))) for one in (real.base, real.unused, real.validation)]
    assert len(set.union(*sets)) == sum(map(len, sets)) == 1000
    train = sources.digits("train")
    np.testing.assert_array_equal(real.distinct.images([7]), train.images(real.keys[[7]]))
    assert whole.validation is None and whole.base.digest == GOLDEN_BASE
    other = real_data("digits", n_base=50, base_seed=3, validation="0.1")
    assert other.validation.digest == real.validation.digest  # whatever the base set


def test_real_data_takes_a_validation_split_of_the_sources_own(tmp_path):
    for number, split in enumerate(("train", "valid", "test")):
        photographs.write(tmp_path, split, 2, first=10 * number)
    real = real_data("folder", str(tmp_path), image_px=8, channels=3, validation="validation")
    assert real.validation.records.members.names[0].startswith("valid/") and len(real.base) == len(real.validation) == 6
    for wanted, said in (("bogus", "'bogus'"), (1.0, "expected a share from 0 to below 1"), (-0.1, "expected a share")):
        with pytest.raises(ValueError, match=said):
            real_data("folder", str(tmp_path), image_px=8, channels=3, validation=wanted)


@pytest.mark.parametrize("part", [0.2, 0.3, 0.5])
def test_real_data_keeps_copies_on_one_side_of_the_validation_cut(tmp_path, part):
    """Of a training folder in which each photograph lies twice, beside a test folder of the user's own."""
    photographs.write(tmp_path, "train", 10)
    photographs.write(tmp_path, "test", 2, first=20)
    for file in sorted((tmp_path / "train").rglob("*.png")):
        file.with_name(f"x{file.name}").write_bytes(file.read_bytes())

    def both(near_duplicates):
        rules = Rules(near_duplicates=near_duplicates)
        real = real_data("folder", str(tmp_path), image_px=8, channels=3, validation=part, rules=rules)
        sides = [{one.read(i).tobytes() for i in range(len(one))} for one in (real.base, real.validation)]
        assert len(real.base) + len(real.validation) == 60
        return real, len(sides[0] & sides[1])

    real, shared = both("together")
    assert shared == 0 and real.validation.class_counts().tolist() == [round(20 * part)] * 3
    assert both("report")[1] > 0


def test_real_data_names_a_class_that_no_validation_cut_leaves_whole(tmp_path):
    photographs.write(tmp_path, "train", 4)
    photographs.write(tmp_path, "test", 2, first=20)
    for i in (1, 2, 3):
        (tmp_path / "train" / "cat" / f"{i}.png").write_bytes((tmp_path / "train" / "cat" / "0.png").read_bytes())
    rules = Rules(near_duplicates="together")
    with pytest.raises(ValueError, match=r"data.validation 0.2: got .* cannot be divided: the class 'cat' lies in one"):
        real_data("folder", str(tmp_path), image_px=8, channels=3, validation=0.2, rules=rules)


def test_real_data_counts_what_it_left_out(tmp_path):
    photographs.write(tmp_path)
    (tmp_path / "cat" / "bad.jpg").write_bytes(b"")
    assert real_data("folder", str(tmp_path), image_px=8, channels=3, rules=Rules(on_bad="skip")).num_skipped == 1


@pytest.mark.parametrize(
    "shape, image_px, channels, expected",
    [
        ((8, 8, 1), 0, 0, (8, 8, 1)),
        ((8, 8, 1), 32, 3, (32, 32, 3)),
        ((8, 9, 3), 8, 0, (8, 8, 3)),
        (None, 8, 1, (8, 8, 1)),
    ],
)
def test_shape_of_is_the_images_own_unless_asked_otherwise(shape, image_px, channels, expected):
    assert shape_of(types.SimpleNamespace(shape=shape, name="x"), image_px, channels) == expected


@pytest.mark.parametrize(
    "shape, image_px, channels", [((8, 9, 1), 0, 0), (None, 8, 0), (None, 0, 1), ((8, 8, 1), -1, 0)]
)
def test_shape_of_refuses_what_has_no_one_square_shape(shape, image_px, channels):
    with pytest.raises(ValueError, match="image_px"):
        shape_of(types.SimpleNamespace(shape=shape, name="x"), image_px, channels)


def test_open_set_takes_the_first_images(quick_study):
    real = sources.digits("train")
    assert len(open_set(quick_study.made, real)) == 40
    some = open_set(quick_study.made, real, 12)
    np.testing.assert_array_equal(some.labels, np.arange(12) % 10)
    with pytest.raises(ValueError, match="n_synthetic 41"):
        open_set(quick_study.made, real, 41)


@pytest.fixture(scope="module")
def pool():
    return Pool.from_labels({"real": np.arange(10) % 3 // 2, "edm": np.arange(20) % 2})


def test_filtered_drops_the_lowest_part_of_what_is_scored(pool):
    scores = {"edm": np.arange(20.0)}
    assert filtered(pool, 0.0, True, {}) is pool
    np.testing.assert_array_equal(filtered(pool, 0.2, False, scores).kept, [*range(10), *range(14, 30)])
    with pytest.raises(ValueError, match=r"drop_lowest 0\.2 needs scores"):
        filtered(pool, 0.2, False, {})


def test_filtered_keeps_what_is_scored_above_a_number_or_above_a_guess(pool):
    scores, num_classes = {"edm": np.linspace(0.0, 1.0, 20)}, len(pool.class_names)
    for keep_above, level in (("0.5", 0.5), (0.5, 0.5), ("1/C", 1 / num_classes)):
        kept = filtered(pool, 0.0, True, scores, keep_above).kept
        np.testing.assert_array_equal(kept, [*range(10), *(10 + np.flatnonzero(scores["edm"] > level))])
    assert filtered(pool, 0.0, True, {}, "") is pool


@pytest.mark.parametrize(
    ("drop_lowest", "keep_above", "scores", "said"),
    [
        (0.0, "1/D", {"edm": np.ones(20)}, r"keep_above '1/D'.*1/C"),
        (0.0, "nan", {"edm": np.ones(20)}, r"keep_above 'nan'"),
        (0.0, "0.5", {}, r"keep_above '0\.5' needs scores"),
        (0.2, "0.5", {"edm": np.ones(20)}, "one of the two"),
        (0.0, "2", {"edm": np.ones(20)}, "the highest is 1"),
    ],
)
def test_filtered_refuses_a_threshold_that_cannot_be_meant(pool, drop_lowest, keep_above, scores, said):
    with pytest.raises(ValueError, match=said):
        filtered(pool, drop_lowest, True, scores, keep_above)
