"""Writes a synthetic set with Stable Diffusion: from text, or from real images and text (SDEdit).

Image i of class c is a function of (generator, seed, c, i), as in generate/pixels.py: its prompt, its noise and, where
there is one, the real image it starts from. One program is compiled for a number of steps, a solver and a size; class,
prompt, seed and the amount of guidance are arguments of it.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.core import tree
from jaxmoust.core.checks import require
from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.core.diffusion.solvers import SOLVERS
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.source import Source
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.data.synthetic.spec import Descent
from jaxmoust.generate.prompts import Prompts, of_images
from jaxmoust.generate.writing import check_sampling, image_keys, in_blocks, to_uint8, write_missing
from jaxmoust.models.stable_diffusion import Loaded, StableDiffusion, encode_prompts, lora, memory
from jaxmoust.runtime import parallel

_TEXTS_AT_ONCE = 4096  # prompts that are encoded before the images that they ask for


@dataclass(frozen=True)
class Request:
    """The prompts of a set, and how a pipeline is sampled.

    Args:
        prompts: of each class, at least one.
        image_px: side of the images that are sampled; what is written is resized from it.
        negative: what guidance moves away from; "" is any image.
        resize_filter: of the resize to the set's size, as in `transforms.Resize`.
        solver: "euler" (= DDIM), "heun", "ancestral" (= DDPM) or "dpmpp_2m".
        num_steps: N, the number of the checkpoint's noise levels.
        guidance: uncond + g (cond - uncond); 1.0 is off and runs the network once an image and step, not twice.
        strength: with real images to start from, how much noise they get: about the last strength * N steps are
            taken, see `StableDiffusion.num_kept`. 1.0 starts from (almost) nothing but noise.
        descent: from which real images, and with which strengths in the place of one; None for that one alone.
        per_device_batch: images one device samples at a time; part of the record, as rounding depends on it.
    Raises: ValueError: what cannot be sampled.
    """

    prompts: Prompts
    image_px: int
    negative: str = ""
    resize_filter: str = "box"
    solver: str = "euler"
    num_steps: int = 50
    guidance: float = 2.0
    strength: float = 1.0
    per_device_batch: int = 8
    descent: Descent | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be drawn, before any work starts."""
        check_sampling(self.solver, self.num_steps, self.per_device_batch)
        require(self.guidance >= 1, "sample.guidance", self.guidance, "1.0 (off) and up")
        require(0 < self.strength <= 1, "sample.strength", self.strength, "numbers above 0, up to 1")
        if self.negative and self.guidance == 1:
            raise ValueError(
                f"prompts.negative is {self.negative!r:.80} and sample.guidance 1.0, which is off and asks for no "
                "negative: set a guidance above 1, or negative=''."
            )
        if not self.prompts or not all(self.prompts):
            raise ValueError("There are classes without a prompt: give each at least one.")

    @property
    def strengths(self) -> tuple[float, ...]:
        """All that there are."""
        return self.descent.strengths if self.descent else (self.strength,)

    def num_kept(self, pipeline: StableDiffusion) -> int:
        """The steps taken, of several strengths those of the largest. Raises ValueError where a strength takes none."""
        lowest = min(self.strengths)
        least = f"{1 / self.num_steps:.3g} and up, or more steps, as less than one of {self.num_steps} would be taken"
        require(pipeline.num_kept(self.num_steps, lowest) >= 1, "sample.strength", lowest, least)
        return pipeline.num_kept(self.num_steps, max(self.strengths))

    def check(self, pipeline: StableDiffusion) -> None:
        """Refuses a size, steps, a strength, or prompts that a pipeline does not take. Raises ValueError."""
        pipeline.latent_shape(self.image_px)
        pipeline.sigmas(self.num_steps)
        self.num_kept(pipeline)
        pipeline.tokenize([self.negative, *(prompt for some in self.prompts for prompt in some)])


_DIGESTS: WeakKeyDictionary[Loaded, str] = WeakKeyDictionary()


def digest(loaded: Loaded) -> str:
    """What a pipeline is: 16 hexadecimal digits over its settings, its vocabulary and every parameter's bytes."""
    if loaded not in _DIGESTS:
        of_classes = {"by_class": dict(enumerate(loaded.by_class))} if loaded.by_class else {}
        header = json.dumps(loaded.pipeline.settings, sort_keys=True)
        _DIGESTS[loaded] = tree.digest({**loaded.params, **of_classes}, header=header)
    return _DIGESTS[loaded]


