"""What timm, torchvision and transformers make of pictures of odd sizes before a network reads them; only with torch.

`python tests/models/classifiers/preprocessing_torch.py` writes preprocessing_parity.npz; the tests read that file and
need none of them. Of each result every STEP-th row and column is kept. Where a margin is half a pixel, transformers'
classes on Pillow round it down, those on torchvision to the even number, as torchvision and timm do and we: the sizes
are such that the two agree.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STORED = Path(__file__).with_name("preprocessing_parity.npz")
SIZES, STEP = ((53, 37), (41, 72), (20, 24)), 7
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
# preprocessor_config.json as it lies beside public files, today's and older ones, at sizes that make small results.
HUGGING_FACE: dict[str, dict[str, Any]] = {
    "vit": {"image_processor_type": "ViTImageProcessor", "size": {"height": 28, "width": 28}, "resample": 2, **HALF},
    "vit, older": {"feature_extractor_type": "ViTFeatureExtractor", "size": 28, "resample": 2, **HALF},
    "deit": {
        "image_processor_type": "DeiTImageProcessor",
        "size": {"height": 32, "width": 32},
        "crop_size": {"height": 28, "width": 28},
        "do_center_crop": True,
        "resample": 3,
        **IMAGENET,
    },
    "deit, older": {
        "feature_extractor_type": "DeiTFeatureExtractor",
        "size": 32,
        "crop_size": 28,
        "do_center_crop": True,
        "resample": 3,
        **IMAGENET,
    },
    "dinov2": {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 28, "width": 28},
        "do_center_crop": True,
        "resample": 3,
        **IMAGENET,
    },
    "clip": {
        "feature_extractor_type": "CLIPFeatureExtractor",
        "size": 28,
        "crop_size": 28,
        "do_center_crop": True,
        "resample": 3,
        **HALF,
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 28, "width": 28},
        "resample": 3,
        **HALF,
    },
    "convnext": {
        "feature_extractor_type": "ConvNextFeatureExtractor",
        "size": 28,
        "crop_pct": 0.86,
        "resample": 3,
        **HALF,
    },
    "convnext, large": {
        "image_processor_type": "ConvNextImageProcessor",
        "size": {"shortest_edge": 384},
        "crop_pct": 0.9,
        "resample": 2,
        **IMAGENET,
    },
}
COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
# pretrained_cfg of timm's config.json.
TIMM: dict[str, dict[str, Any]] = {
    "center": {"input_size": (3, 28, 28), "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center"},
    "bilinear": {"input_size": (3, 28, 28), "interpolation": "bilinear", "crop_pct": 0.95, "crop_mode": "center"},
    "all": {"input_size": (3, 28, 28), "interpolation": "lanczos", "crop_pct": 1.0, "crop_mode": "center"},
    "squash": {"input_size": (3, 28, 28), "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "squash"},
}
TORCHVISION = {
    "ResNet50": "IMAGENET1K_V1",
    "ViT_B_16": "IMAGENET1K_V1",
    **dict.fromkeys(("ConvNeXt_Tiny", "ConvNeXt_Small", "ConvNeXt_Base", "ConvNeXt_Large"), "IMAGENET1K_V1"),
}


def pictures() -> list[np.ndarray]:
    """Pictures with edges, in colour, as cameras give them: landscape, portrait, and smaller than what is asked for."""
    rng = np.random.RandomState(0)
    coarse = [rng.randint(0, 256, (height // 4, width // 4, 3)).astype(np.uint8) for height, width in SIZES]
    turned = [np.asarray(Image.fromarray(x).resize(at[::-1], 0)) for x, at in zip(coarse, SIZES, strict=True)]
    return [np.clip(x.astype(int) + rng.randint(-20, 21, x.shape), 0, 255).astype(np.uint8) for x in turned]


def kept(pixels: np.ndarray) -> np.ndarray:
    """The rows and columns that are compared."""
    return pixels[::STEP, ::STEP]


def _unscaled(values: Any, mean: Any, std: Any) -> np.ndarray:
    """uint8 [S, S, 3] of what a network reads, [3, S, S]."""
    values = np.asarray(values, np.float64).transpose(1, 2, 0) * np.array(std) + np.array(mean)
    assert np.abs(255 * values - np.rint(255 * values)).max() < 1e-2
    return np.rint(255 * values).astype(np.uint8)


def results() -> Iterator[tuple[str, np.ndarray]]:
    """("LIBRARY/NAME/number of the picture", pixels) of all of them."""
    import timm.data
    import torchvision.models
    import transformers

    images = [Image.fromarray(x) for x in pictures()]
    for name, config in HUGGING_FACE.items():
        kind = (config.get("image_processor_type") or config["feature_extractor_type"]).replace(
            "FeatureExtractor", "ImageProcessor"
        )
        own = {key: value for key, value in config.items() if not key.endswith("_type")}
        process = getattr(transformers, kind)(**own)
        for i, image in enumerate(images):
            values = process(image, return_tensors="np")["pixel_values"][0]
            yield f"transformers/{name}/{i}", _unscaled(values, config["image_mean"], config["image_std"])
    for name, config in TIMM.items():
        transform = timm.data.create_transform(**timm.data.resolve_data_config({**config, **COLOURS}))
        for i, image in enumerate(images):
            yield f"timm/{name}/{i}", _unscaled(transform(image), **COLOURS)
    for name, weights in TORCHVISION.items():
        transform = getattr(torchvision.models, f"{name}_Weights")[weights].transforms()
        for i, image in enumerate(images):
            yield f"torchvision/{name}/{i}", _unscaled(transform(image), **COLOURS)


if __name__ == "__main__":
    np.savez_compressed(STORED, **{name: kept(pixels) for name, pixels in results()})
    print(json.dumps({"bytes": STORED.stat().st_size, "results": len(np.load(STORED).files)}))
