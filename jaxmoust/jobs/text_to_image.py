"""Verb `sample`, task `text_to_image`: writes a synthetic set with Stable Diffusion

The pipeline comes from the Hugging Face hub or from a folder (--config.pipeline.path=DIR), as it is or fine-tuned by
`fit`.

  jaxmoust sample --config=configs/sample/sd15_cifar10.py --workdir=runs/sd15 --config.sample.guidance=3.0
"""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust import build
from jaxmoust.config import Config, Field, fields, unpack
from jaxmoust.core.checks import require
from jaxmoust.data.checks import listed
from jaxmoust.data.source import Source
from jaxmoust.data.synthetic.spec import SyntheticSpec
from jaxmoust.data.synthetic.store import PARENTS, SOFT
from jaxmoust.generate import prompts, text_to_image
from jaxmoust.generate.writing import complete_set
from jaxmoust.jobs.parts import pipelines
from jaxmoust.jobs.parts.job import PLACES, Job
from jaxmoust.jobs.parts.streams import check_room
from jaxmoust.jobs.sample import SET
from jaxmoust.models.stable_diffusion import memory
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder, digest, environment


class TextToImage(Job):
    """Samples a set of a data set's classes and size from text, or from its real images."""

    sections = {
        "pipeline": pipelines.PIPELINE_SECTION,
        "data": build.DATA,
        "prompts": {
            **fields(prompts.read, skip=prompts.OF_DATA),
            "negative": Field("", str, "what images shall not show"),
        },
        **SET,
        "from_real": Field(False, bool, "start from the base set's images (image to image), sample.strength of noise"),
        "strengths": Field((), tuple[float, ...], "several strengths in the set, in the place of sample.strength"),
        "translate": Field(False, bool, "start from real images of other classes; labels are then soft"),
        "label_power": Field(
            0.5, float, "translated, the class asked for has the label's part strength ** label_power"
        ),
        "hard": {
            "scores": Field(
                "", str, "what `score` left of the base set: start from its hardest images alone; '' from all"
            ),
            "part": Field(0.4, float, "so many of each class: those with the lowest scores"),
        },
        "sample": {
            **fields(text_to_image.Request, skip=("prompts", "negative", "image_px", "descent")),
            "image_px": Field(0, int, "what the pipeline samples at, brought to data.image_px; 0 is its own size"),
        },
    }
    refers = (*pipelines.REFERS, "hard.scores", "prompts.templates_file", "prompts.words_file", "prompts.captions_file")

    def check(self) -> None:
        """Opens the pipeline, of one that is yet to be fine-tuned the one it starts from, and reads the prompts."""
        config = self.config
        parallel.check_seed(config["seed"])
        self.loaded = pipelines.open_pipeline(config["pipeline"], self.inputs)
        self.tuned = pipelines.fine_tuned(config["pipeline"], self.inputs)
        self.real = self.inputs.real(config["data"])
        self.class_names = self.real.base.class_names
        known = tuple(self.tuned.get("class_names", ()))
        if self.tuned.get("adapters") == "class" and known != self.class_names:
            raise ValueError(
                f"config.pipeline.path {config['pipeline']['path']} has adapters of the classes {listed(known)}, "
                f"expected those of this data, {listed(self.class_names)}. Fine-tune on these, or sample for those."
            )
        section, words = dict(config["prompts"]), self.tuned.get("words") or None
        negative = section.pop("negative")
        given = {"class_names": self.class_names, "words": words, "captioned": self.real.distinct}
        given |= {"most": -(-config["num_images"] // len(self.class_names)), "seed": config["seed"]}
        asked = unpack("prompts", prompts.read, section, **given)
        section = {**config["sample"], "image_px": config["sample"]["image_px"] or self.loaded.pipeline.image_px}
        part = config["hard"]["part"]
        require(0 < part <= 1, "config.hard.part", part, "numbers above 0, up to 1 (all)")
        descent = self.inputs.descent(config, self.real.distinct) if config["from_real"] else None
        given = {"prompts": asked, "negative": negative, "descent": descent}
        self.request = unpack("sample", text_to_image.Request, section, **given)
        starts = self.request.strength < 1 or config["strengths"] or config["translate"] or config["hard"]["scores"]
        if starts and not config["from_real"]:
            raise ValueError(
                f"sample.strength {self.request.strength}, strengths {config['strengths']}, translate "
                f"{config['translate']} and hard.scores {config['hard']['scores']!r} need images to start from: set "
                "from_real=True, or strength=1.0, strengths=(), translate=False and hard.scores=''."
            )
        if config["strengths"] and self.request.strength != 1:
            raise ValueError(
                f"config.strengths {config['strengths']} beside sample.strength {self.request.strength}: give one of "
                "the two, the other as 1.0 or ()."
            )
        self.request.check(self.loaded.pipeline)
        sides = (self.request.image_px, self.request.image_px, 3)
        check_room(self._spec(""), self.request.per_device_batch, sides, self.machine)
        available = self.machine.memory_bytes
        if self.need_alone.total > available:
            raise ValueError(
                f"Sampling needs about {self.need_alone}; a device has {available / 2**30:.1f} GiB. Take a smaller "
                "sample.per_device_batch or sample.image_px, pipeline.dtype='bfloat16' or "
                "pipeline.param_dtype='bfloat16'."
            )

    def promise(self) -> dict[str, Any]:
        """What is known of the set."""
        return {
            "n": self.config["num_images"],
            "class_names": self.class_names,
            "image_shape": self.real.shape,
            "method": "stable_diffusion",
            "n_base": self.tuned.get("n_base", 0),
            "data_digest": self.tuned.get("data_digest", ""),
            **({PARENTS: self.real.distinct.digest} if self.config["from_real"] else {}),
        }

    @property
    def places(self) -> tuple[str, ...]:
        """From text alone, no real image counts, only what the classes are called and what size is asked for."""
        return PLACES if self.config["from_real"] else (*PLACES, *(f"data.{name}" for name in self.config["data"]))

    def contents(self) -> dict[str, str]:
        """The pipeline, the words, and the real images or what they are called."""
        real = self.inputs.real(self.config["data"])
        asked = digest([real.base.class_names, real.shape])
        images = {"data.base": real.base.digest} if self.config["from_real"] else {"classes": asked}
        captions = real.distinct.captions_digest if self.config["prompts"]["contexts"] else ""
        return {**super().contents(), **images, **({"data.captions": captions} if captions else {})}

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Writes the shards that are not there."""
        started, descent = time.monotonic(), self.request.descent
        print(f"each device needs about {self.need_alone}")
        start_from, spec = self._start_from, self._spec(text_to_image.digest(self.loaded))
        columns = functools.partial(descent.columns, start_from.labels) if start_from and descent else None
        before = complete_set(self.write, folder.path, spec, self.machine, self._made_by, columns)
        said, section = {}, self.config["prompts"]
        if section["contexts"]:
            report = prompts.caption_report(self.real.distinct, self.class_names, section["words_file"])
            said = {"captions": report}
        seconds = before + time.monotonic() - started
        return {**self.promise(), **said, "generator": spec.generator, "seconds": seconds}

    def write(self, folder: Path, index: int, count: int) -> None:
        """Writes the shards of a part that are not there."""
        spec, here = self._spec(text_to_image.digest(self.loaded)), parallel.Machine.local()
        given = (self.loaded, self.request, spec, folder, here, index, count, self._made_by)
        text_to_image.write_set(*given, start_from=self._start_from)

    @property
    def _start_from(self) -> Source | None:
        return self.real.distinct if self.config["from_real"] else None

    @property
    def _made_by(self) -> dict[str, Any]:
        return {"versions": environment()["packages"], "trained_on": self.tuned.get("trained_on", "")}

    @functools.cached_property
    def need_alone(self) -> memory.Need:
        """What a batch takes of a device."""
        return text_to_image.need(self.loaded, self.request, self.config["from_real"])

    def calibrate(self) -> float:
        """By one batch of each device, after one that compiles, with the pipeline that a fine-tuned one starts from."""
        machine = parallel.Machine.local()
        some = np.arange(min(self.request.per_device_batch * machine.num_devices, self.config["num_images"]))
        given = (self.loaded, self.request, 0, some % len(self.class_names), some // len(self.class_names), machine)
        start_from = self.real.base if self.config["from_real"] else None
        seconds = 0.0
        for _ in range(2):
            started = time.monotonic()
            list(text_to_image.draw(*given, start_from))
            seconds = time.monotonic() - started
        return seconds / len(some) * self.config["num_images"]

    @staticmethod
    def work(config: Config, size_of: Callable[[str], int]) -> float:
        """Evaluations of the network."""
        return config["num_images"] * config["sample"]["num_steps"]

    def _spec(self, generator: str) -> SyntheticSpec:
        config, request = self.config, self.request
        kept = request.descent.kept if request.descent else None
        single = all(len(some) == 1 for some in request.prompts)
        return SyntheticSpec(
            name=config["name"] or "stable_diffusion",
            class_names=self.class_names,
            shape=self.real.shape,
            num_images=config["num_images"],
            shard_images=config["shard_images"],
            seed=config["seed"],
            generator=generator,
            guidance=request.guidance,
            steps=request.num_kept(self.loaded.pipeline),
            prompts=tuple(some[0] for some in request.prompts) if single else (),
            created_by={
                **config["sample"],
                "image_px": request.image_px,
                "prompts": digest(request.prompts) if config["prompts"]["contexts"] else request.prompts,
                "negative": request.negative,
                "from_real": self.real.base.digest if config["from_real"] else "",
                **({PARENTS: self.real.distinct.digest} if config["from_real"] else {}),
                **({"strengths": config["strengths"]} if config["strengths"] else {}),
                **({SOFT: config["label_power"]} if config["translate"] else {}),
                **({} if kept is None else {"hard": digest(kept.tolist())}),
                **pipelines.origin(config["pipeline"], self.tuned),
            },
        )


JOB = TextToImage
