"""Sets of Hugging Face: their images and classes by random access, from parquet files and image folders."""

import pickle

import numpy as np
import photographs
import pytest

from jaxmoust.data.image import encode_png
from jaxmoust.data.real import real_data
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.data.sources.registry import open_source

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


def test_hf_reads_an_image_folder_with_its_rotation(tmp_path):
    photographs.lying(photographs.write(tmp_path / "set"))
    train, test = (open_source(f"hf:{tmp_path}/set", split) for split in ("train", "test"))
    assert len(train) + len(test) == 12 and train.class_names == CLASSES and train.shape == (16, 24, 3)


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
