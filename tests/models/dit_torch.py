"""Makes dit_parity.npz: what diffusers' DiTTransformer2DModel answers with the random weights of dit_files_test.py.

Beside torch 2.13 and diffusers 0.40: python tests/models/dit_torch.py
"""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import DiTTransformer2DModel

sys.path.insert(0, str(Path(__file__).parents[1]))
from public_dits import CONFIG, inputs, tensors


def main() -> None:
    """Writes the file."""
    net = DiTTransformer2DModel(**{name: value for name, value in CONFIG.items() if name != "_class_name"}).eval()
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    drawn = tensors()
    assert wanted == {name: tensor.shape for name, tensor in drawn.items()}, wanted
    net.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in drawn.items()})
    x, timestep, label = inputs()
    with torch.no_grad():
        given = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(timestep), torch.from_numpy(label)
        answer = net(*given).sample.permute(0, 2, 3, 1).numpy()
    np.savez_compressed(Path(__file__).with_name("dit_parity.npz"), answer=answer)
    print(answer.std(), answer.shape)


if __name__ == "__main__":
    main()
