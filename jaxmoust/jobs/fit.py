"""Verb `fit`, task `diffuse`: trains an internal generator (DDPM, EDM, flow), or fine-tunes Stable Diffusion

Leaves checkpoints/, metrics.jsonl, tensorboard/ and result.json in --workdir.

  jaxmoust fit --config=configs/generator/digits_edm.py --workdir=runs/edm
  jaxmoust fit --config=configs/generator/digits_edm.py --workdir=runs/edm500 --config.data.n_base=500
"""

import functools
import time
from pathlib import Path
from typing import Any

import jax

from jaxmoust import build
from jaxmoust.config import Config, plain
from jaxmoust.core.optim import average_name
from jaxmoust.core.tree import zeros_of
from jaxmoust.data.pool import Pool
from jaxmoust.data.samplers.shuffle import Random
from jaxmoust.generate import pixels
from jaxmoust.jobs.parts.inputs import Inputs, Output
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.latents import encoded, generator_of, open_latents
from jaxmoust.jobs.parts.streams import (
    base_size,
    evaluated_on,
    fit_eval_data,
    run_fit,
    seconds_an_image,
    training_stream,
)
from jaxmoust.runtime import checkpoint, parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.train.diffuse import Diffuse
from jaxmoust.train.loop import seconds_a_step


class Fit(Job):
    """Trains a generator on the base set of a data set."""

    sections = build.GENERATOR
    images = ("base", "unused")
    refers = ("latents.path",)

    def check(self) -> None:
        """Builds the training."""
        self.real = self.inputs.real(self.config["data"])
        metrics = tuple(f"loss_{name}" for name in evaluated_on(self.real))
        self.class_names = self.real.base.class_names
        autoencoder, self.vae = open_latents(self.config, self.inputs)
        if autoencoder and self.real.random_crop:
            raise ValueError("Latents are encoded once: set data.random_crop=0, or latents.path='' for pixels.")
        make = functools.partial(build.make_diffuse, autoencoder=autoencoder)
        self.training = build.make_training(
            make, self.config, self.real.shape, len(self.class_names), metrics, self.machine
        )

    def promise(self) -> dict[str, Any]:
        """What is known of the generator before it is trained."""
        return {
            "n_base": base_size(self.real),
            "data_digest": self.real.base.digest,
            "image_shape": self.real.shape,
            "class_names": self.class_names,
            "method": self.config["method"]["name"],
        }

    def calibrate(self) -> float:
        """By one step, and of latents by a batch of black images that are encoded."""
        latents, shape, encoding = self.training.task.latents, self.real.shape, 0.0
        if latents:
            encode = functools.partial(latents.encode, self.vae, machine=self.machine)
            each = seconds_an_image(encode, shape, self.config, self.machine)
            encoding = each * (len(self.real.base) + sum(map(len, evaluated_on(self.real).values())))
        return encoding + self.training.recipe.num_steps * seconds_a_step(self.training, self.machine, shape)

    def open(self) -> None:
        """Opens the streams."""
        self.eval_data = fit_eval_data(self.real, self.config, self.machine)
        pool, recipe = Pool.from_sources([self.real.base]), self.training.recipe
        sampler, in_pixels = Random(pool, self.config["seed"]), self.training.task.latents is None
        self.stream_from = training_stream(pool, sampler, self.real, recipe, self.machine, pixels=in_pixels)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Trains."""
        title, seed, started = f"fit {self.config['method']['name']}", self.config["seed"], time.monotonic()
        latents, stream_from, eval_data = self.training.task.latents, self.stream_from, self.eval_data
        if latents:
            given = (self.vae, self.real, self.config, eval_data, self.machine)
            changed, eval_data = encoded(latents, *given)
            stream_from = changed(stream_from)
        before = time.monotonic() - started
        state, evaluation, seconds = run_fit(self.training, stream_from, eval_data, folder, self.machine, seed, title)
        params = parallel.to_host(state.ema["params"] if state.ema else state.params)
        generator = generator_of(self.training.task, params, self.vae)
        return {
            **evaluation.metrics,
            "steps": self.training.recipe.num_steps,
            **self.promise(),
            "generator": generator.digest,
            "trained_on": folder.devices,
            "seconds": before + seconds,
        }


JOB = Fit


def generator_config(output: Output) -> Config:
    """The configuration of a generator that `fit` or `import` wrote: an imported network has it in its result."""
    return plain(output.result.get("sections", output.config))


def check_average(output: Output, half_life: float | None) -> None:
    """Refuses a half-life of which a generator keeps no average. Raises: ValueError: those that it keeps."""
    optim = generator_config(output).get("optim", {})
    kept = [length for length in (optim.get("ema_half_life_images", 0), *optim.get("ema_others", ())) if length]
    if half_life is not None and half_life not in kept:
        raise ValueError(
            f"config.ema {half_life:g}: of this generator {', '.join(f'{length:g}' for length in kept) or 'none'} is "
            "kept; None takes the first. Name others as optim.ema_others when fitting it."
        )


def task_of(output: Output, inputs: Inputs) -> tuple[Diffuse, Any]:
    """The task that `fit` or `import` left a network of, and the parameters of the VAE whose latents it works on."""
    shape, num_classes = tuple(output.result["image_shape"]), len(output.result["class_names"])
    autoencoder, vae = open_latents(generator_config(output), inputs)
    return build.make_diffuse(generator_config(output), shape, num_classes, autoencoder), vae


def untrained(output: Output, inputs: Inputs) -> pixels.Generator:
    """The generator that `fit` will leave, all zeros: it takes as long to sample from."""
    task, vae = task_of(output, inputs)
    return generator_of(task, zeros_of(jax.eval_shape(task.init, jax.random.key(0))[0]), vae)


def load_generator(output: Output, inputs: Inputs, half_life: float | None = None) -> pixels.Generator:
    """Opens what `fit` or `import` left.

    Args: half_life: of the average that is wanted; None: the training's own.
    Raises: ValueError: no checkpoint, or none of such a network.
    """
    config = generator_config(output)
    task, vae = task_of(output, inputs)
    averaged = config.get("optim", {}).get("ema_half_life_images")
    folder = (output.folder or Path()) / "checkpoints"
    params, _ = checkpoint.restore_tree(folder, "ema" if averaged else "params", output.which)
    if averaged:
        params = params["params"] if half_life in (None, averaged) else params["others"][average_name(half_life)]
    return generator_of(task, params, vae)
