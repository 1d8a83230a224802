"""Writes a synthetic set with Stable Diffusion: from text, or from real images and text (SDEdit).

Image i of class c is a function of (generator, seed, c, i), as in generate/pixels.py: its prompt, its noise and, where
there is one, the real image it starts from. One program is compiled for a number of steps, a sampler and a size; class,
prompt, seed and the amount of guidance are arguments of it.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core import tree
from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.core.diffusion.solvers import SOLVERS
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.source import Source
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.generate.prompts import Prompts, of_images
from jaxmoust.generate.writing import to_pixels, whole_images, write_missing
from jaxmoust.models.stable_diffusion import Loaded, StableDiffusion
from jaxmoust.runtime import parallel


@dataclass(frozen=True)
class Request:
    """What is asked of a pipeline, and how it is drawn.

    Args:
        prompts: of each class, at least one.
        negative: what guidance moves away from; "" is any image.
        image_px: side of the images that are drawn; what is written is resized from it.
        resize_filter: of that, as in `transforms.Resize`.
        sampler: a name in `core.diffusion.solvers.SOLVERS`. num_steps: N, levels of the checkpoint's grid.
        guidance: uncond + g (cond - uncond); 1.0 is off and asks the network once an image, not twice.
        strength: with real images to start from, how far back to noise they go: the last round(strength * N) steps
            are walked. 1.0 starts from (almost) nothing but noise.
        per_device_batch: images one device draws at a time; part of the record, as rounding depends on it.
    Raises: ValueError: what cannot be drawn.
    """

    prompts: Prompts
    image_px: int
    negative: str = ""
    resize_filter: str = "box"
    sampler: str = "euler"
    num_steps: int = 50
    guidance: float = 2.0
    strength: float = 1.0
    per_device_batch: int = 8

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn, before any work starts."""
        if self.sampler not in SOLVERS:
            raise ValueError(f"sample.sampler {self.sampler!r}: allowed are {sorted(SOLVERS)}.")
        if self.num_steps < 1 or self.per_device_batch < 1:
            raise ValueError(
                f"sample.num_steps {self.num_steps}, sample.per_device_batch {self.per_device_batch}: "
                "allowed are whole numbers from 1."
            )
        if self.guidance < 1:
            raise ValueError(f"sample.guidance {self.guidance}: allowed are 1.0 (off) and up.")
        if not 0 < self.strength <= 1:
            raise ValueError(f"sample.strength {self.strength}: allowed are numbers above 0, up to 1.")
        if self.num_kept < 1:
            raise ValueError(
                f"sample.strength {self.strength} of {self.num_steps} steps is none: allowed is "
                f"{1 / self.num_steps:.3g} and up, or more steps."
            )
        if not self.prompts or not all(self.prompts):
            raise ValueError("There are classes without a prompt: give each at least one.")

    @property
    def num_kept(self) -> int:
        """The steps that are walked."""
        return round(self.strength * self.num_steps)


@functools.lru_cache(maxsize=4)
def digest(loaded: Loaded) -> str:
    """What a pipeline is: 16 hexadecimal digits over its settings, its vocabulary and every parameter's bytes."""
    pipeline = loaded.pipeline
    settings = [pipeline.configs, pipeline.tokenizer.get_vocab()]
    return tree.digest(loaded.params, header=json.dumps(settings, sort_keys=True))


def draw(
    loaded: Loaded,
    request: Request,
    seed: int,
    labels: np.ndarray,
    indices: np.ndarray,
    machine: parallel.Machine,
    start_from: Source | None = None,
) -> Iterator[np.ndarray]:
    """Draws the images (class, index) in order, in blocks of the machine's fixed batch.

    Args:
        labels, indices: [N] class and number within the class of each image.
        machine: devices of this process.
        start_from: real images with the same classes; image i of a class starts from its i mod n-th of them.
    Yields: uint8 [n, image_px, image_px, 3], n = D * per_device_batch but for the last block.
    Raises:
        ValueError: a prompt that is too long, a size that does not fit, or a class without an image to start from.
        NotAnImage: what comes out is not finite.
    """
    pipeline = loaded.pipeline
    shape = pipeline.latent_shape(request.image_px)
    guided, from_image = request.guidance != 1.0, start_from is not None
    how = (request.sampler, request.num_steps, request.num_kept, guided, from_image)
    run = _sampler(pipeline, shape, *how, machine)
    params = machine.replicate({part: loaded.params[part] for part in ("unet", "vae")})
    scalars = {"seed": np.uint32(seed), "guidance": np.float32(request.guidance)}
    prompts = of_images(request.prompts, labels, indices)
    states = _text_states(loaded, sorted({*prompts, request.negative}))
    negative = machine.replicate({**scalars, "states": states[request.negative][None]})
    begin = _beginnings(start_from, request.image_px, labels, indices) if start_from is not None else None
    block = machine.num_devices * request.per_device_batch
    for start in range(0, len(labels), block):
        n = len(labels[start : start + block])
        rows = np.resize(np.arange(start, start + n), block)  # the last block is filled up
        batch = {
            "label": labels[rows].astype(np.int32),
            "index": indices[rows].astype(np.uint32),
            "states": np.stack([states[prompts[row]] for row in rows]),
        }
        if begin is not None:
            batch["image"] = np.stack([begin(row) for row in rows])
        drawn = run(params, negative, machine.split(batch))
        yield whole_images(drawn, labels[start : start + n], indices[start : start + n])


