"""What a training costs by arithmetic: parameters, operations, and the least time that accelerators take for them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxmoust import build
from jaxmoust.config import Config
from jaxmoust.core.state import TrainState
from jaxmoust.models.stable_diffusion import memory
from jaxmoust.runtime import parallel

# Dense operations in bfloat16 a second, and bytes of memory, of one chip or card, by their makers' data sheets.
CHIPS = {
    "TPU v5e": (197e12, 16e9),
    "TPU v6e": (918e12, 32e9),
    "A100 80 GB": (312e12, 80e9),
    "H100 SXM": (989e12, 80e9),
    "H200 SXM": (989e12, 141e9),
}
_MAKE: dict[str, Callable] = {"classify": build.make_classify, "diffuse": build.make_diffuse}


def cost_text(config: Config, num_classes: int) -> str:
    """A table of what the training of a classifier or of an internal generator costs; opens no images.

    Args: config: complete. num_classes: of the images.
    Raises: ValueError: a configuration of another task, of latents or of a linear head, or that allows no network.
    """
    task = config["task"]
    if task not in _MAKE or config.get("latents", {}).get("path") or config["method"].get("learn") == "probe":
        raise ValueError(
            f"--cost: got a configuration of task {task!r}, expected one of task {' or '.join(map(repr, _MAKE))} that "
            "trains a network on pixels. `jaxmoust study --dry-run` says what others take."
        )
    data, machine = config["data"], parallel.Machine.local(1)
    shape = (data["image_px"], data["image_px"], data["channels"])
    if not all(shape):
        raise ValueError(
            "--cost: config.data leaves the size to the images, and opens none. Say it: --config.data.image_px=32 "
            "--config.data.channels=3."
        )
    frozen = jax.ShapeDtypeStruct((num_classes,), "float32") if config["method"].get("logit_adjustment") else None
    config = {**config, "train": {**config["train"], "best_metric": ""}}
    training = build.make_training(_MAKE[task], config, shape, num_classes, (), machine, rehearse=False)
    recipe = dataclasses.replace(training.recipe, micro_batches=1)
    with build.network_refusals("config.model", shape):
        loss, state, *given = build.loss_on_shapes(training.task, recipe, machine, shape, frozen)

        def gradient(state: TrainState, *given: Any) -> Any:
            return jax.grad(lambda params: loss(state.replace(params=params), *given))(state.params)

        def count(fn: Callable) -> float:
            step = machine.parallel(lambda *given: parallel.mean(fn(*given)), num_replicated=2)
            return memory.operations(step, state, *given) / recipe.batch_size

        forward, whole = count(loss), count(gradient)
    params, steps, batch = memory.size_of(state.params), recipe.num_steps, recipe.batch_size
    lines = [
        f"{params / 4e6:,.1f} million parameters, {params / 1e6:,.1f} MB in float32; with the optimiser's state "
        f"{memory.size_of(state) / 1e6:,.1f} MB.",
        f"An image of {shape[0]} px: {forward / 1e9:,.2f} GFLOP forward, {whole / 1e9:,.2f} GFLOP in training.",
        f"{steps:,} steps of {batch:,} images: {steps * batch * whole / 1e18:,.3f} EFLOP.",
        "At the ceiling of products of matrices in bfloat16, which no run reaches:",
        f"{'chip':<12}{'training images/s':>18}{'forward images/s':>18}{'chip-hours':>12}",
    ]
    for name, (rate, room) in CHIPS.items():
        hours = steps * batch * whole / rate / 3600
        fits = "" if memory.size_of(state) < room else "  (the state does not fit)"
        lines.append(f"{name:<12}{rate / whole:>18,.0f}{rate / forward:>18,.0f}{hours:>12,.2f}{fits}")
    return "\n".join(lines)
