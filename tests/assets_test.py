"""The pipeline inside the package: what its record says of it is true, and it draws what it is asked for."""

import hashlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_stable_diffusion as tiny
from scipy import ndimage

import jaxmoust
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.sources.registry import open_source
from jaxmoust.generate import text_to_image
from jaxmoust.models import stable_diffusion
from jaxmoust.runtime.parallel import Machine

FOLDER = Path(jaxmoust.__file__).parent / "assets" / "tiny_sd"


@pytest.fixture(scope="module")
def loaded():
    return stable_diffusion.load(str(FOLDER))


@pytest.fixture(scope="module")
def record():
    return json.loads((FOLDER / "build.json").read_text())


def files():
    return sorted(path for path in FOLDER.rglob("*") if path.is_file())


def test_pipeline_is_small_enough_to_be_part_of_the_package(loaded):
    assert sum(path.stat().st_size for path in files()) < 8e6
    assert sum(leaf.size for leaf in jax.tree.leaves(loaded.params)) < 5e6


def test_record_is_of_these_very_files(loaded, record):
    content = hashlib.sha256()
    for path in files():
        if path.name != "build.json":
            content.update(f"{path.relative_to(FOLDER).as_posix()} {path.stat().st_size}\n".encode())
            content.update(path.read_bytes())
    assert record["digest"] == content.hexdigest()
    counted = {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in loaded.params.items()}
    assert record["parameters"] == counted
    assert record["judged"]["prompt_top1"] > 0.95


def test_tokenizer_reads_anything_and_knows_the_captions_words(loaded):
    tokenizer = loaded.pipeline.tokenizer
    for text in ("a photo of the digit three", "the number 3 in bold slanted type, light on dark"):
        assert len(tokenizer.ids_of(text)) == len(text.replace(",", " ,").split())
    token_of = {number: token for token, number in tokenizer.get_vocab().items()}
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    byte_of = dict(zip(tiny.letters(), [*printable, *sorted({*range(256)} - {*printable})], strict=True))
    read = "".join(token_of[number] for number in tokenizer.ids_of("größe ≥ 3 🙂")).replace("</w>", " ").strip()
    assert [bytes(map(byte_of.get, word)).decode() for word in read.split()] == ["größe", "≥", "3", "🙂"]


def test_vae_gives_handwriting_back_which_it_never_saw(loaded):
    source = open_source("digits", "test")
    resize = Resize(32, 3)
    images = np.stack([resize.map(image) for image in source.images(np.arange(50))]).astype(np.float32) / 127.5 - 1
    latent = loaded.pipeline.encode_image(loaded.params, images)
    back = loaded.pipeline.decode_latent(loaded.params, latent)
    assert np.abs(np.asarray(back) - images).mean() / 2 < 0.04  # of the way from black to white


def holes(image: np.ndarray) -> int:
    """Counts what the ink of a grey image in [0, 1] closes in: 0 for a 1, 1 for a 0, 2 for an 8."""
    ground = np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]))
    ink = np.abs(image - ground)
    open_ = np.pad(ink < 0.4 * ink.max(), 1, constant_values=True)
    _, regions = ndimage.label(open_)
    return regions - 1


def test_prompts_decide_which_digit_is_drawn(loaded):
    """From the same noise: one and seven have no hole, zero and six one, eight two, in most pictures."""
    expected = {"one": 0, "7": 0, "zero": 1, "6": 1, "eight": 2}
    found = {}
    for word in expected:
        prompts = ((f"a photo of the digit {word}",),)
        how = {"solver": "dpmpp_2m", "num_steps": 10, "guidance": 2.0, "per_device_batch": 9}
        request = text_to_image.Request(prompts, 32, **how)
        (images,) = text_to_image.draw(loaded, request, 0, np.zeros(9, int), np.arange(9), Machine.local(1))
        found[word] = np.median([holes(image.mean(-1) / 255) for image in images])
    assert found == expected
