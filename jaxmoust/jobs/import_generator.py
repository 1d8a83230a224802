r"""Verb `import`, task `import`: converts a public diffusion network into a generator of this package

Reads a diffusers UNet2DModel or DiT folder, the state dict of one of EDM's networks as .npz or .safetensors, or that of
a DiT as .safetensors, and writes to --workdir what `fit` writes: a generator for `sample`.

  jaxmoust import --config=configs/import.py --workdir=runs/public --config.path=ddpm-cifar10-32
  jaxmoust import --config=configs/import.py:cat,dog --workdir=runs/public --config.path=edm.npz \
    --config.precondition=edm --config.sigma_data=0.5
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

from jaxmoust import build
from jaxmoust.config import Field
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.latents import generator_of, open_latents
from jaxmoust.models.dit_files import is_dit, read_dit
from jaxmoust.models.unet.convert import Imported
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
        "vae": Field(
            "", str, "of a DiT on latents, the folder of their VAE or its pipeline; '' is the DiT's own folder"
        ),
        "class_names": Field((), tuple[str, ...], "the classes, in the order of its labels; () calls them 0, 1, ..."),
    }
    refers = ("path", "vae")

    def check(self) -> None:
        """Reads the network."""
        names = self.config["class_names"]
        if not self.config["path"]:
            raise ValueError("config.path is empty: give the folder or file of the network, --config.path=PATH.")
        path, given = self.inputs.path(self.config["path"]), (self.config["precondition"], self.config["sigma_data"])
        if is_dit(path):
            if given != ("", None):
                raise ValueError("config.precondition and config.sigma_data are of EDM's files, and this is a DiT's.")
            public = self._with_vae(read_dit(path, len(names)), path)
        else:
            public = read_unet(path, len(names), *given)
            if self.config["vae"]:
                raise ValueError("config.vae is of a DiT on latents, and this network works on pixels: leave it empty.")
        self.public, self.class_names = public, names or tuple(map(str, range(public.num_classes)))
        autoencoder, vae = open_latents(public.sections, self.inputs)
        task = build.make_diffuse(public.sections, public.image_shape, public.num_classes, autoencoder)
        self.generator = generator_of(task, public.params, vae)

    def _with_vae(self, dit: Imported, path: Path) -> Imported:
        """A DiT with the VAE that its latents are of, as it is named or lies in its folder."""
        side, _, channels = dit.image_shape
        name = self.config["vae"] or (str(path) if (path / "vae").is_dir() else "")
        if not name and channels in (1, 3):
            return dit
        if not name:
            raise ValueError(
                f"{path} works on latents of {channels} channels, and there is no VAE to decode them: give its folder, "
                "or that of its pipeline, as config.vae; of DiT-XL/2 stabilityai/sd-vae-ft-ema."
            )
        latents = {"path": name, "revision": "", "variant": "", "image_px": 0, "keep": ""}
        sections = {**dit.sections, "latents": latents}
        autoencoder, _ = open_latents(sections, self.inputs)
        assert autoencoder
        image_px = side * autoencoder.factor
        if autoencoder.latent_shape(image_px) != dit.image_shape:
            kinds = f"{autoencoder.vae.latent_channels}, the DiT's {channels}"
            raise ValueError(f"The latents of {name} have channels {kinds}: give the VAE that it was trained with.")
        return dataclasses.replace(dit, sections=sections, image_shape=(image_px, image_px, 3))

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
