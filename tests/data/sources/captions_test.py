"""Captions of images: beside them, in their table, in one file; and what of them is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmoust.data.real import real_data
from jaxmoust.data.sources.captions import captioned
from jaxmoust.data.sources.image_folder import Rules
from jaxmoust.data.sources.labels import suffixes
from jaxmoust.data.sources.registry import open_source
from jaxmoust.generate.prompts import contexts_of

TEXTS = {f"{name}/{i}.png": f"a {name}  on\ngrass {i}" for name in ("cat", "dog") for i in range(5)}


@pytest.fixture
def folder(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in TEXTS:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "images" / name)
    return tmp_path / "images"


def base(folder: Path, captions: str, **rules: str):
    return real_data("folder", str(folder), rules=Rules(captions=captions, **rules)).distinct


def expected(source) -> list[str]:
    return [" ".join(TEXTS[source.file(i)].split()) for i in range(len(source))]


def test_files_a_table_and_json_say_the_same_and_follow_their_images(folder, tmp_path):
    for name, text in TEXTS.items():
        (folder / name).with_suffix(".txt").write_text(text)
    rows = [f'{name},{name[:3]},"{text}"' for name, text in TEXTS.items()]
    (folder / "labels.csv").write_text("\n".join(["file,label,caption", *rows]))
    (tmp_path / "captions.json").write_text(json.dumps(TEXTS))
    sources = [
        base(folder, "files"),
        base(folder, "table", labels="labels.csv"),
        base(folder, str(tmp_path / "captions.json")),
    ]
    for source in sources:
        assert source.captions.tolist() == expected(source)
        part = source.subset(np.array([5, 0]))
        assert part.captions.tolist() == expected(part)
    assert len({source.captions_digest for source in sources}) == 1
    assert base(folder, "").captions is None and base(folder, "").captions_digest == ""
    assert base(folder, "").digest == sources[0].digest  # of the images alone


def test_captions_of_images_without_files_stand_in_their_order(tmp_path):
    digits = open_source("digits", "train")
    (tmp_path / "captions.json").write_text(json.dumps([f"the {label}" for label in digits.labels]))
    assert captioned(digits, str(tmp_path / "captions.json")).captions[7] == f"the {digits.labels[7]}"


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        ("files", r"images that are not there in .*cat \('lost.txt'\)"),
        ("table", "expected a table"),
        ({"cat/9.png": "a cat"}, r"not there in .*images \('cat/9.png'\).*such as"),
        ({"cat/lost.txt": "a cat"}, r"not an image \('cat/lost.txt'\).*such as"),
        ({"cat/1.png": "a cat"}, "8 of 8|7 of 8"),
        ({"cat/1.png": 3}, "holds something else"),
        ("absent.json", "is not there"),
        (["a cat"], "got 1 captions for the 8 images"),
    ],
)
def test_captions_that_do_not_fit_are_refused(folder, tmp_path, captions, said):
    (folder / "cat" / "lost.txt").write_text("a cat")
    if not isinstance(captions, str):
        (tmp_path / "c.json").write_text(json.dumps(captions))
        captions = str(tmp_path / "c.json")
    with pytest.raises(ValueError, match=said):
        base(folder, captions)


def test_every_image_has_a_caption(folder):
    for name in list(TEXTS)[1:]:
        (folder / name).with_suffix(".txt").write_text("" if name == "dog/3.png" else TEXTS[name])
    with pytest.raises(ValueError, match=r"have no caption \('.*'\). Write one for each"):
        base(folder, "files")


def test_images_without_files_have_no_captions_beside_them(tmp_path):
    (tmp_path / "c.json").write_text("{}")
    for wanted in ("files", str(tmp_path / "c.json")):
        with pytest.raises(ValueError, match="have no files of their own"):
            captioned(open_source("digits", "train"), wanted)


def test_script_of_the_manual_writes_what_is_missing_and_names_what_lacks_its_class(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "docs" / "scripts"))
    from write_captions import write_captions

    (folder / "cat" / "1.txt").write_text("asleep")
    written, silent = write_captions(folder, {"dog": "hound"}, lambda image, name: f"a {name} of {image.width} px")
    assert written == 9 and [Path(text).name for text in silent] == ["1.txt"]
    source = base(folder, "files")
    texts = {source.file(i): source.captions[i] for i in range(len(source))}
    assert texts.pop("cat/1.png", "asleep") == "asleep"
    assert set(texts.values()) == {"a cat of 9 px", "a hound of 9 px"}


def test_script_of_the_manual_reads_the_images_and_finds_the_words_that_the_package_does(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "docs" / "scripts"))
    import write_captions

    assert {*suffixes()} <= write_captions.SUFFIXES
    Image.new("RGB", (9, 9)).save(folder / "cat" / "6.TIF", "TIFF")
    texts = {"1": "cats asleep", "2": "a CAT, asleep", "3": "a concatenation", "4": "a bobcat", "6": "cat"}
    for name, text in texts.items():
        (folder / "cat" / f"{name}.txt").write_text(text)
    _, silent = write_captions.write_captions(folder, {}, lambda image, name: f"a {name}")
    assert [Path(text).name for text in silent] == ["1.txt", "3.txt", "4.txt"]
    (folder / "cat" / "6.txt").unlink()
    assert write_captions.write_captions(folder, {}, lambda image, name: f"a {name}")[0] == 1
    source = base(folder, "files")
    pieces = contexts_of(source, ["cat", "dog"], {}, "\0{}")
    own = {str((folder / source.file(i)).with_suffix(".txt")): first == "\0" for i, (first, *_) in enumerate(pieces)}
    assert {text for text, without in own.items() if without} == own.keys() & set(silent)
