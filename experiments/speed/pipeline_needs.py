"""What Stable Diffusion needs before a step is run, by shapes alone: memory, operations and the time to compile.

Without an option, the memory that models/stable_diffusion/memory.py estimates, and how many images accelerators hold.
--plan compares the estimate with what XLA plans for the same program in float32, without running it. --compile gives
the seconds to trace, lower and compile a guided step of sampling, in a process each and without a cache: ours as
`jaxmoust sample` compiles it (equal blocks once), ours with every block by itself, and, where diffusers 0.39 is
installed, its Flax U-Net.

Run: python experiments/speed/pipeline_needs.py            (of each published size: minutes)
     python experiments/speed/pipeline_needs.py --plan     (a compilation each: half an hour on 2 CPU cores)
     python experiments/speed/pipeline_needs.py --compile

Result of --compile on 2 CPU cores that others used as well (x86_64, jax 0.10.2, diffusers 0.39.0), 512 px; processor
seconds to trace, lower and compile a guided step:
                            equal blocks once    each block    diffusers' Flax
    1.5 (none are equal)                 12.9          13.8                9.7
    XL                                   10.5          17.1               13.4
    3 medium                              2.6           5.8
    3.5 medium                            4.5           7.6

What one accelerator holds at 512 px, computing in bfloat16 with float32 parameters: an update on latents and text
states that were computed before (AdamW, an average of weights with "full" only, adapters of rank 4), and sampling.
GiB for 8 images, for each more, and the
most images that 16 and 80 GiB hold if nothing is left free; leave a third (models/stable_diffusion/memory.py says why).

                            Stable Diffusion 1.5              Stable Diffusion 2.1-base
                        8 need   each   16 GiB  80 GiB     8 need   each   16 GiB  80 GiB
    full                  54.9   5.06     none      12       46.3   3.98     none      16
    full, remat           24.3   1.06     none      60       21.5   0.68     none      93
    adapters              42.7   4.75        2      15       34.1   3.67        3      20
    adapters, remat       12.4   1.10       11      69        9.5   0.72       17     105
    sampling              10.5   0.88       14      87       10.5   0.88       14      87
    sampling, guided      11.7   1.03       12      74       10.5   0.88       14      87

A latent's way through the U-Net is 0.789 TFLOP in both, through the decoder 2.504. Parameters: U-Net 859,520,964 and
865,910,724, VAE 83,653,863, text encoder 123,060,480 and 340,387,840.
"""

import argparse
import itertools
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import peers
import pipelines
from pipelines import TRAINED, pipeline_of

from jaxmoust.core.diffusion import denoise, noise
from jaxmoust.core.optim import Recipe
from jaxmoust.models.stable_diffusion import memory

