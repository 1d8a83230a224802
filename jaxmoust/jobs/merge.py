"""Verb `merge`, task `merge`: writes a fine-tuned Stable Diffusion pipeline as a plain folder, or its adapters alone

Leaves pipeline/ in --workdir, in the layout that diffusers reads, with adapters and new words in it; or the adapters
alone as lora.safetensors, in PEFT's layout or in kohya's.

  jaxmoust merge --config=configs/merge.py --workdir=runs/merged --config.pipeline.path=runs/tiny_sd_lora
"""

import shutil
import time
from typing import Any, Literal

import jax.numpy as jnp

from jaxmoust.config import Field
from jaxmoust.generate import text_to_image
from jaxmoust.jobs.parts import pipelines
from jaxmoust.jobs.parts.job import Job
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import Loaded, lora, lora_files
from jaxmoust.runtime.folder import RunFolder


class Merge(Job):
    """Writes a pipeline with everything that was trained merged into it."""

    sections = {
        "pipeline": pipelines.PIPELINE_SECTION,
        "dtype": Field("float32", Literal["float32", "bfloat16", "float16"], "of the files"),
        "leave": Field(
            "pipeline", Literal["pipeline", "peft", "kohya"], "the whole pipeline, or its adapters alone in that layout"
        ),
    }
    refers = pipelines.REFERS

    def check(self) -> None:
        """Opens the pipeline."""
        self.loaded = pipelines.open_pipeline(self.config["pipeline"], self.inputs)
        self.tuned = pipelines.fine_tuned(self.config["pipeline"], self.inputs)
        if self.loaded.by_class:
            raise ValueError(
                f"config.pipeline.path {self.config['pipeline']['path']} has adapters for each class, which no one "
                "pipeline holds: sample from it, or merge the adapters of one class (pipeline.lora=DIR/classes/0000)."
            )
        if self.config["leave"] != "pipeline" and not lora.attached(self.loaded.params):
            raise ValueError(f"config.leave is {self.config['leave']!r}, and this pipeline has no adapters.")

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Writes pipeline/ or lora.safetensors, and the digest of the images of its fine-tuning."""
        started, target, form = time.monotonic(), folder.path / pipelines.PIPELINE, self.config["leave"]
        left, dtype = self.loaded, jnp.dtype(self.config["dtype"])
        if form == "pipeline":
            left = Loaded(left.pipeline, lora.merged(left.params, dtype))
        if self.machine.primary and form == "pipeline":
            shutil.rmtree(target, ignore_errors=True)  # of a call that was cut off
            stable_diffusion.save(left, target, dtype)
        elif self.machine.primary:
            lora_files.save(folder.path / pipelines.LORA, lora.attached(left.params), form=form)
        learnt: dict[str, Any] = {
            name: self.tuned[name] for name in ("n_base", "data_digest", "words") if name in self.tuned
        }
        learnt |= pipelines.origin(self.config["pipeline"], self.tuned)
        return {**learnt, "generator": text_to_image.digest(left), "seconds": time.monotonic() - started}


JOB = Merge
