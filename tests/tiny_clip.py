"""A small CLIP of random weights: 16 px, two layers a tower, 24 features. What torch answers lies in models/."""

import json
import zlib
from pathlib import Path

import numpy as np
import safetensors.numpy
import tiny_stable_diffusion

STORED = Path(__file__).parent / "models" / "stable_diffusion" / "clip_parity.npz"
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_act": "quick_gelu",
}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


def config(vocab_size: int) -> dict:
    ends = {"vocab_size": vocab_size, "bos_token_id": vocab_size - 2, "eos_token_id": vocab_size - 1}
    length = {"max_position_embeddings": tiny_stable_diffusion.LENGTH, "pad_token_id": vocab_size - 1}
    return {
        "model_type": "clip",
        "projection_dim": 24,
        "logit_scale_init_value": 2.6592,
        "text_config": {**TOWER, **ends, **length},
        "vision_config": {**TOWER, "image_size": 16, "patch_size": 4},
    }


def weights_of(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Makes weights under which activations keep their size, out of each leaf's name."""
    weights = {}
    for name, shape in shapes.items():
        # RandomState's streams are frozen for ever; a Generator's may change with numpy.
        x = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
        if "norm" in name and name.endswith("weight"):
            x = 1 + 0.1 * x
        elif name.endswith(("proj.weight", "projection.weight", "fc1.weight", "fc2.weight", "patch_embedding.weight")):
            x = x / np.sqrt(np.prod(shape[1:]))
        elif name == "logit_scale":
            x = np.asarray(2.0)
        else:
            x = 0.3 * x
        weights[name] = np.asarray(x, np.float32)
    return weights


def write_clip(folder: Path) -> Path:
    """Writes a small CLIP of random weights with its tokenizer, in Hugging Face's layout."""
    with np.load(STORED) as file:
        shapes = json.loads(str(file["shapes"]))
    tokenizer = tiny_stable_diffusion.write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(config(len(tokenizer))))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    safetensors.numpy.save_file(weights_of(shapes), folder / "model.safetensors")
    return folder
