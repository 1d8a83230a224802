"""Writes a synthetic set from a generator that works in pixels (DDPM, EDM).

Image i of class c is a function of (generator, seed, c, i): its noise is keyed by them, whatever batch, device or
process draws it and however often the work was interrupted. Only rounding depends on the number of images one device
takes at a time, so that number is fixed, padded to, and recorded.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core import tree
from jaxmoust.core.checks import require
from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.core.diffusion.methods import Method, class_denoiser
from jaxmoust.core.diffusion.solvers import SOLVERS
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.generate.writing import check_sampling, image_keys, in_blocks, to_uint8, write_missing
from jaxmoust.models.stable_diffusion.autoencoder import Autoencoder, to_image_shape
from jaxmoust.runtime import parallel


@dataclass(frozen=True)
class Generator:
    """A trained network and how to read it.

    Args:
        model: `model(x [B, H, W, C], c [B], label [B]) -> [B, H, W, C]`; label K means "no class".
        method: EDM, DDPM or Flow, as in training.
        params: the (averaged) parameters.
        num_classes: K.
        image_shape: (H, W, C).
        negative: a weaker generator of the same images, from whose estimate guidance leads away instead of from that
            of no class (autoguidance: Karras et al. 2024, 2406.02507); None: the usual.
        decoder: of the latents that it works on; None: it works on pixels.
    """

    model: nn.Module
    method: Method
    params: Any
    num_classes: int
    image_shape: tuple[int, int, int]
    negative: "Generator | None" = None
    decoder: "Decoder | None" = None

    @functools.cached_property
    def digest(self) -> str:
        """What this generator is: 16 hexadecimal digits over its structure and every parameter's bytes."""
        beside = f"beside {self.negative.digest}" if self.negative else ""
        if self.decoder:
            how = repr((self.decoder.autoencoder, self.decoder.image_px))
            beside += f"decoded by {tree.digest(self.decoder.params, header=how)}"
        return tree.digest(self.params, header=repr((self.model, self.method)) + beside)


@dataclass(frozen=True)
class Decoder:
    """What turns latents into images: a VAE, the side of the images that it gives, and its parameters."""

    autoencoder: Autoencoder
    image_px: int
    params: Any


@dataclass(frozen=True)
class Sampling:
    """How images are sampled from a generator.

    Args:
        solver: "euler" (= DDIM), "heun" (= EDM Alg. 2), "ancestral" (= DDPM) or "dpmpp_2m".
        num_steps: N, the number of the method's noise levels.
        guidance: uncond + g (cond - uncond), or so from a weaker generator; 1.0 is off and costs nothing.
        clip: keeps every estimate of x0 in [-1, 1], as Ho et al. do.
        per_device_batch: images one device samples at a time; part of the record, see the module's docstring.
    Raises: ValueError: what cannot be sampled.
    """

    solver: str = "heun"
    num_steps: int = 18
    guidance: float = 1.0
    clip: bool = False
    per_device_batch: int = 256

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn, before any work starts."""
        check_sampling(self.solver, self.num_steps, self.per_device_batch)
        require(self.guidance >= 0, "sample.guidance", self.guidance, "0 and up; 1.0 is off")


def draw(
    generator: Generator,
    sampling: Sampling,
    seed: int,
    labels: np.ndarray,
    indices: np.ndarray,
    machine: parallel.Machine,
) -> Iterator[np.ndarray]:
    """Samples the images (class, index) in order, in blocks of the machine's fixed batch.

    Args:
        labels: [N] the class of each image.
        indices: [N] its number within the class.
        machine: devices of this process.
    Yields: uint8 [n, H, W, C], n = D * per_device_batch but for the last block.
    Raises: NonFiniteImage: what comes out is not finite.
    """
    parts = (generator, generator.negative) if generator.negative else (generator,)
    networks = tuple((part.model, part.method) for part in parts)
    decoder = generator.decoder
    decodes = (decoder.autoencoder, decoder.image_px) if decoder else None
    run = _solver(networks, sampling, generator.num_classes, generator.image_shape, decodes, machine)
    params = machine.replicate([part.params for part in (*parts, decoder) if part])
    seed_array = machine.replicate(np.uint32(seed))

    def sample(rows: np.ndarray) -> dict[str, jax.Array]:
        batch = {"label": labels[rows].astype(np.int32), "index": indices[rows].astype(np.uint32)}
        return run(params, seed_array, machine.split(batch))

    return in_blocks(sample, labels, indices, machine.num_devices * sampling.per_device_batch)


@functools.lru_cache(maxsize=16)
def _solver(
    networks: tuple[tuple[nn.Module, Method], ...],
    sampling: Sampling,
    num_classes: int,
    image_shape: tuple[int, int, int],
    decodes: tuple[Autoencoder, int] | None,
    machine: parallel.Machine,
) -> Callable:
    sigmas = networks[0][1].sigmas(sampling.num_steps)

    def sample(params: Any, seed: jax.Array, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        label = batch["label"]
        k_start, k_steps = image_keys(seed, batch)

        def network(number: int, label: jax.Array) -> denoise.Denoiser:
            model, method = networks[number]
            return class_denoiser(method, model.apply, params[number], label)

        denoiser = network(0, label)
        if sampling.guidance != 1.0:
            weaker = network(1, label) if len(networks) > 1 else network(0, jnp.full_like(label, num_classes))
            denoiser = denoise.guide(denoiser, weaker, sampling.guidance)
        if sampling.clip:
            denoiser = denoise.clip_x0(denoiser)
        x_shape = decodes[0].latent_shape(decodes[1]) if decodes else image_shape
        x = sigmas[0] * noise.normal_like(k_start, x_shape)
        x = SOLVERS[sampling.solver](denoiser, x, jnp.asarray(sigmas), k_steps)
        return to_uint8(to_image_shape(decodes[0].decode(params[-1], x), image_shape) if decodes else x)

    return machine.map(sample, num_replicated=2)


def write_set(
    generator: Generator,
    sampling: Sampling,
    spec: synthetic.SyntheticSpec,
    path: Path,
    machine: parallel.Machine,
    process_index: int = 0,
    process_count: int = 1,
    made_by: Mapping[str, Any] | None = None,
) -> None:
    """Fills in the shards of a synthetic set that are missing; see `write_missing`.

    Raises:
        ValueError: a spec that does not fit the generator or the sampling, a seed that is no uint32, or a folder that
            holds another set.
        stop.Stopped: asked to stop; whole shards stay.
    """
    if (spec.shape, len(spec.class_names)) != (generator.image_shape, generator.num_classes):
        raise ValueError(
            f"The set wants images {spec.shape} of {len(spec.class_names)} classes, the generator samples "
            f"{generator.image_shape} of {generator.num_classes}. Use a generator of the same data set."
        )
    record = {"generator": generator.digest, "guidance": sampling.guidance, "steps": sampling.num_steps}
    sample = functools.partial(draw, generator, sampling, spec.seed, machine=machine)
    write_missing(sample, spec, path, record, process_index, process_count, made_by)
