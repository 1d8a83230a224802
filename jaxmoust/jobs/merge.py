"""Verb `merge`, task `merge`: writes a fine-tuned Stable Diffusion pipeline as a plain folder

Leaves pipeline/ in --workdir, in the layout that diffusers reads, with adapters and new words in it.

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
from jaxmoust.runtime.folder import RunFolder


class Merge(Job):
    """Writes a pipeline with everything that was learnt in it."""

    sections = {
        "pipeline": pipelines.PIPELINE_SECTION,
        "dtype": Field("float32", Literal["float32", "bfloat16", "float16"], "of the files"),
    }
    refers = ("pipeline.path", "pipeline.lora")

    def check(self) -> None:
        """Opens the pipeline."""
        self.loaded = pipelines.open_pipeline(self.config["pipeline"], self.inputs)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Writes pipeline/."""
        started, target = time.monotonic(), folder.path / pipelines.PIPELINE
        if self.machine.primary:
            shutil.rmtree(target, ignore_errors=True)  # of a call that was cut off
            stable_diffusion.save(self.loaded, target, jnp.dtype(self.config["dtype"]))
        return {"generator": text_to_image.digest(self.loaded), "seconds": time.monotonic() - started}


JOB = Merge
