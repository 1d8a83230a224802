"""Public diffusion checkpoints as parameters of models/unet/unet.py.

Two layouts are read: a folder of diffusers' UNet2DModel (config.json beside diffusion_pytorch_model.safetensors, as
google/ddpm-cifar10-32 has them), and the state dict of a network of NVlabs' EDM, DDPM++ or ADM, as .npz or
.safetensors. EDM publishes pickles, and a pickle runs code, so none is opened here. This line, run where torch is
installed and in a checkout of NVlabs/edm, makes the .npz of one:

    python -c "import pickle, sys, numpy as np; net = pickle.load(open(sys.argv[1], 'rb'))['ema']; assert type(net).__name__ == 'EDMPrecond' and net.sigma_data == 0.5; np.savez(sys.argv[2], **{k: v.float().cpu().numpy() for k, v in net.state_dict().items()})" edm-cifar10-32x32-cond-vp.pkl edm.npz

Sizes come from the checkpoint. A tensor that is missing, left over or of another shape is named, and nothing is
loaded. Neither torch nor diffusers is needed.
"""  # noqa: E501

from pathlib import Path

from jaxmoust.models.unet.convert import Imported
from jaxmoust.models.unet.from_diffusers import read_diffusers
from jaxmoust.models.unet.from_edm import read_edm


def read_unet(path: Path | str, num_classes: int = 0) -> Imported:
    """Reads a checkpoint of either layout: a folder is diffusers', a file is EDM's.

    Args:
        num_classes: the classes it should have; 0 is however many it has. A diffusers network with one class
            embedding more has learnt "no class" with its last.
    Raises: ValueError: no such path, a pickle, another architecture, other classes, or parameters that do not fit.
    """
    path = Path(path)
    if path.is_dir():
        return read_diffusers(path, num_classes)
    if path.is_file() and path.suffix in (".npz", ".safetensors"):
        return read_edm(path, num_classes)
    raise ValueError(
        f"{path} is no checkpoint of a network. Allowed: a folder with config.json and "
        "diffusion_pytorch_model.safetensors (diffusers), or EDM's state dict as .npz or .safetensors; "
        "jaxmoust/models/unet/load.py shows the line that makes one from EDM's pickle."
    )