@functools.lru_cache(maxsize=16)
def _sampler(
    pipeline: StableDiffusion,
    shape: tuple[int, int, int],
    sampler: str,
    num_steps: int,
    num_kept: int,
    guided: bool,
    from_image: bool,
    machine: parallel.Machine,
) -> Callable:
    sigmas = pipeline.sigmas(num_steps)[-num_kept - 1 :]

    def sample(params: Any, shared: dict[str, jax.Array], batch: dict[str, jax.Array]) -> dict:
        key = jax.random.key(shared["seed"])
        fold = jax.vmap(lambda c, i: jax.random.fold_in(jax.random.fold_in(key, c), i))
        k_start, k_steps = jax.vmap(jax.random.split, out_axes=1)(fold(batch["label"], batch["index"]))
        states = batch["states"]
        if guided:
            both = jnp.concatenate([states, jnp.broadcast_to(shared["states"], states.shape)])
            denoiser = denoise.guide_jointly(pipeline.denoiser(params["unet"], both), shared["guidance"])
        else:
            denoiser = pipeline.denoiser(params["unet"], states)
        x = sigmas[0] * noise.normal_like(k_start, shape)
        if from_image:
            x = x + pipeline.encode_image(params, batch["image"].astype(jnp.float32) / 127.5 - 1)
        latent = SOLVERS[sampler](denoiser, x, jnp.asarray(sigmas), k_steps)
        return to_pixels(pipeline.decode_latent(params, latent))

    return machine.map(sample, num_replicated=2)


def _text_states(loaded: Loaded, prompts: list[str]) -> dict[str, np.ndarray]:
    """The text encoder's answer to each prompt, [L, D], computed once, one prompt at a time on one device."""
    ids = loaded.pipeline.tokenize(prompts)
    encode = _encoder(loaded.pipeline)
    return {
        prompt: np.asarray(encode(loaded.params["text_encoder"], row[None]))[0]
        for prompt, row in zip(prompts, ids, strict=True)
    }


@functools.lru_cache(maxsize=4)
def _encoder(pipeline: StableDiffusion) -> Callable:
    return jax.jit(lambda params, ids: pipeline.encode_text({"text_encoder": params}, ids))


def _beginnings(source: Source, image_px: int, labels: np.ndarray, indices: np.ndarray) -> Callable[[int], np.ndarray]:
    """The real image that image `row` starts from, as the pipeline sees images: uint8 [image_px, image_px, 3]."""
    keys = {c: np.flatnonzero(source.labels == c) for c in np.unique(labels)}
    if empty := [source.class_names[c] for c, found in keys.items() if not len(found)]:
        raise ValueError(f"There is no real image to start from in the classes {empty}.")
    resize = Resize(image_px, 3)

    @functools.lru_cache(maxsize=4096)
    def image(key: int) -> np.ndarray:
        return resize.map(source.images(np.array([key]))[0])

    return lambda row: image(int(keys[labels[row]][indices[row] % len(keys[labels[row]])]))


def write_set(
    loaded: Loaded,
    request: Request,
    spec: synthetic.SyntheticSpec,
    path: Path,
    machine: parallel.Machine,
    process_index: int = 0,
    process_count: int = 1,
    versions: Mapping[str, str] | None = None,
    start_from: Source | None = None,
) -> None:
    """Fills in the shards of a synthetic set that are missing; see `write_missing`.

    Images are brought to the set's size by the request's filter, and to its channels.

    Raises:
        ValueError: a spec that does not fit the pipeline or the request, a seed that is no uint32, or a folder that
            holds another set.
        stop.Stopped: asked to stop; whole shards stay.
    """
    height, width, channels = spec.shape
    if len(spec.class_names) != len(request.prompts) or height != width:
        raise ValueError(
            f"The set wants square images of {len(spec.class_names)} classes, got {spec.shape} and prompts for "
            f"{len(request.prompts)}: give each class its prompts."
        )
    made = {"generator": digest(loaded), "guidance": request.guidance, "steps": request.num_kept}
    false = [f"{k} {getattr(spec, k)!r}, not {v!r}" for k, v in made.items() if getattr(spec, k) != v]
    if false:
        raise ValueError(f"The set's spec would say of its images: {'; '.join(false)}. Make the spec of what is drawn.")
    resize = Resize(height, channels, request.resize_filter)

    def drawn(labels: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
        for images in draw(loaded, request, spec.seed, labels, indices, machine, start_from):
            yield np.stack([resize.map(image) for image in images])

    prompts = functools.partial(of_images, request.prompts)
    write_missing(drawn, spec, path, process_index, process_count, versions, prompts)