ACCELERATORS_GIB, NUM_STEPS, GUIDANCE = (16, 80), 20, 7.5
PX = 512  # of images, but where a network is smaller
Program = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function, and the shapes that it is given: what is held all the time, then what else."""


def gradient(size: str, trained: str, remat: bool, rows: int, dtype: str = "bfloat16") -> Program:
    """The loss of an update on so many rows, before its gradient is taken."""
    px = min(PX, pipeline_of(size, dtype).image_px)
    task, frozen, batch = pipelines.training(size, rows, dtype, trained, remat, px)
    params, _ = jax.eval_shape(task.init, jax.random.key(0))

    def loss(params: Any, frozen: Any, batch: Any) -> jax.Array:
        return task.loss(params, {}, frozen, batch, jax.vmap(jax.random.key)(batch["slot"]))[0]

    return loss, (params, frozen, batch)


def sampling(size: str, guidance: float, rows: int, dtype: str = "bfloat16") -> Program:
    """The steps that sample so many images at once, and the decoder; parameters in float32."""
    pipeline = pipeline_of(size, dtype)
    px = min(PX, pipeline.image_px)
    shape = pipeline.latent_shape(px)
    net, params = stacked(pipeline, px)

    def draw(params: Any, batch: Any) -> jax.Array:
        denoiser = guided(net, params, batch["text"], guidance)
        x = noise.normal_like(jax.vmap(jax.random.key)(batch["index"]), shape)
        x = jax.lax.scan(lambda x, _: (denoiser(x, jnp.ones(rows)), None), x, length=NUM_STEPS)[0]
        return jnp.clip(jnp.round(pipeline.decode_latent(params, x) * 127.5 + 127.5), 0, 255).astype(jnp.uint8)

    batch = {"index": jax.ShapeDtypeStruct((rows,), jnp.uint32), "text": pipelines.text_shapes(pipeline, rows)}
    return draw, (params | {"vae": pipeline.parameter_shapes()["vae"]}, batch)


def stacked(pipeline: Any, px: int) -> tuple[Any, Any]:
    """The pipeline that compiles equal blocks once, and the shapes that it reads."""
    net, params = pipeline.stacked(pipelines.net_shapes(pipeline, px))
    return net, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)


def guided(pipeline: Any, params: Any, text: Any, guidance: Any) -> denoise.Denoiser:
    """The denoiser of sampling; the empty text is a text of the same size."""
    if isinstance(guidance, float) and guidance == 1:
        return pipeline.denoiser(params, text)
    both = jax.tree.map(lambda x: jnp.concatenate([x, x]), text)
    return denoise.guide_jointly(pipeline.denoiser(params, both), guidance)


def step(size: str, how: str) -> Program:
    """A guided step on one latent in float32: "equal blocks once", "each block" or "diffusers' Flax"."""
    pipeline = pipeline_of(size, "float32")
    x = jax.ShapeDtypeStruct((1, *pipeline.latent_shape(min(PX, pipeline.image_px))), jnp.float32)
    text, number = pipelines.text_shapes(pipeline, 1), jax.ShapeDtypeStruct((), jnp.float32)
    if how != "diffusers' Flax":
        px = min(PX, pipeline.image_px)
        net, params = (pipeline, pipelines.net_shapes(pipeline, px)) if how == "each block" else stacked(pipeline, px)

        def ours(params: Any, text: Any, x: jax.Array, sigma: jax.Array, guidance: jax.Array) -> jax.Array:
            return guided(net, params, text, guidance)(x, jnp.full(1, sigma))

        return ours, (params, text, x, number, number)

    from diffusers import FlaxUNet2DConditionModel

    # Settings of torch's class that Flax's does not have are built into it.
    known, made = FlaxUNet2DConditionModel.__dataclass_fields__, pipelines.configs(size)["unet"]
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in made.items() if k in known}
    unet = FlaxUNet2DConditionModel(**fields)

    def theirs(params: Any, text: Any, x: jax.Array, t: jax.Array, guidance: jax.Array) -> jax.Array:
        both, added = jnp.concatenate([x, x]).transpose(0, 3, 1, 2), None
        if isinstance(text, dict):
            added = {"text_embeds": jnp.concatenate([text["pooled"]] * 2), "time_ids": jnp.full((2, 6), float(PX))}
            text = text["states"]
        answer = unet.apply({"params": params}, both, jnp.full(2, t), jnp.concatenate([text, text]), added).sample
        uncond, cond = jnp.split(answer, 2)
        return uncond + guidance * (cond - uncond)

    return theirs, (jax.eval_shape(unet.init_weights, jax.random.key(0)), text, x, number, number)


def need_of(program: Program, trained: str = "") -> memory.Need:
    """The estimate; an average of the weights goes with all of them only."""
    fn, shapes = program
    if not trained:
        return memory.of_sampling(fn, *shapes)
    recipe = Recipe(batch_size=1, num_steps=1_000_000)
    return memory.of_training(fn, *shapes, recipe.tx, average=trained == "full")


def print_needs(size: str) -> None:
    """Prints parameters, and what steps need, with the largest batch that one accelerator holds."""
    shapes = pipeline_of(size, "bfloat16").parameter_shapes()
    counts = {part: sum(leaf.size for leaf in jax.tree.leaves(shapes[part])) for part in shapes if "text" not in part}
    print(f"{size}: parameters {', '.join(f'{part} {count:,}' for part, count in counts.items())}")

    def show(title: str, make: Callable[..., Program], *how: Any, trained: str = "") -> None:
        """In the batch size a need is a line."""
        one, some, more = (need_of(make(size, *how, rows), trained) for rows in (1, 8, 16))
        each, fits = (more.total - some.total) / 8, []
        for gib in ACCELERATORS_GIB:
            rows = int(8 + (gib * 2**30 - some.total) // each)
            fits.append(f"{gib} GiB: {rows if rows > 0 and one.total <= gib * 2**30 else 'does not fit'}")
        print(f"  {title}: {'; '.join(fits)}; each image {each / 2**30:.2f} GiB, 8 need {some}", flush=True)

    for trained in TRAINED:
        for remat in (False, True):
            show(f"{trained}{', remat' if remat else ''}", gradient, trained, remat, trained=trained)
    for guidance in (1.0, GUIDANCE):
        show(f"sampling, guidance {guidance}", sampling, guidance)


def print_plan(size: str, rows: int) -> None:
    """Prints what is held besides arguments in sampling and in training adapters, estimated and by XLA's plan."""
    programs = {f"sampling, guidance {GUIDANCE}": sampling(size, GUIDANCE, rows, "float32")}
    for remat in (False, True):
        loss, shapes = gradient(size, "lora", remat, rows, "float32")
        programs[f"adapters{', remat' if remat else ''}"] = jax.grad(loss), shapes
    for title, (fn, shapes) in programs.items():
        estimate = memory.peak(fn, *shapes)
        plan = jax.jit(fn).lower(*shapes).compile().memory_analysis()
        planned = plan.temp_size_in_bytes + plan.output_size_in_bytes
        print(
            f"{size}, {title}, batches of {rows}: arguments {memory.size_of(shapes) / 2**30:.2f} GiB, besides "
            f"{estimate / 2**30:.2f} estimated, {planned / 2**30:.2f} planned by XLA, ratio {estimate / planned:.2f}",
            flush=True,
        )


