"""Preprocessings as files say them, against what their libraries do; preprocessing_torch.py wrote what is compared."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from preprocessing_torch import COLOURS, HUGGING_FACE, STORED, TIMM, TORCHVISION, kept, pictures

from jaxmoust.data.image import Encoded, encode_png
from jaxmoust.data.loading.transforms import Prepared, Resize
from jaxmoust.models.classifiers.convnext import ConvNeXt
from jaxmoust.models.classifiers.layouts import LAYOUTS
from jaxmoust.models.classifiers.preprocessing import Preprocessing, preprocessing_of
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.classifiers.vit import ViT

with np.load(STORED) as file:
    EXPECTED = dict(file)
VIT = ViT(num_classes=0, width=24, depth=1, num_heads=2, patch_px=14)
NETWORKS = {
    "ResNet50": ResNet(num_classes=0, stage_sizes=(3, 4), block="bottleneck"),
    "ViT_B_16": VIT,
    **{
        f"ConvNeXt_{size}": ConvNeXt(num_classes=0, stage_sizes=(3, 3, blocks, 3), widths=(width,) * 4)
        for size, blocks, width in (("Tiny", 9, 96), ("Small", 27, 96), ("Base", 27, 128), ("Large", 27, 192))
    },
}


def own(folder: Path, library: str, name: str) -> Preprocessing:
    """What files of this library beside a network's weights say."""
    if library == "transformers":
        (folder / "preprocessor_config.json").write_text(json.dumps(HUGGING_FACE[name]))
    elif library == "timm":
        (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {**TIMM[name], **COLOURS}}))
    model = NETWORKS.get(name, VIT)
    family = "Hugging Face" if library == "transformers" else library
    (layout,) = (one for one in LAYOUTS if one.family == family and isinstance(model, one.model))
    return preprocessing_of(folder, layout, model, 224 if model is VIT else 0)


CASES = [(library, name) for library, of in (("transformers", HUGGING_FACE), ("timm", TIMM)) for name in of]
CASES += [("torchvision", name) for name in TORCHVISION]


@pytest.mark.parametrize(("library", "name"), CASES)
def test_pictures_of_odd_sizes_become_what_the_library_makes_of_them(library, name, tmp_path):
    """To the bit: both resize by Pillow."""
    how = own(tmp_path, library, name)
    for i, picture in enumerate(pictures()):
        np.testing.assert_array_equal(kept(how(picture)), EXPECTED[f"{library}/{name}/{i}"])


def test_every_library_has_pictures_of_every_kind():
    assert len(EXPECTED) == len(pictures()) * len(CASES) == 57


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"resample": 5}, "resample is 5"),
        ({"do_resize": False}, "expected do_resize"),
        ({"do_rescale": False}, "do_rescale by 1 / 255"),
        ({"rescale_factor": 1 / 127.5}, "do_rescale by 1 / 255"),
        ({"size": 20, "crop_size": 28, "do_center_crop": True}, "28 px are cut out of 20 px"),
        ({"size": {"height": 20, "width": 28}}, "expected squares"),
    ],
)
def test_what_is_not_done_is_refused(said, message, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**HUGGING_FACE["vit"], **said}))
    with pytest.raises(ValueError, match=message):
        preprocessing_of(tmp_path, LAYOUTS[1], VIT, 224)


def test_another_size_sees_the_same_part_of_an_image():
    how = Preprocessing(224, resize_px=256).at(448)
    assert (how.image_px, how.resize_px, how.at(0)) == (448, 512, how)


def test_transform_prepares_files_and_arrays_grey_and_coloured_alike():
    (picture, *_), how = pictures(), Preprocessing(16, resize_px=20, interpolation="bilinear")
    transform, grey = Prepared(how), picture[..., :1]
    np.testing.assert_array_equal(transform.map(picture), how(picture))
    np.testing.assert_array_equal(transform.map(Encoded(encode_png(picture), 3, "x.png")), how(picture))
    np.testing.assert_array_equal(transform.map({"image": grey})["image"], how(np.repeat(grey, 3, axis=-1)))
    first = Resize(24, 3)
    np.testing.assert_array_equal(Prepared(how, first).map(picture), how(first.map(picture)))
    assert repr(how) in repr(transform)
