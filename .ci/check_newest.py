"""Checks the plain package beside the newest of what it shares packages with: versions, images, a tokenizer's files.

Usage: python -P .ci/check_newest.py WORKDIR, of `jaxmoust sample` with the embedded pipeline. `-P`: not the checkout.
"""

import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
import transformers
from PIL import Image

import jaxmoust
from jaxmoust.data.sources.registry import open_source
from jaxmoust.models.stable_diffusion.folder import embedded
from jaxmoust.models.stable_diffusion.tokenizer import open_tokenizer

names = ("jax", "flax", "numpy", "tokenizers", "datasets", "diffusers", "huggingface_hub", "transformers")
versions = {name: metadata.version(name) for name in names}
print(", ".join(f"{name} {version}" for name, version in versions.items()))
assert "site-packages" in jaxmoust.__file__, f"{jaxmoust.__file__} is not what was installed"
# The first that the dependencies of 0.1 kept away.
for name, least in {"datasets": (5,), "diffusers": (0, 40), "huggingface_hub": (1,), "transformers": (5,)}.items():
    version = tuple(int(part) for part in versions[name].split(".")[:2])
    assert version >= least, f"{name} {versions[name]} is not the newest: something keeps it back"

images = [example["image"] for example in tfds.builder_from_directory(sys.argv[1]).as_data_source()["train"]]
assert len(images) == 40 and len({image.tobytes() for image in images}) == 40, f"{len(images)} images, not all unlike"
assert min(np.std(image) for image in images) > 10, "an image shows nothing"

theirs = transformers.CLIPTokenizer.from_pretrained(embedded()["tiny_sd"] / "tokenizer")
with tempfile.TemporaryDirectory() as folder:
    theirs.save_pretrained(folder)
    ours = open_tokenizer(Path(folder))
prompts = ["a photo of the digit seven", "Ein Foto\tder ZIFFER 7!", "", "7<|endoftext|>7 \u4e03 \u00e9e\u0301"]
expected = theirs(prompts, padding="max_length", max_length=77)["input_ids"]
assert np.array_equal(ours(prompts, 77), expected), "the tokens are others"

with tempfile.TemporaryDirectory() as folder:
    for i, image in enumerate(images):
        (Path(folder) / "set" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(Path(folder) / "set" / f"{i % 2}" / f"{i}.png")
    train, test = (open_source(f"hf:{folder}/set", split, folder) for split in ("train", "test"))
assert train.class_names == ("0", "1") and len(train) + len(test) == 40, "the image folder is read otherwise"
print("40 images, tokens alike, an image folder read: as they should be")
