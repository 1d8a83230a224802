"""The VAE of a pipeline by itself, for generators that work on its latents without reading texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxmoust.models import hub
from jaxmoust.models.stable_diffusion.folder import embedded, model_fields, read_json
from jaxmoust.models.stable_diffusion.layers import run, shapes_of
from jaxmoust.models.stable_diffusion.vae import VAE
from jaxmoust.models.stable_diffusion.weights import from_torch, open_tensors

_STEM = "diffusion_pytorch_model"

Images = Float[Array, "B H W 3"]
Latents = Float[Array, "B h w C"]


@dataclass(frozen=True)
class Autoencoder:
    """Images in [-1, 1] to latents of about unit variance, and back; parameters are arguments.

    Args:
        vae: the network.
        scaling: what latents are multiplied with. shift: what is taken off before.
    """

    vae: VAE
    scaling: float
    shift: float

    @property
    def factor(self) -> int:
        """Pixels of an image to a side of one latent."""
        return 2 ** (len(self.vae.block_out_channels) - 1)

    def latent_shape(self, image_px: int) -> tuple[int, int, int]:
        """(h, w, channels) of the latents of square images. Raises: ValueError: a side that it does not divide."""
        factor = self.factor
        if image_px < 1 or image_px % factor:
            raise ValueError(
                f"Images of {image_px} px do not fit this VAE, expected multiples of {factor}. Set "
                "data.image_px, or latents.image_px, to which they are brought before it."
            )
        return image_px // factor, image_px // factor, self.vae.latent_channels

    def posterior(self, params: Any, image: Images) -> tuple[Latents, Latents]:
        """Mean and standard deviation of the latents of images."""
        mean, std = run(self.vae, params, image, method=VAE.encode)
        return (mean - self.shift) * self.scaling, std * self.scaling

    def decode(self, params: Any, latent: Latents) -> Images:
        """Latents to images, float32, about [-1, 1]."""
        return run(self.vae, params, latent / self.scaling + self.shift, method=VAE.decode)


def latent_scale(config: Mapping[str, Any]) -> tuple[float, float]:
    """The factor and the shift that vae/config.json says. Raises: ValueError: one that is no number."""
    for name in ("scaling_factor", "shift_factor"):
        if type(value := config.get(name) or 1.0) not in (int, float) or not 0 < abs(value) < 1e9:
            raise ValueError(f"vae/config.json: {name} is {value!r:.80}, expected a number.")
    return config.get("scaling_factor", 0.18215), config.get("shift_factor") or 0.0


def load_autoencoder(name: str, revision: str = "", variant: str = "") -> tuple[Autoencoder, Any]:
    """Loads a VAE and its parameters, float32 on the host.

    Args: name: a pipeline's folder, a run's that left one, or a VAE's own; one that comes with the package, or of the
        hub. revision, variant: as of a pipeline.
    Raises: ValueError: no VAE there, or one that does not fit.
    """
    folder = Path(name)
    if not folder.is_dir():
        wanted = [at + file for at in ("vae/", "") for file in ("config.json", f"{_STEM}*.safetensors")]
        folder = embedded().get(name) or hub.fetch(name, wanted, "a VAE, or of a pipeline", revision)
    within = [folder / at for at in ("vae", "pipeline/vae", ".")]
    part = next((part for part in within if (part / "config.json").is_file()), folder)
    config = read_json(part / "config.json") if (part / "config.json").is_file() else {}
    if config.get("_class_name") != "AutoencoderKL":
        raise ValueError(
            f"{folder} holds no VAE, expected the folder of a pipeline with a vae/ in it, or of an "
            f"AutoencoderKL ({config.get('_class_name', 'no config.json')} was found)."
        )
    vae = VAE(**model_fields("vae", config, VAE))
    side = 2 ** (len(vae.block_out_channels) - 1)
    shapes = shapes_of(vae, jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))
    return Autoencoder(vae, *latent_scale(config)), from_torch(open_tensors(part, _STEM, variant), shapes, part)


def to_vae_input(image: Array, image_px: int) -> Array:
    """Images [B, H, W, C] as a VAE wants them: colour, and of its size, [B, image_px, image_px, 3]."""
    image = jnp.broadcast_to(image, (*image.shape[:3], 3)) if image.shape[-1] == 1 else image
    return jax.image.resize(image, (len(image), image_px, image_px, 3), "linear")


def to_image_shape(image: Images, shape: tuple[int, int, int]) -> Array:
    """What a VAE decoded, brought to the size and channels of the images that were encoded: the way back."""
    image = image.mean(-1, keepdims=True) if shape[-1] == 1 else image
    return image if image.shape[1:] == shape else jax.image.resize(image, (len(image), *shape), "linear")
