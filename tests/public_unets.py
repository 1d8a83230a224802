"""Public diffusion networks as their users have them: random weights under published names, in either layout."""

import functools
import json
import zlib
from pathlib import Path

import numpy as np
import safetensors.numpy

FIXTURES = Path(__file__).parent / "models" / "unet" / "fixtures"
# google/ddpm-cifar10-32's, at an eighth of the width and half the size.
DDPM_CONFIG = {
    "_class_name": "UNet2DModel",
    "sample_size": 16,
    "block_out_channels": [16, 32, 32, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 8,
}
# What the line in models/unet/load.py keeps of an EDM pickle beside its tensors.
OF_PICKLE = {"precondition": np.array("EDMPrecond"), "sigma_data": np.array(0.5)}


def weights(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Draws each tensor by its name: norms about 1, kernels that keep variance, biases of 0.2."""
    drawn = {}
    for name, shape in shapes.items():
        if name.endswith("resample_filter"):
            drawn[name] = np.full(shape, 0.25, np.float32)
            continue
        x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        x *= np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.2
        drawn[name] = (x + (len(shape) == 1 and name.endswith("weight"))).astype(np.float32)
    return drawn


def save_diffusers(folder: Path, tensors, config=DDPM_CONFIG, scheduler=None) -> Path:
    """Writes a folder as diffusers does."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if scheduler:
        (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    safetensors.numpy.save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return folder


@functools.cache
def fixture(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{name}.npz") as file:
        return dict(file)


def tensors_of(name: str) -> dict[str, np.ndarray]:
    return weights(json.loads(str(fixture(name)["shapes"])))