def draw(
    loaded: Loaded,
    request: Request,
    seed: int,
    labels: np.ndarray,
    indices: np.ndarray,
    machine: parallel.Machine,
    start_from: Source | None = None,
) -> Iterator[np.ndarray]:
    """Samples the images (class, index) in order, in blocks of the machine's fixed batch.

    Args:
        labels: [N] the class of each image.
        indices: [N] its number within the class.
        machine: devices of this process.
        start_from: real images with the same classes, from which each image starts as the request's descent says:
            without one, image i of a class from the i mod n-th of that class.
    Yields: uint8 [n, image_px, image_px, 3], n = D * per_device_batch but for the last block.
    Raises:
        ValueError: a prompt that is too long, a size that does not fit, or a class without an image to start from.
        NonFiniteImage: what comes out is not finite.
    """
    pipeline = loaded.pipeline
    shape, like = pipeline.latent_shape(request.image_px), _like(request)
    descent = request.descent or Descent((request.strength,))

    @functools.lru_cache(maxsize=1)
    def placed(label: int) -> tuple[StableDiffusion, Any]:
        """The network on the devices, with the adapters of a class where each has its own."""
        params = lora.attach(loaded.params, loaded.by_class[label]) if loaded.by_class else loaded.params
        scanning, net = pipeline.stacked(pipeline.net_params(params, request.image_px))
        return scanning, machine.replicate({**net, "vae": params["vae"]})

    def run(group: int, *given: Any) -> dict[str, jax.Array]:
        label, level = divmod(group, len(descent.strengths))
        scanning, params = placed(label)
        of_level = replace(like, strength=descent.strengths[level])
        return _solver(scanning, shape, of_level, start_from is not None, machine)(params, *given)

    scalars = {"seed": np.uint32(seed), "guidance": np.float32(request.guidance)}
    prompts = of_images(request.prompts, labels, indices)
    texts = _encoded(loaded, [request.negative, *prompts[:_TEXTS_AT_ONCE]])
    negative = machine.replicate({**scalars, "text": jax.tree.map(lambda x: x[None], texts[request.negative])})
    begin = _init_images(start_from, request.image_px, labels, indices, descent) if start_from is not None else None

    def sample(group: int, rows: np.ndarray) -> dict[str, jax.Array]:
        nonlocal texts
        if any(prompts[row] not in texts for row in rows):
            texts = _encoded(loaded, prompts[min(rows) : max(min(rows) + _TEXTS_AT_ONCE, max(rows) + 1)])
        batch = {
            "label": labels[rows].astype(np.int32),
            "index": indices[rows].astype(np.uint32),
            "text": jax.tree.map(lambda *of: np.stack(of), *(texts[prompts[row]] for row in rows)),
        }
        if begin is not None:
            batch["image"] = np.stack([begin(row) for row in rows])
        return run(group, negative, machine.split(batch))

    block, level = machine.num_devices * request.per_device_batch, np.zeros(len(labels), np.int64)
    if start_from is not None:
        level = descent.level_of(start_from.labels, labels, indices)
    group = labels * len(descent.strengths) + level if loaded.by_class else level
    if len(np.unique(group)) > 1:
        return _in_windows(sample, labels, indices, block, group)
    return in_blocks(functools.partial(sample, int(group[:1].sum())), labels, indices, block)


def _in_windows(
    sample: Callable, labels: np.ndarray, indices: np.ndarray, block: int, group: np.ndarray
) -> Iterator[np.ndarray]:
    """As `in_blocks`, each block of one group [N]: windows of images are sampled group after group, and put in order.

    Args: sample: (a group, rows) -> as that of `in_blocks`.
    """
    window = 8 * block * len(np.unique(group))
    for start in range(0, len(labels), window):
        of_window = group[start : start + window]
        order = np.argsort(of_window, kind="stable")
        parts: list[np.ndarray] = []
        for one in np.unique(of_window):
            mine = start + np.flatnonzero(of_window == one)

            def of_group(rows: np.ndarray, one: int = one, mine: np.ndarray = mine) -> dict[str, jax.Array]:
                return sample(int(one), mine[rows])

            parts += in_blocks(of_group, labels[mine], indices[mine], block)
        yield np.concatenate(parts)[np.argsort(order)]


def _encoded(loaded: Loaded, prompts: Sequence[str]) -> dict[str, Any]:
    """What the network reads of each distinct prompt."""
    asked = sorted(set(prompts))
    return dict(zip(asked, encode_prompts(loaded, asked), strict=True))


