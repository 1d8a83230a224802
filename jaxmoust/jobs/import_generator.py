r"""Verb `import`, task `import`: takes a public diffusion network over as a generator

Reads a diffusers UNet2DModel folder, or the state dict of one of EDM's networks as .npz or .safetensors, and leaves in
--workdir what `fit` leaves: a generator that `sample` samples from.

  jaxmoust import --config=configs/import.py --workdir=runs/public --config.path=ddpm-cifar10-32
  jaxmoust import --config=configs/import.py:cat,dog --workdir=runs/public --config.path=edm.npz \
    --config.precondition=edm --config.sigma_data=0.5
"""

import time
from typing import Any, Literal

from jaxmoust import build
from jaxmoust.config import Field
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.latents import generator_of
from jaxmoust.models.unet.from_edm import PRECONDITIONS
from jaxmoust.models.unet.load import read_unet
from jaxmoust.runtime import checkpoint
from jaxmoust.runtime.folder import RunFolder


class Import(Job):
    """Brings a public network into the layout of our own."""

    sections = {
        "path": Field("", str, "the folder or file of the network"),
        "precondition": Field(
            "",
            Literal["", *PRECONDITIONS.values()],
            "of EDM's state dict, which its pickle's class says; '' takes the file's word",
        ),
        "sigma_data": Field(None, float | None, "of EDM's state dict; None takes the file's word"),
        "class_names": Field((), tuple[str, ...], "the classes, in the order of its labels; () calls them 0, 1, ..."),
    }
    refers = ("path",)

    def check(self) -> None:
        """Reads the network."""
        names = self.config["class_names"]
        if not self.config["path"]:
            raise ValueError("config.path is empty: give the folder or file of the network, --config.path=PATH.")
        self.public = public = read_unet(
            self.inputs.path(self.config["path"]), len(names), self.config["precondition"], self.config["sigma_data"]
        )
        self.class_names = names or tuple(map(str, range(public.num_classes)))
        task = build.make_diffuse(public.sections, public.image_shape, public.num_classes)
        self.generator = generator_of(task, public.params)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Writes the network as a checkpoint."""
        started = time.monotonic()
        with checkpoint.Checkpoints(folder.checkpoints, primary=self.machine.primary) as checkpoints:
            checkpoints.save(0, {"params": self.public.params})
        return {
            "steps": 0,
            "n_base": 0,
            "data_digest": "",
            "image_shape": self.public.image_shape,
            "class_names": self.class_names,
            "generator": self.generator.digest,
            "method": self.public.sections["method"]["name"],
            "sections": self.public.sections,
            "seconds": time.monotonic() - started,
        }


JOB = Import
