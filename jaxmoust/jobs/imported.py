"""Verb `sample`, task `imported`: writes a set of images from another program, at the size and classes of real ones

The images are in a folder or an archive (of class folders, or with a table), in a set that `data import` or `sample`
wrote, or in another source: images of another generator, or photographs that were retrieved. In a study,
`config.sets.mine = dict(path=...)` is such a set. It may hold some of the real images' classes only; images of other
sizes are brought to data.image_px as test images are. An image that is one of the test images is refused; one that
looks the same as one is said, and refused with data.near_duplicates=together.

  jaxmoust sample --config=configs/sample/imported.py --workdir=runs/mine --config.path=generated \
    --config.data.source=folder --config.data.path=my_images --config.data.image_px=64
"""

import functools
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxmoust import build
from jaxmoust.config import Field
from jaxmoust.data.checks import listed
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.near_duplicates import near_duplicates, with_looked
from jaxmoust.data.source import Source, digest_bytes
from jaxmoust.data.sources.labels import Labelled
from jaxmoust.data.sources.leaks import thumb
from jaxmoust.data.sources.scan import NOT_KNOWN
from jaxmoust.data.synthetic import importer
from jaxmoust.data.synthetic.spec import SyntheticSpec
from jaxmoust.data.synthetic.store import is_set, read_spec
from jaxmoust.jobs.parts.inputs import rules_of
from jaxmoust.jobs.parts.job import PLACES, Job
from jaxmoust.jobs.sample import SET
from jaxmoust.runtime.folder import RunFolder, digest

TRIED = 32  # images, of a trial