def need(loaded: Loaded, request: Request, from_image: bool = False) -> memory.Need:
    """The memory of one device that samples a batch as `draw` does, or that reads the prompts, whichever is more."""

    def shaped(x: Any, *rows: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*rows, *x.shape[len(rows) :]), x.dtype)

    pipeline, rows, px = loaded.pipeline, request.per_device_batch, request.image_px
    params = lora.attach(loaded.params, loaded.by_class[0]) if loaded.by_class else loaded.params
    params = jax.tree.map(shaped, params)
    text = jax.eval_shape(pipeline.encode_text, params, pipeline.tokenize([request.negative]))
    number = jax.ShapeDtypeStruct((rows,), np.uint32)
    batch = {"label": number, "index": number, "text": jax.tree.map(lambda x: shaped(x, rows), text)}
    if from_image:
        batch["image"] = jax.ShapeDtypeStruct((rows, px, px, 3), np.uint8)
    scalars = {"seed": jax.ShapeDtypeStruct((), np.uint32), "guidance": jax.ShapeDtypeStruct((), np.float32)}
    net = {**jax.eval_shape(lambda params: pipeline.net_params(params, px), params), "vae": params["vae"]}
    sample = _sample(pipeline, pipeline.latent_shape(px), _like(request), from_image)
    sampling = memory.of_sampling(lambda net, given: sample(net, *given), net, ({**scalars, "text": text}, batch))
    reading = (memory.Need({part: memory.size_of(params[part])}) for part in pipeline.tokenizers)
    return max(sampling, *reading, key=lambda one: one.total)


def _like(request: Request) -> Request:
    """What a program depends on: one serves every class, prompt and amount of guidance."""
    guidance = 1.0 if request.guidance == 1.0 else 2.0
    return replace(request, prompts=(("",),), negative="", resize_filter="box", guidance=guidance, descent=None)


@functools.lru_cache(maxsize=16)
def _solver(
    pipeline: StableDiffusion, shape: tuple[int, int, int], like: Request, from_image: bool, machine: parallel.Machine
) -> Callable:
    return machine.map(_sample(pipeline, shape, like, from_image), num_replicated=2)


def _sample(pipeline: StableDiffusion, shape: tuple[int, int, int], like: Request, from_image: bool) -> Callable:
    sigmas = pipeline.sigmas(like.num_steps)[-like.num_kept(pipeline) - 1 :]

    def sample(params: Any, shared: dict[str, jax.Array], batch: dict[str, jax.Array]) -> dict:
        k_start, k_steps = image_keys(shared["seed"], batch)
        text = batch["text"]
        if like.guidance != 1.0:
            both = jax.tree.map(lambda x, no: jnp.concatenate([x, jnp.broadcast_to(no, x.shape)]), text, shared["text"])
            denoiser = denoise.guide_jointly(pipeline.denoiser(params, both), shared["guidance"])
        else:
            denoiser = pipeline.denoiser(params, text)
        x = sigmas[0] * noise.normal_like(k_start, shape)
        if from_image:
            x = x + pipeline.encode_image(params, batch["image"].astype(jnp.float32) / 127.5 - 1)
        latent = SOLVERS[like.solver](denoiser, x, jnp.asarray(sigmas), k_steps)
        return to_uint8(pipeline.decode_latent(params, latent))

    return sample


def _init_images(
    source: Source, image_px: int, labels: np.ndarray, indices: np.ndarray, descent: Descent | None = None
) -> Callable[[int], np.ndarray]:
    """The real image that image `row` starts from, as the pipeline sees images: uint8 [image_px, image_px, 3]."""
    parents = (descent or Descent()).parents(source.labels, labels, indices)
    if empty := [source.class_names[c] for c in np.unique(labels[parents < 0])]:
        raise ValueError(f"There is no real image to start from in the classes {empty}.")
    resize = Resize(image_px, 3)

    @functools.lru_cache(maxsize=4096)
    def image(key: int) -> np.ndarray:
        return resize.map(source.read(key))

    return lambda row: image(int(parents[row]))


def write_set(
    loaded: Loaded,
    request: Request,
    spec: synthetic.SyntheticSpec,
    path: Path,
    machine: parallel.Machine,
    process_index: int = 0,
    process_count: int = 1,
    made_by: Mapping[str, Any] | None = None,
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
    record = {"generator": digest(loaded), "guidance": request.guidance, "steps": request.num_kept(loaded.pipeline)}
    resize = Resize(height, channels, request.resize_filter)

    def sample(labels: np.ndarray, indices: np.ndarray) -> Iterator[np.ndarray]:
        for images in draw(loaded, request, spec.seed, labels, indices, machine, start_from):
            yield np.stack([resize.map(image) for image in images])

    prompts = functools.partial(of_images, request.prompts)
    descent = request.descent or Descent((request.strength,))
    columns = functools.partial(descent.columns, start_from.labels) if start_from else None
    write_missing(sample, spec, path, record, process_index, process_count, made_by, prompts, columns)
