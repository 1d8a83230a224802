"""Sets of Hugging Face: their images and classes by random access, from parquet files and image folders."""

import pickle

import numpy as np
import photographs
import pytest
from PIL import Image

from jaxmoust.data.image import encode_png
from jaxmoust.data.real import real_data
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.data.sources.registry import open_source, open_splits

datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
CLASSES, EACH = photographs.CLASSES, photographs.EACH


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def rows(first=0, bad=()):
    """Images of three classes as rows, some of them spoilt."""
    pairs = [(c, i) for i in range(first, first + EACH) for c in range(3)]
    cells = [{"bytes": encode_png(photographs.pixels(c, i)), "path": None} for c, i in pairs]
    for i in bad:
        cells[i] = {"bytes": b"no image", "path": None}
    columns = {"image": cells, "label": [c for c, _ in pairs], "patient": [f"p{i % 2}" for _, i in pairs]}
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    return datasets.Dataset.from_dict(columns, datasets.Features({**kinds, "patient": datasets.Value("string")}))


def test_hf_reads_parquet_files_by_their_splits(tmp_path):
    for split, first in (("train", 0), ("validation", 10), ("test", 20)):
        rows(first).to_parquet(tmp_path / "set" / f"{split}-00000-of-00001.parquet")
    for split, first in (("train", 0), ("validation", 10), ("test", 20)):
        source = open_source(f"hf:{tmp_path}/set", split)
        assert source.class_names == CLASSES and source.shape == (16, 24, 3)
        assert source.labels.tolist() == [0, 1, 2] * EACH
        for i in (0, 4, 11):
            np.testing.assert_array_equal(source.read(i), photographs.pixels(i % 3, first + i // 3))
    kept = pickle.loads(pickle.dumps(source.records))
    np.testing.assert_array_equal(kept[5], source.read(5))
    real = real_data(f"hf:{tmp_path}/set", image_px=8, validation="validation")
    assert len(real.base) == len(real.validation) == len(real.test) == 12
    again = open_source(f"hf:{tmp_path}/set", "test").digest
    assert again == source.digest != open_source(f"hf:{tmp_path}/set", "train").digest


def test_hf_divides_a_set_without_a_test_split_and_never_a_group(tmp_path):
    rows().to_parquet(tmp_path / "all.parquet")
    train, test = (open_source(f"hf:{tmp_path}/all.parquet", split) for split in ("train", "test"))
    assert (len(train), len(test)) == (9, 3) and test.class_counts().tolist() == [1, 1, 1]
    parts = [open_source(f"hf:{tmp_path}/all.parquet", s, rules=Rules(group="patient")) for s in ("train", "test")]
    assert sorted(map(len, parts)) == [6, 6] and not set(parts[0].groups) & set(parts[1].groups)
    with pytest.raises(ValueError, match=r"data.group 'x' is no column .* image, label, patient"):
        open_source(f"hf:{tmp_path}/all.parquet", "train", rules=Rules(group="x"))


def test_hf_reads_an_image_folder_with_its_rotation(tmp_path, caplog):
    photographs.lying(photographs.write(tmp_path / "set"))
    train, test = (open_source(f"hf:{tmp_path}/set", split) for split in ("train", "test"))
    assert len(train) + len(test) == 12 and train.class_names == CLASSES and train.shape == (16, 24, 3)
    assert caplog.text.count("turned upright, as their EXIF says: 1.") == 1  # of the side that it is on


def test_hf_lists_rows_that_cannot_be_read_or_goes_on_without_them(tmp_path):
    rows(bad=(3, 7)).to_parquet(tmp_path / "all.parquet")
    with pytest.raises(ValueError, match=r"Got 2 unreadable images in hf:.*'3' \(it is none of .*'7' "):
        open_source(f"hf:{tmp_path}/all.parquet", "train")
    parts = [open_source(f"hf:{tmp_path}/all.parquet", s, rules=Rules(on_bad="skip")) for s in ("train", "test")]
    assert sum(map(len, parts)) == 10


@pytest.mark.parametrize(
    ("name", "said"),
    [("nobody/nothing", "cannot be opened"), ("{path}/text.parquet", r"columns text \(Value\), expected one Image")],
)
def test_hf_refuses_what_is_no_set_of_images(tmp_path, name, said):
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "text.parquet")
    with pytest.raises(ValueError, match=f"Got hf:.*{said}"):
        open_source(f"hf:{name.format(path=tmp_path)}", "train")


def test_hf_refuses_a_split_that_is_not_there(tmp_path):
    rows().to_parquet(tmp_path / "all.parquet")
    with pytest.raises(ValueError, match="no split for validation"):
        open_source(f"hf:{tmp_path}/all.parquet", "validation")


def with_copies(tmp_path):
    """A set whose test split holds two photographs of the training split again, one of them compressed anew."""
    again = rows(20)
    jpeg = photographs.jpeg(Image.fromarray(photographs.pixels(0, 0)))
    cells = [{"bytes": encode_png(photographs.pixels(1, 0)), "path": None}, {"bytes": jpeg, "path": None}]
    more = datasets.Dataset.from_dict({"image": cells, "label": [1, 0], "patient": ["p", "p"]}, again.features)
    rows().to_parquet(tmp_path / "set" / "train.parquet")
    datasets.concatenate_datasets([again, more]).to_parquet(tmp_path / "set" / "test.parquet")
    return f"hf:{tmp_path}/set"


def test_hf_says_which_images_of_test_are_in_train_and_leaves_them_out_on_request(tmp_path, caplog):
    name = with_copies(tmp_path)
    real = real_data(name, image_px=8)
    assert (len(real.base), len(real.test)) == (12, 14)
    assert "look the same as one of another split: 2 (" in caplog.text and "train 1 and test 12" in caplog.text
    assert "near_duplicates='together'" in caplog.text
    real = real_data(name, image_px=8, rules=Rules(near_duplicates="together"))
    assert (len(real.base), len(real.test)) == (10, 14) and real.base.class_counts().tolist() == [3, 3, 4]


def test_hf_says_which_images_of_validation_are_in_train_and_leaves_them_out_on_request(tmp_path, caplog):
    for split, first, more in (("train", 0, ()), ("validation", 10, (1, 5)), ("test", 20, (4,))):
        parts = [rows(first), rows().select(more)] if more else [rows(first)]
        datasets.concatenate_datasets(parts).to_parquet(tmp_path / "set" / f"{split}.parquet")
    given = {"image_px": 8, "validation": "validation"}
    real = real_data(f"hf:{tmp_path}/set", **given)
    assert [len(one) for one in (real.base, real.validation, real.test)] == [12, 14, 13]
    assert "Images of validation that look the same as one of train: 2 (" in caplog.text
    assert "train 1 and validation 12" in caplog.text and "train 4 and test 12" in caplog.text
    real = real_data(f"hf:{tmp_path}/set", **given, rules=Rules(near_duplicates="together"))
    assert [len(one) for one in (real.base, real.validation, real.test)] == [9, 14, 13]


@pytest.mark.parametrize("part", [0.2, 0.4])
def test_hf_keeps_copies_on_one_side_of_the_validation_cut(tmp_path, part):
    """Of a training split in which each image stands twice, beside a test split of the set's own."""
    datasets.concatenate_datasets([rows(), rows()]).to_parquet(tmp_path / "set" / "train.parquet")
    rows(20).to_parquet(tmp_path / "set" / "test.parquet")
    given = {"image_px": 8, "validation": part, "rules": Rules(near_duplicates="together")}
    real = real_data(f"hf:{tmp_path}/set", **given)
    sides = [{one.read(i).tobytes() for i in range(len(one))} for one in (real.base, real.validation)]
    assert not sides[0] & sides[1] and len(real.base) + len(real.validation) == 24


def test_hf_keeps_copies_on_one_side_where_it_divides_a_set(tmp_path):
    twice = datasets.concatenate_datasets([rows(), rows()])
    twice.to_parquet(tmp_path / "all.parquet")
    name, rules = f"hf:{tmp_path}/all.parquet", Rules(near_duplicates="together")
    train, test = open_splits(name, ("train", "test"), rules=rules)
    assert len(train) + len(test) == 24
    pixels = [{source.read(i).tobytes() for i in range(len(source))} for source in (train, test)]
    assert not pixels[0] & pixels[1]
    assert np.unique(train.groups).size == 9 and not {*train.groups} & {
        *test.groups
    }  # a validation part keeps them, too


def test_hf_keeps_what_a_look_finds_on_one_side_where_it_divides_a_set(tmp_path):
    """Rows 3 and 11; the first three cannot be read, and are not looked at."""
    rows(bad=(0, 1, 2)).to_parquet(tmp_path / "all.parquet")
    pair = {photographs.pixels(i % 3, i // 3).tobytes() for i in (3, 11)}

    def look(sources):
        pixels = [source.read(i).tobytes() for source in sources for i in range(len(source))]
        return np.array([[i for i, one in enumerate(pixels) if one in pair]])

    given = (f"hf:{tmp_path}/all.parquet", ("train", "test"), "", "", Rules(near_duplicates="together", on_bad="skip"))
    sides = [{source.read(i).tobytes() for i in range(len(source))} for source in open_splits(*given, look)]
    assert sum(map(len, sides)) == 9 and any(pair <= side for side in sides)


def test_hf_counts_what_it_leaves_out_in_parts_of_a_split(tmp_path):
    rows(bad=(0, 1)).to_parquet(tmp_path / "all.parquet")
    real = real_data(f"hf:{tmp_path}/all.parquet", image_px=8, rules=Rules(on_bad="skip"))
    assert real.num_skipped == 2


def test_hf_refuses_a_group_that_its_own_splits_divide(tmp_path):
    """Every patient, p0 and p1, is in each of the three splits, and the rows' numbers agree in all of them."""
    for i, split in enumerate(("train", "validation", "test")):
        rows(10 * i).to_parquet(tmp_path / "set" / f"{split}.parquet")
    name, rules = f"hf:{tmp_path}/set", Rules(group="patient")
    for splits in (("train", "test"), ("train", "validation")):
        with pytest.raises(
            ValueError, match=rf"2 groups of data.group 'patient' in both {' and '.join(splits)} of hf:"
        ):
            open_splits(name, splits, rules=rules)
    parted = rows(20).map(lambda row: {"patient": f"test {row['patient']}"})
    parted.to_parquet(tmp_path / "set" / "test.parquet")
    train, test = open_splits(name, ("train", "test"), rules=rules)
    assert sorted({*train.groups}) == [0, 1] and not {*train.groups} & {*test.groups}


def test_hf_keeps_a_row_without_a_group_by_itself(tmp_path):
    spoilt = rows().map(lambda row, i: {"patient": None if i < 6 else ""}, with_indices=True)
    spoilt.to_parquet(tmp_path / "all.parquet")
    train, test = open_splits(f"hf:{tmp_path}/all.parquet", ("train", "test"), rules=Rules(group="patient"))
    assert (len(train), len(test)) == (9, 3) and np.unique(np.concatenate([train.groups, test.groups])).size == 12


@pytest.mark.parametrize("labels", [[0] * 6 + [1] * 6 + [2], [0] * 6 + [1] * 7])
def test_hf_refuses_a_class_that_a_split_lacks(tmp_path, labels):
    cells = [{"bytes": encode_png(photographs.pixels(c, i)), "path": None} for i, c in enumerate(labels)]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    name = f"hf:{tmp_path}/all.parquet"
    datasets.Dataset.from_dict({"image": cells, "label": labels}, kinds).to_parquet(tmp_path / "all.parquet")
    with pytest.raises(ValueError, match=f"no image of '{CLASSES[2]}' for (test|train) in .*data.classes"):
        open_splits(name, ("train", "test"))
    (tmp_path / "two.txt").write_text("\n".join(CLASSES[:2]))
    train, test = open_splits(name, ("train", "test"), classes=str(tmp_path / "two.txt"))
    assert train.class_names == test.class_names == CLASSES[:2] and test.class_counts().tolist() == [1, 1]


def test_hf_takes_no_split_for_two(tmp_path):
    """A set's only split, called test, is no training set; one for validation that stands in for test is no other."""
    rows().to_parquet(tmp_path / "one" / "test.parquet")
    assert len(open_source(f"hf:{tmp_path}/one", "test")) == 12
    with pytest.raises(ValueError, match=r"no split for train .* which has test"):
        open_source(f"hf:{tmp_path}/one", "train")
    for split, first in (("train", 0), ("validation", 10)):
        rows(first).to_parquet(tmp_path / "two" / f"{split}.parquet")
    with pytest.raises(ValueError, match=r"no split for validation .* Its validation is its test set"):
        open_splits(f"hf:{tmp_path}/two", ("train", "test", "validation"))


def test_hf_counts_and_says_what_all_splits_leave_out(tmp_path, caplog):
    for split, first, bad in (("train", 0, (1,)), ("test", 10, (2, 3))):
        rows(first, bad).to_parquet(tmp_path / "set" / f"{split}.parquet")
    real = real_data(f"hf:{tmp_path}/set", image_px=8, rules=Rules(on_bad="skip"))
    assert real.num_skipped == 3
    assert "train: Left out (data.on_bad='skip'): 1, row 1 (" in caplog.text
    assert "test: Left out (data.on_bad='skip'): 2, row 2 (" in caplog.text


def test_hf_says_of_each_side_what_reading_changes(tmp_path, caplog):
    clear = np.dstack([photographs.pixels(0, 0), np.zeros((16, 24), np.uint8)])
    cells = rows().cast_column("image", datasets.Image(decode=False))["image"][:]
    cells[4] = cells[7] = {"bytes": encode_png(clear), "path": None}
    columns = {"image": cells, "label": rows()["label"][:]}
    kinds = datasets.Features({name: rows().features[name] for name in columns})
    datasets.Dataset.from_dict(columns, kinds).to_parquet(tmp_path / "all.parquet")
    open_splits(f"hf:{tmp_path}/all.parquet", ("train", "test"), rules=Rules(background="black"))
    said = [one.getMessage() for one in caplog.records if "transparent pixels, laid on black" in one.getMessage()]
    assert sum(int(text.rstrip(".").rsplit(" ", 1)[1]) for text in said) == 2


def test_hf_takes_texts_for_classes_by_their_order(tmp_path):
    """The texts of one split alone would number dog 0."""
    for split, texts in (("train", ["owl", "cat", "dog"]), ("test", ["dog", "owl", "cat"])):
        cells = [{"bytes": encode_png(photographs.pixels(c, i)), "path": None} for i in range(2) for c in range(3)]
        kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
        table = datasets.Dataset.from_dict({"image": cells, "label": texts * 2}, kinds)
        table.to_parquet(tmp_path / "set" / f"{split}.parquet")
    train, test = (open_source(f"hf:{tmp_path}/set", split) for split in ("train", "test"))
    assert train.class_names == test.class_names == ("cat", "dog", "owl")
    assert train.labels.tolist() == [2, 0, 1] * 2 and test.labels.tolist() == [1, 2, 0] * 2
    with pytest.raises(ValueError, match=r"Got 1 rows of hf:.* without a label"):
        broken = datasets.Dataset.from_dict({"image": cells[:2], "label": ["cat", ""]}, kinds)
        broken.to_parquet(tmp_path / "broken.parquet")
        open_source(f"hf:{tmp_path}/broken.parquet", "train")
