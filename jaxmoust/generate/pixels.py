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
from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.core.diffusion.methods import Method, class_denoiser
from jaxmoust.core.diffusion.solvers import SOLVERS
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.generate.writing import to_pixels, whole_images, write_missing
from jaxmoust.runtime import parallel


@dataclass(frozen=True)
class Generator:
    """A trained network and how to read it.

    Args:
        model: `model(x [B, H, W, C], c [B], label [B]) -> [B, H, W, C]`; label K means "no class".
        method: EDM or DDPM, as in training.
        params: the (averaged) parameters.
        num_classes: K. image_shape: (H, W, C).
    """

    model: nn.Module
    method: Method
    params: Any
    num_classes: int
    image_shape: tuple[int, int, int]

    @functools.cached_property
    def digest(self) -> str:
        """What this generator is: 16 hexadecimal digits over its structure and every parameter's bytes."""
        return tree.digest(self.params, header=repr((self.model, self.method)))


@dataclass(frozen=True)
class Sampling:
    """How images are drawn from a generator.

    Args:
        sampler: "euler" (= DDIM), "heun" (= EDM Alg. 2) or "ancestral" (= DDPM).
        num_steps: N, levels of the method's grid.
        guidance: uncond + g (cond - uncond); 1.0 is off and costs nothing.
        clip: keeps every estimate of x0 in [-1, 1], as Ho et al. do.
        per_device_batch: images one device draws at a time; part of the record, see the module's docstring.
    """

    sampler: str = "heun"
    num_steps: int = 18
    guidance: float = 1.0
    clip: bool = False
    per_device_batch: int = 256

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn, before any work starts."""
        if self.sampler not in SOLVERS:
            raise ValueError(f"sample.sampler {self.sampler!r}: allowed are {sorted(SOLVERS)}.")
        if self.num_steps < 1 or self.per_device_batch < 1:
            raise ValueError(
                f"sample.num_steps {self.num_steps}, sample.per_device_batch {self.per_device_batch}: "
                "allowed are whole numbers from 1."
            )
        if self.guidance < 0:
            raise ValueError(f"sample.guidance {self.guidance}: allowed are 0 and up; 1.0 is off.")


def draw(
    generator: Generator,
    sampling: Sampling,
    seed: int,
    labels: np.ndarray,
    indices: np.ndarray,
    machine: parallel.Machine,
) -> Iterator[np.ndarray]:
    """Draws the images (class, index) in order, in blocks of the machine's fixed batch.

    Args:
        labels, indices: [N] class and number within the class of each image.
        machine: devices of this process.
    Yields: uint8 [n, H, W, C], n = D * per_device_batch but for the last block.
    Raises: NotAnImage: what comes out is not finite.
    """
    run = _sampler(generator.model, generator.method, sampling, generator.num_classes, generator.image_shape, machine)
    params, seed_array = machine.replicate(generator.params), machine.replicate(np.uint32(seed))
    block = machine.num_devices * sampling.per_device_batch
    for start in range(0, len(labels), block):
        rows = slice(start, start + block)
        batch = {
            "label": np.resize(labels[rows], block).astype(np.int32),
            "index": np.resize(indices[rows], block).astype(np.uint32),
        }
        drawn = run(params, seed_array, machine.split(batch))
        yield whole_images(drawn, labels[rows], indices[rows])


@functools.lru_cache(maxsize=16)
def _sampler(
    model: nn.Module,
    method: Method,
    sampling: Sampling,
    num_classes: int,
    image_shape: tuple[int, int, int],
    machine: parallel.Machine,
) -> Callable:
    sigmas = method.sigmas(sampling.num_steps)

    def key_of(seed: jax.Array, label: jax.Array, index: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), label), index)

    def sample(params: Any, seed: jax.Array, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        label = batch["label"]
        keys = jax.vmap(functools.partial(key_of, seed))(label, batch["index"])
        k_start, k_steps = jax.vmap(jax.random.split, out_axes=1)(keys)
        denoiser = class_denoiser(method, model.apply, params, label)
        if sampling.guidance != 1.0:
            no_class = jnp.full_like(label, num_classes)
            denoiser = denoise.guide(denoiser, class_denoiser(method, model.apply, params, no_class), sampling.guidance)
        if sampling.clip:
            denoiser = denoise.clip_x0(denoiser)
        x = sigmas[0] * noise.normal_like(k_start, image_shape)
        return to_pixels(SOLVERS[sampling.sampler](denoiser, x, jnp.asarray(sigmas), k_steps))

    return machine.map(sample, num_replicated=2)


def write_set(
    generator: Generator,
    sampling: Sampling,
    spec: synthetic.SyntheticSpec,
    path: Path,
    machine: parallel.Machine,
    process_index: int = 0,
    process_count: int = 1,
    versions: Mapping[str, str] | None = None,
) -> None:
    """Fills in the shards of a synthetic set that are missing; see `write_missing`.

    Raises:
        ValueError: a spec that does not fit the generator or the sampling, a seed that is no uint32, or a folder that
            holds another set.
        stop.Stopped: asked to stop; whole shards stay.
    """
    if (spec.shape, len(spec.class_names)) != (generator.image_shape, generator.num_classes):
        raise ValueError(
            f"The set wants images {spec.shape} of {len(spec.class_names)} classes, the generator draws "
            f"{generator.image_shape} of {generator.num_classes}. Use a generator of the same data set."
        )
    made = {"generator": generator.digest, "guidance": sampling.guidance, "steps": sampling.num_steps}
    false = [f"{k} {getattr(spec, k)!r}, not {v!r}" for k, v in made.items() if getattr(spec, k) != v]
    if false:
        raise ValueError(f"The set's spec would say of its images: {'; '.join(false)}. Make the spec of what is drawn.")
    drawn = functools.partial(draw, generator, sampling, spec.seed, machine=machine)
    write_missing(drawn, spec, path, process_index, process_count, versions)
