"""Cuts photographs that come with scikit-image and scikit-learn into patches: the images of `make photographs`.

FOLDER/images/{train,test}/CLASS/*.png are patches of eight colour photographs, a class each; FOLDER/others/... those of
twelve other pictures, for a backbone to learn from. A picture is a chessboard of blocks of 96 px, of which the white
ones are trained on and the black ones tested: no two patches of a training and a test set share a pixel.

    python experiments/assets/photographs.py FOLDER [RUN]

With the folder of a ResNet that `jaxmoust train` has left, it writes FOLDER/backbone: model.safetensors in
torchvision's layout and config.json in timm's, as backbones come that are fetched.

Licences, by scikit-image's docstrings and scikit-learn's datasets/images/README.txt: astronaut and hubble_deep_field
NASA, public domain; chelsea, coffee and rocket CC0; china and flower CC BY 2.0; the others CC0 or free of known claims.
"""

import importlib.resources
import json
import re
import sys
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image

from jaxmoust.core.tree import named_leaves
from jaxmoust.train.loop import variables_of
from jaxmoust.train.warm_start import read_state

IMAGES = {
    **{f"{name}.png": "skimage.data" for name in ("astronaut", "chelsea", "coffee", "ihc")},
    **{f"{name}.jpg": "skimage.data" for name in ("retina", "rocket")},
    **{f"{name}.jpg": "sklearn.datasets.images" for name in ("china", "flower")},
}
OTHERS = {
    "hubble_deep_field.jpg": "skimage.data",
    **{f"{name}.png": "skimage.data" for name in ("motorcycle_left", "brick", "grass", "gravel", "camera", "coins")},
    **{f"{name}.png": "skimage.data" for name in ("cell", "moon", "page", "text", "color")},
}
BLOCK_PX, PATCH_PX, MOST_PX = 96, 48, 640  # larger pictures are shrunk to that side
TRAIN_PATCHES, LEAST_SPREAD = 8, 4.0  # of a block; patches of one colour alone show nothing


def patches(picture: Image.Image, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """Patches of the white and of the black blocks: some anywhere inside, and the four quarters."""
    picture.thumbnail((MOST_PX, MOST_PX))
    pixels = np.asarray(picture.convert("RGB"))
    found: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    room = BLOCK_PX - PATCH_PX
    for row in range(pixels.shape[0] // BLOCK_PX):
        for column in range(pixels.shape[1] // BLOCK_PX):
            split = ("train", "test")[(row + column) % 2]
            anywhere = rng.integers(0, room + 1, (TRAIN_PATCHES, 2))
            quarters = np.array([(y, x) for y in (0, room) for x in (0, room)])
            for top, left in (anywhere if split == "train" else quarters) + np.array([row, column]) * BLOCK_PX:
                patch = pixels[top : top + PATCH_PX, left : left + PATCH_PX]
                if patch.std() > LEAST_SPREAD:
                    found[split].append(patch)
    return found


def write(folder: Path, pictures: dict[str, str]) -> None:
    """Writes FOLDER/SPLIT/CLASS/NUMBER.png."""
    for number, (name, package) in enumerate(pictures.items()):
        with importlib.resources.files(package).joinpath(name).open("rb") as file, Image.open(file) as picture:
            found = patches(picture.convert("RGB"), np.random.default_rng(number))
        for split, of_split in found.items():
            here = folder / split / Path(name).stem
            here.mkdir(parents=True, exist_ok=True)
            for i, patch in enumerate(of_split):
                Image.fromarray(patch).save(here / f"{i:03}.png")
        print(f"{folder.name}/{Path(name).stem}: {len(found['train'])} to train on, {len(found['test'])} to test")


def write_backbone(folder: Path, run: Path) -> None:
    """Writes a ResNet that `train` left as public ones come."""
    config = json.loads((run / "config.json").read_text())
    side = json.loads((run / "result.json").read_text())["image_shape"][0]
    tensors = {}
    for name, leaf in named_leaves(variables_of(read_state(run))).items():
        layer, last = torch_name(name.partition("/")[2].rpartition("/")[0]), name.rpartition("/")[2]
        leaf = leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf.T
        tensors[f"{layer}.{TORCH[last]}"] = np.ascontiguousarray(leaf, np.float32)
    seen = {"input_size": [3, side, side], "crop_pct": 1.0, "interpolation": "bicubic"}
    seen |= {"mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": len(tensors["fc.bias"])}
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    said = {"architecture": f"resnet{2 + 2 * sum(config['model']['stage_sizes'])}", "pretrained_cfg": seen}
    (folder / "config.json").write_text(json.dumps(said, indent=2))


TORCH = dict(kernel="weight", scale="weight", bias="bias", mean="running_mean", var="running_var")


def torch_name(layer: str) -> str:
    """Names a layer of ours as torchvision does: "stage0_block1/norm0" is "layer1.1.bn1"."""
    layer = re.sub(r"^stage(\d+)_block(\d+)/", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.", layer)
    layer = {"stem_conv": "conv1", "stem_norm": "bn1", "head": "fc"}.get(layer, layer)
    layer = layer.replace("shortcut_conv", "downsample.0").replace("shortcut_norm", "downsample.1")
    return (
        re.sub(r"(conv|norm)(\d)$", lambda m: {"conv": "conv", "norm": "bn"}[m[1]] + str(int(m[2]) + 1), layer)
        if "." in layer
        else layer
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        write_backbone(Path(sys.argv[1]) / "backbone", Path(sys.argv[2]))
    else:
        write(Path(sys.argv[1]) / "images", IMAGES)
        write(Path(sys.argv[1]) / "others", OTHERS)