def print_compile(size: str, how: str) -> None:
    """Prints the seconds of each stage, by the clock and of the processor; in a process of its own."""
    jax.config.update("jax_enable_compilation_cache", False)
    fn, shapes = step(size, how)
    marks = [(time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime)]

    def mark() -> None:
        marks.append((time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime))

    traced = jax.jit(fn).trace(*shapes)
    mark()
    lowered = traced.lower()
    mark()
    lowered.compile()
    mark()
    (trace, lower, compiled), (whole, user) = (
        [after[0] - before[0] for before, after in itertools.pairwise(marks)],
        [marks[-1][i] - marks[0][i] for i in (0, 1)],
    )
    print(
        f"{size}, {how}: trace {trace:.1f}, lower {lower:.1f}, compile {compiled:.1f}: {whole:.1f} s, {user:.1f} s of "
        "the processor",
        flush=True,
    )


def main() -> None:
    """Prints what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="of the small pipelines")
    parser.add_argument("--size", choices=tuple(pipelines.SIZES), help="of one")
    parser.add_argument("--plan", action="store_true", help="compare memory with XLA's plan")
    parser.add_argument("--compile", action="store_true", help="measure the time to compile")
    parser.add_argument("--batch_size", type=int, default=1, help="of --plan")
    args = parser.parse_args()
    sizes = (args.size,) if args.size else tuple(pipelines.SMALL if args.quick else pipelines.PUBLISHED)
    for size in sizes:
        if args.plan:
            print_plan(size, args.batch_size)
        elif args.compile:
            ways = ["equal blocks once", "each block"]
            ways += ["diffusers' Flax"] if peers.is_here("diffusers") and "sd3" not in size else []
            for how in ways:
                process = multiprocessing.get_context("spawn").Process(target=print_compile, args=(size, how))
                process.start()
                process.join()
        else:
            print_needs(size)


if __name__ == "__main__":
    main()
