"""Verb `sample`, task `sample`: writes a synthetic set from a generator

Leaves a TFDS data set in --workdir: `tfds.builder_from_directory(DIR).as_data_source()` opens it.
Image i of class c depends on (generator, seed, c, i) alone. Missing shards are filled in on a restart.

  jaxmoust sample --config=configs/sample/edm.py --workdir=runs/edm_set --config.generator=runs/edm
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust import build
from jaxmoust.config import Config, Field, fields
from jaxmoust.data.synthetic.spec import SyntheticSpec
from jaxmoust.generate import pixels
from jaxmoust.generate.writing import complete_set
from jaxmoust.jobs.fit import check_average, generator_config, load_generator, task_of, untrained
from jaxmoust.jobs.parts.inputs import Output
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.streams import check_room
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder, environment

# What every synthetic set is asked for.
SET = {
    **build.SEED,
    "name": Field("", str, "of the TFDS data set, and of the source in a pool; '' takes the generator's method"),
    "num_images": Field(0, int, "of all classes together, each in turn"),
    "shard_images": Field(1000, int, "images of a file; what is lost of a killed run is at most one such file"),
}


TRIED_STEPS, TRIED_IMAGES = 6, 16  # of a trial; images of each device


class Sample(Job):
    """Samples a set from a generator that was trained here or imported."""

    sections = {
        "generator": Field("", str, "the folder that `fit` or `import` left; DIR@best takes its best checkpoint"),
        "ema": Field(
            None, float | None, "half-life, in images, of the average to sample with; None takes the training's own"
        ),
        "autoguidance": Field(
            "", str, "a smaller or a shorter training of its own, that sample.guidance leads away from; '' is no class"
        ),
        **SET,
        "sample": fields(pixels.Sampling),
    }
    refers = ("generator", "autoguidance")

    def check(self) -> None:
        """Reads what the generator was trained as, and the solver's settings."""
        config = self.config
        if not config["generator"]:
            raise ValueError(
                "config.generator is empty: give the folder of a fitted generator, --config.generator=DIR."
            )
        self.fitted = self.inputs.output(config["generator"], ("diffuse", "import"), "fit")
        shape, self.class_names = tuple(self.fitted.result["image_shape"]), tuple(self.fitted.result["class_names"])
        task, _ = task_of(self.fitted, self.inputs)
        check_average(self.fitted, config["ema"])
        self.weaker = self._weaker() if config["autoguidance"] else None
        guided = self.weaker is not None
        self.sampling = build.make_sampling(config["sample"], task.method, task.label_dropout, guided)
        if task.latents and self.sampling.clip:
            raise ValueError(
                "sample.clip keeps pixels in [-1, 1], and this generator works on latents: set it to False."
            )
        self.shape = shape
        self.spec = self._spec("")
        check_room(self.spec, self.sampling.per_device_batch, shape, self.machine)

    def promise(self) -> dict[str, Any]:
        """What is known of the set."""
        known = {name: self.fitted.result[name] for name in ("method", "n_base", "data_digest")}
        return {"n": self.spec.num_images, "class_names": self.class_names, "image_shape": self.shape, **known}

    def open(self) -> None:
        """Reads the generator, and the weaker one."""
        weaker = load_generator(self.weaker, self.inputs) if self.weaker else None
        generator = load_generator(self.fitted, self.inputs, self.config["ema"])
        self.generator = dataclasses.replace(generator, negative=weaker)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Writes the shards that are not there."""
        started, spec = time.monotonic(), self._spec(self.generator.digest)
        before = complete_set(self.write, folder.path, spec, self.machine, self._made_by)
        seconds = before + time.monotonic() - started
        return {**self.promise(), "generator": self.generator.digest, "seconds": seconds}

    def write(self, folder: Path, index: int, count: int) -> None:
        """Writes the shards of a part that are not there."""
        spec, here = self._spec(self.generator.digest), parallel.Machine.local()
        pixels.write_set(self.generator, self.sampling, spec, folder, here, index, count, self._made_by)

    @property
    def _made_by(self) -> dict[str, Any]:
        return {"versions": environment()["packages"], "trained_on": self.fitted.result.get("trained_on", "")}

    def calibrate(self) -> float:
        """By a few images and steps, after as many that compile, of networks that may be yet to be trained."""
        machine, sampling = parallel.Machine.local(), self.sampling
        few = min(TRIED_STEPS, sampling.num_steps)
        size = min(sampling.per_device_batch, TRIED_IMAGES)
        weaker = untrained(self.weaker, self.inputs) if self.weaker else None
        generator = dataclasses.replace(untrained(self.fitted, self.inputs), negative=weaker)
        rows = np.arange(size * machine.num_devices, dtype=np.int32)
        tried = dataclasses.replace(sampling, num_steps=few, per_device_batch=size)
        seconds = 0.0
        for _ in range(2):
            started = time.monotonic()
            list(pixels.draw(generator, tried, 0, rows % len(self.class_names), rows, machine))
            seconds = time.monotonic() - started
        return seconds / len(rows) * self.config["num_images"] * sampling.num_steps / few

    @staticmethod
    def work(config: Config, size_of: Callable[[str], int]) -> float:
        """Evaluations of the network."""
        return config["num_images"] * config["sample"]["num_steps"]

    def _weaker(self) -> Output:
        """The generator that guides, of the same images: an estimate of others, or of other classes, leads nowhere."""
        weaker = self.inputs.output(self.config["autoguidance"], ("diffuse", "import"), "fit")
        known = []
        for output in (self.fitted, weaker):
            latents = generator_config(output).get("latents", {})
            where = {name: value for name, value in latents.items() if name != "keep" and latents["path"]}
            known.append({**output.result, "space": str(where or "pixels")})
        for name in ("class_names", "image_shape", "space", "data_digest"):
            own, other = (of.get(name, "") for of in known)
            if own and other and list(own) != list(other):
                raise ValueError(
                    f"config.autoguidance is a generator of another {name} ({_short(other)}) than config.generator's "
                    f"({_short(own)}): give a smaller, or a shorter trained, generator of the same images."
                )
        return weaker

    def _spec(self, generator: str) -> SyntheticSpec:
        parallel.check_seed(self.config["seed"])
        return SyntheticSpec(
            name=self.config["name"] or self.fitted.result["method"],
            class_names=self.class_names,
            shape=self.shape,
            num_images=self.config["num_images"],
            shard_images=self.config["shard_images"],
            seed=self.config["seed"],
            generator=generator,
            guidance=self.sampling.guidance,
            steps=self.sampling.num_steps,
            created_by=self.config["sample"],
        )


def _short(value: Any) -> str:
    return f"{value if isinstance(value, str) else list(value)!s:.60}"


JOB = Sample