class Imported(Job):
    """Brings images from another program to the classes and the size of real ones."""

    sections = {
        "path": Field("", str, "a folder or zip archive of images, or a set that `data import` or `sample` wrote"),
        "source": Field("", str, "where that is another source, its name: cifake_fake, ..."),
        "split": Field("", str, "the part of it, or of several groups of class folders the name of one"),
        "labels": Field("", str, "a CSV file with the columns file, label[, prompt], where folders are not classes"),
        "classes": Field((), tuple[str, ...], "those whose images are used; () is all that there are"),
        "made_by": Field("", str, "what made the images, for the record; '' takes what the set says of itself"),
        **{name: SET[name] for name in ("name", "shard_images")},
        "data": build.DATA,
    }
    refers = ("path", "labels")

    @property
    def places(self) -> tuple[str, ...]:
        """Of the real images only what the classes are called and what size is asked for counts."""
        return (*PLACES, *(f"data.{name}" for name in self.config["data"]))

    @functools.cached_property
    def opened_images(self) -> tuple[Source, Labelled]:
        """The images as they lie there, and what they are called."""
        config = self.config
        if not (config["path"] or config["source"]):
            raise ValueError("config.path is empty: give the folder, archive or set of the images, --config.path=DIR.")
        rules = rules_of(config["data"])
        given = (config["source"], config["split"], config["labels"], config["classes"], rules.reading, rules.on_bad)
        return importer.open_images(self.inputs.path(config["path"]) if config["path"] else "", *given)

    def contents(self) -> dict[str, str]:
        """The images, and what the real ones are called and brought to."""
        real = self.inputs.real(self.config["data"])
        found = super().contents()
        images = {} if "path" in found else {"path": self.opened_images[0].digest}
        rules = rules_of(self.config["data"])
        seen = [real.base.class_names, real.shape, real.test.digest, repr(rules.reading)]
        seen += [rules.near_duplicates_by] if rules.near_duplicates == "together" else []  # refuses, see `open`
        return {
            **found,
            **images,
            "classes": digest(seen),
        }

    def check(self) -> None:
        """Opens the images, and finds their classes among the real ones'."""
        config = self.config
        self.real = self.inputs.real(config["data"])
        images, self.files = self.opened_images
        self.placed = importer.among(images, self.real.base.class_names, config["path"] or config["source"])
        self._warn_of_enlarged()
        path = self.inputs.path(config["path"])
        known = read_spec(path) if config["path"] and is_set(path) else None
        generation = {name: getattr(known, name, None) for name in ("seed", "guidance", "steps")}
        self.spec: SyntheticSpec = importer.make_spec(
            self.placed,
            self.files,
            path if config["path"] else "",
            self.real.shape,
            config["source"],
            config["split"],
            config["name"],
            config["made_by"] or getattr(known, "generator", ""),
            config["shard_images"],
            **generation,
        )

    def _warn_of_enlarged(self) -> None:
        """Says that images are smaller than what they are brought to, where real ones are not."""
        px, mine, real = self.real.shape[0], self.placed.shape, self.real.base.shape
        if mine and min(mine[:2]) < px and not (real and min(real[:2]) < px):
            said = (
                f"The images of {self.config['path'] or self.config['source']}, {min(mine[:2])} px, are enlarged to "
                f"{px} px (data.image_px), real ones are not: what that blurs counts as a difference."
            )
            self.inputs.once(said, functools.partial(logging.warning, said))

    def promise(self) -> dict[str, Any]:
        """What is known of the set."""
        counts, names = self.spec.class_counts, self.spec.class_names
        return {
            "n": self.spec.num_images,
            "class_names": names,
            "image_shape": self.spec.shape,
            "class_counts": counts,
            "method": "imported",
            "n_base": 0,
            "data_digest": "",
            **({"n_skipped": len(self.files.skipped)} if self.files.skipped else {}),
        }

    def open(self) -> None:
        """Refuses images that are test images, pixel by pixel at the size that networks see.

        What merely looks the same as a test image is said, or refused where data.near_duplicates keeps such together.
        """
        resize, sources = Resize(self.real.shape[0], self.real.shape[2]), (self.placed, self.real.test)

        def seen(source: Source) -> tuple[list[str], np.ndarray]:
            """Of each image a digest and a very small picture, uint8 [n, 8, 9]."""

            def of_image(i: int) -> tuple[str, np.ndarray]:
                pixels = resize.map(source.encoded(i) or source.read(i))
                return digest_bytes(pixels.data), thumb(pixels)

            with ThreadPoolExecutor() as threads:
                digests, thumbs = zip(*threads.map(of_image, range(len(source))), strict=True)
            return list(digests), np.stack(thumbs)

        (digests, thumbs), (tested, others) = map(seen, sources)
        names, known = self.files.names or [f"image {i}" for i in range(len(self.placed))], {*tested}
        what = f"of the {len(self.placed):,} images of {self.config['path'] or self.config['source']}"
        if leaked := [name for name, of_image in zip(names, digests, strict=True) if of_image in known]:
            raise ValueError(
                f"{len(leaked):,} {what} are test images ({listed(leaked)}): a classifier would be trained on images "
                "that it is evaluated on. Remove them."
            )
        rules = rules_of(self.config["data"])
        try:
            pairs = near_duplicates(np.concatenate([thumbs, others]))
        except ValueError:
            logging.warning(NOT_KNOWN)
            return
        pairs = with_looked(pairs, self.inputs.look(rules.near_duplicates_by), sources)
        pairs = pairs[(pairs < len(names)).sum(axis=1) == 1]
        if not (alike := [names[i] for i in np.unique(pairs.min(axis=1))]):
            return
        said = f"{len(alike):,} {what} look the same as a test image ({listed(alike)})"
        if rules.near_duplicates == "together":
            raise ValueError(f"{said}, which data.near_duplicates='together' keeps apart. Remove them.")
        logging.warning("%s: look at them. data.near_duplicates='together' refuses such.", said)

    def calibrate(self) -> float:
        """By bringing some images to the size, and as many of the test images."""
        resize, sources = Resize(self.real.shape[0], self.real.shape[2]), (self.placed, self.real.test)
        seconds = 0.0
        for source in sources:
            keys = np.linspace(0, len(source) - 1, min(len(source), TRIED)).astype(int).tolist()
            started = time.monotonic()
            for i in keys:
                resize.map(source.encoded(i) or source.read(i))
            seconds += (time.monotonic() - started) / len(keys) * len(source)
        return seconds * 2  # once to compare them, once to write them

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Writes the shards that are not there."""
        started = time.monotonic()
        with self.machine.together():
            if self.machine.primary:
                importer.write_images(self.placed, self.files, folder.path, self.spec)
        return {**self.promise(), "generator": self.spec.generator, "seconds": time.monotonic() - started}


JOB = Imported
