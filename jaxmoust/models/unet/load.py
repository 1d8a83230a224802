"""Public diffusion checkpoints as parameters of models/unet/unet.py.

Two layouts are read: a folder of diffusers' UNet2DModel (config.json beside diffusion_pytorch_model.safetensors, as
google/ddpm-cifar10-32 has them), and the state dict of a network of NVlabs' EDM, DDPM++ or ADM, as .npz or
.safetensors. EDM publishes pickles, and a pickle runs code, so none is opened here. This line, run where torch is
installed and in a checkout of NVlabs/edm, makes the .npz of one, which keeps what a state dict lacks: how the network
was preconditioned, and for images of which standard deviation.

    python -c "import pickle, sys, numpy as np; net = pickle.load(open(sys.argv[1], 'rb'))['ema']; np.savez(sys.argv[2], precondition=type(net).__name__, sigma_data=getattr(net, 'sigma_data', np.nan), **{k: v.float().cpu().numpy() for k, v in net.state_dict().items()})" edm-cifar10-32x32-cond-vp.pkl edm.npz

Sizes come from the checkpoint. A tensor that is missing, left over or of another shape is named, and nothing is
loaded. Neither torch nor diffusers is needed.
"""  # noqa: E501

from pathlib import Path

from jaxmoust.models.unet.convert import Imported
from jaxmoust.models.unet.from_diffusers import read_diffusers
from jaxmoust.models.unet.from_edm import read_edm


def read_unet(
    path: Path | str, num_classes: int = 0, precondition: str = "", sigma_data: float | None = None
) -> Imported:
    """Reads a checkpoint of either layout: a folder is diffusers', a file is EDM's.

    Args:
        num_classes: the classes it should have; 0 is however many it has. A diffusers network with one class
            embedding more has learnt "no class" with its last.
        precondition: of EDM's state dict: "edm", "vp", "ve" or "iddpm", which its pickle's class says; "": as the file
            says.
        sigma_data: of EDM's state dict; None: as the file says.
    Raises: ValueError: no such path, a pickle, another architecture, other classes, parameters that do not fit, or a
        preconditioning that nothing says, or another than EDM's.
    """
    path = Path(path)
    if path.is_dir() and (precondition or sigma_data is not None):
        raise ValueError(f"{path} is a folder of diffusers: precondition and sigma_data are of EDM's files; give none.")
    try:
        if path.is_dir():
            return read_diffusers(path, num_classes)
        if path.is_file() and path.suffix in (".npz", ".safetensors"):
            return read_edm(path, num_classes, precondition, sigma_data)
    except (TypeError, AttributeError, KeyError, ZeroDivisionError) as e:
        raise ValueError(
            f"What {path} says of its sizes is no network: {type(e).__name__}: {e}. Fetch it again."
        ) from e
    raise ValueError(
        f"{path} is no checkpoint of a network. Allowed: a folder with config.json and "
        "diffusion_pytorch_model.safetensors (diffusers), or EDM's state dict as .npz or .safetensors; "
        "jaxmoust/models/unet/load.py shows the line that makes one from EDM's pickle."
    )
