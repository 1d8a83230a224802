r"""Verb `measure`, task `measure`: measures how close a synthetic set is to real images, and whether it copies them

Leaves result.json in --workdir: FID, KID, precision, recall, density, coverage and CMMD, each with the extractor's name
and beside its floor (test images in the place of synthetic ones); memorisation.json, ratios.npz; pairs.npz and
pairs.png, the synthetic images that come closest to a training image; shown.npz, the first of each class beside theirs.

  jaxmoust measure --config=configs/measure/digits.py --workdir=runs/edm_measured --config.set=runs/edm_set \
    --config.extractor.path=runs/real
  jaxmoust measure --config=configs/measure/cifar10.py:clip --workdir=runs/measured --config.set=runs/edm_set \
    --config.extractor.path=clip-vit-large-patch14-336

The extractor is a classifier that `train` left, a pre-trained ViT's file, the folder of a CLIP, or the weights of FID's
Inception as .safetensors or .npz. The data are those that the generator was trained on: copies can be found among these
only, and where the set says that it was trained on others, only fidelity is measured. (The accuracy of a classifier
trained on synthetic images alone, CAS, is the Top-1 of an arm with share 1 in a study.)
"""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import fidelity
from jaxmoust.analysis.memorisation import Memorisation, memorisation
from jaxmoust.analysis.nearest_neighbours import nearest
from jaxmoust.config import Config, Field
from jaxmoust.data.loading import loader
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.real import RealData
from jaxmoust.data.source import Source
from jaxmoust.data.splits.base_set import base_keys
from jaxmoust.jobs.parts.classifier import check_classes, learnt_from_synthetic, open_classifier, to_time
from jaxmoust.jobs.parts.inputs import Output
from jaxmoust.jobs.parts.job import Job
from jaxmoust.jobs.parts.streams import (
    Form,
    base_size,
    evaluation_batch_size,
    evaluation_stream,
    prepared_form,
    seconds_an_image,
)
from jaxmoust.report.contact_sheet import pair_sheet
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.paths import atomic_write
from jaxmoust.train import features
from jaxmoust.train.predict import NonFiniteRows

CLASSIFIER = "classifier"
EXTRACTORS = (CLASSIFIER, *features.EXTRACTORS)

# Pixels are compared at no more than this side: nearest neighbours do not want more, and memory does not have it.
TRIED = 256  # images, of a trial, that are compared with each other
PIXELS_PX = 32
NUM_SHOWN = 8  # of each class, as many as a page shows
# What is compared with the training images; the second gives the floor.
COMPARED = ("synthetic", "heldout")


class Measure(Job):
    """Measures fidelity and memorisation of a synthetic set.

    Three sets are compared by one extractor's features: real training images, the synthetic ones, and the test images.
    Metrics depend on how many images there are: where the synthetic ones are more than the n_floor test images,
    NAME_alike[EXTRACTOR] is that of n_floor of them, stratified.
    """

    sections = {
        "set": Field("", str, "the folder of the synthetic set"),
        "extractor": {
            "name": Field(CLASSIFIER, Literal[EXTRACTORS], "what reads the images' features"),
            "path": Field("", str, "its folder or file"),
            "num_heads": Field(0, int, "attention heads of a vit; 0: as its file or the config.json beside it says"),
        },
        "data": build.DATA,
        "num_images": Field(0, int, "of the synthetic and of the test images, at most so many each; 0 is all"),
        "num_pairs": Field(16, int, "the closest pairs that are kept as pictures"),
        "flips": Field(True, bool, "look for mirrored copies, too"),
        "eval": build.EVAL,
    }
    images = ("base", "test")
    refers = ("set", "extractor.path")

    def check(self) -> None:
        """Opens the sets' labels; refuses sets that are too small to have nearest neighbours."""
        config = self.config
        if not config["extractor"]["path"] or not config["set"]:
            raise ValueError(
                "config.extractor.path or config.set is empty: give the folder or file of the extractor and the folder "
                "of a synthetic set, --config.extractor.path=PATH --config.set=DIR."
            )
        self.heads = {"num_heads": config["extractor"]["num_heads"]} if config["extractor"]["num_heads"] else {}
        if self.heads and config["extractor"]["name"] != "vit":
            raise ValueError("config.extractor.num_heads is of a vit alone: set it to 0.")
        if config["num_images"] < 0 or config["num_pairs"] < 1:
            raise ValueError(
                f"config.num_images {config['num_images']}, config.num_pairs {config['num_pairs']}: expected from 0 "
                "(all), and from 1."
            )
        evaluation_batch_size(config, self.machine)
        self.real = real = self.inputs.real(config["data"])
        self.synthetic, cap = self.inputs.synthetic(config["set"], real.base), config["num_images"]
        base = real.base.subset(np.arange(base_size(real)))  # each image once, however often it counts in training
        self.sets = {"train": base, "synthetic": _some(self.synthetic, cap), "heldout": _some(real.test, cap)}
        for name, source in self.sets.items():
            if len(source) <= fidelity.NEAREST_DENSITY:
                raise ValueError(
                    f"The {name} images are {len(source)}, expected more than {fidelity.NEAREST_DENSITY}, whose "
                    "nearest neighbours are asked for. Give more."
                )
        self.output: Output | None = None
        if config["extractor"]["name"] == CLASSIFIER:
            self.output = self.inputs.output(config["extractor"]["path"], "classify", "train")
            check_classes(self.output, self.synthetic)

    def open(self) -> None:
        """Opens the extractor and the streams as it wants to see them.

        A classifier sees images as it is evaluated on them; the others see them prepared as their files say, from the
        size of the data section: real images and synthetic ones have then lost the same.
        """
        real, config = self.real, self.config
        first = Resize(real.shape[0], real.shape[2], crop_fraction=real.test_crop)
        where = (real.decoded, real.map_dir)
        form, self.shape = Form(real.shape, first, *where), real.shape
        if self.output:
            one = open_classifier(self.output, self.synthetic)
            name = "classifier" if learnt_from_synthetic(one.result) else "real_classifier"
            self.extractor = features.of_classifier(one.task, one.state, name)
            form, self.shape = one.form, one.shape
        else:
            make = features.EXTRACTORS[config["extractor"]["name"]]
            self.extractor = make(self.inputs.path(config["extractor"]["path"]), **self.heads)
            if how := self.extractor.preprocessing:
                form = prepared_form(how, first, *where)
        self.streams = {
            name: evaluation_stream(source, form, config, self.machine) for name, source in self.sets.items()
        }
        self.side = min(real.shape[0], PIXELS_PX)
        self.pixels = {name: _pixel_stream(source, self.side, real, config) for name, source in self.sets.items()}
        self.elsewhere = self._from_elsewhere

    @property
    def _from_elsewhere(self) -> bool:
        """Whether the generator is known to have learnt from other images than these."""
        return self.inputs.learnt_from(self.config["set"]) not in ("", self.real.base.digest)

    def run(self, folder: RunFolder) -> dict[str, Any]:
        """Measures in pixels, then in the extractor's features; what is known so far is written as it is known."""
        started, sets, pixels, extractor = time.monotonic(), self.sets, self.pixels, self.extractor
        memorised: dict[str, Memorisation] = {}
        summaries: dict[str, dict] = {}

        def of_both(read: Callable[[str], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            return read("synthetic"), read("heldout")

        def remember(space: str, vectors: dict, read: Callable, data: dict) -> None:
            """Measures memorisation in a space, and writes what is known so far."""
            memorised[space] = memorisation(
                **vectors,
                labels=of_both(lambda name: sets[name].labels),
                mirrored=of_both(lambda name: read(data[name], mirrored=True)) if self.config["flips"] else None,
            )
            summaries[space] = memorised[space].summary(self.synthetic.class_names)
            if self.machine.primary:
                atomic_write(folder.path / "memorisation.json", json.dumps(summaries, indent=2))
                _write_pairs(folder.path, memorised, sets, self.real, self.config["num_pairs"], self._shown())

        if not self.elsewhere:
            in_pixels = {name: _read_pixels(pixels[name]) for name in sets}
            remember(f"pixels-{self.side}px", in_pixels, _read_pixels, pixels)
        try:
            extract = features.make_extract(extractor, self.machine)
            vectors = {name: extract(self.streams[name]) for name in sets}
            if not self.elsewhere:
                remember(extractor.name, vectors, extract, self.streams)
        except NonFiniteRows as e:
            known = "" if self.elsewhere else f" What was measured in pixels is in {folder.path}/memorisation.json."
            raise NonFiniteRows(f"{e}{known}") from e
        n_floor = min(len(sets[name]) for name in COMPARED)
        return {
            "n": len(sets["synthetic"]),
            "n_train": len(sets["train"]),
            "n_test": len(sets["heldout"]),
            "n_floor": n_floor,
            "extractor": extractor.name,
            "class_names": self.synthetic.class_names,
            **dict(_fidelity(extractor.name, vectors, sets, n_floor)),
            **{k: v for space, summary in summaries.items() for k, v in _copying(space, summary)},
            "image_shape": self.shape,
            "own_shapes": {name: source.shape for name, source in sets.items()},
            "notes": " ".join(self._notes()),
            "set_digest": self.synthetic.digest,
            "data_digest": self.real.base.digest,
            "seconds": time.monotonic() - started,
        }

    def _shown(self) -> np.ndarray:
        """Which of the measured synthetic images are among the first of their class, which a page shows; by class."""
        labels, num = self.synthetic.labels, self.config["num_images"]
        first = np.concatenate([np.flatnonzero(labels == k)[:NUM_SHOWN] for k in np.unique(labels)])
        keys = _keys(self.synthetic, num) if 0 < num < len(labels) else np.arange(len(labels))
        return np.searchsorted(keys, first[np.isin(first, keys)])

    def _notes(self) -> Iterator[str]:
        if note := _resampled(self.synthetic, self.real.base, self.shape):
            yield note
        if self.elsewhere:
            yield (
                "The generator learnt from other images than these: whether it copied them is not measured. Give the "
                "data section of its own configuration for that."
            )

    def calibrate(self) -> float:
        """By features of a batch of black images, and by some of the pairs that are compared in pixels."""
        config, shape = self.config, self.real.shape
        if self.output:
            one = to_time(self.output)
            extractor, shape = features.of_classifier(one.task, one.state), one.form.shape
        else:
            make = features.EXTRACTORS[config["extractor"]["name"]]
            extractor = make(self.inputs.path(config["extractor"]["path"]), **self.heads)
            shape = prepared_form(how).shape if (how := extractor.preprocessing) else shape
        each = seconds_an_image(features.make_extract(extractor, self.machine), shape, config, self.machine)
        sizes = {name: len(source) for name, source in self.sets.items()}
        pairs = sizes["train"] * (sizes["synthetic"] + sizes["heldout"]) * (1 + config["flips"])
        rng, side = np.random.default_rng(0), min(self.real.shape[0], PIXELS_PX)
        some = rng.random((TRIED, side * side * self.real.shape[2]), np.float32)
        started = time.monotonic()
        nearest(some, some)
        compared = (time.monotonic() - started) * pairs / TRIED**2
        return each * sum(sizes.values()) + (0.0 if self._from_elsewhere else compared)

    @staticmethod
    def work(config: Config, size_of: Callable[[str], int]) -> float:
        """Images of the set that are measured."""
        return float(config["num_images"] or size_of(config["set"]))


JOB = Measure


def _fidelity(
    of: str, vectors: dict[str, np.ndarray], sets: dict[str, Source], n_floor: int
) -> Iterator[tuple[str, float]]:
    """Every metric of all synthetic images, its floor of n_floor test images, and that of as many synthetic ones."""
    train, alike = vectors["train"], {name: _keys(sets[name], n_floor) for name in COMPARED}
    found = {"": fidelity.measure(train, vectors["synthetic"])}
    found["_floor"] = fidelity.measure(train, vectors["heldout"][alike["heldout"]])
    if n_floor < len(sets["synthetic"]):
        found["_alike"] = fidelity.measure(train, vectors["synthetic"][alike["synthetic"]])
    for name in found[""]:
        yield from ((f"{name}{kind}[{of}]", figures[name]) for kind, figures in found.items())


def _resampled(synthetic: Source, base: Source, shape: tuple[int, int, int]) -> str:
    """Says that synthetic images are brought to another size than they have, where real ones are not likewise."""
    if synthetic.shape == base.shape or synthetic.shape == shape:
        return ""
    own, seen = ("x".join(map(str, size)) if size else "of several sizes" for size in (synthetic.shape, shape))
    return (
        f"The synthetic images are {own} and were brought to {seen}, as the extractor sees real ones: what resampling "
        "(and, of images that are not square, cropping) changes counts as a difference."
    )


def _some(source: Source, num_images: int) -> Source:
    """So many images of a set, of each class in proportion; all of them for 0."""
    return source.subset(_keys(source, num_images)) if 0 < num_images < len(source) else source


def _keys(source: Source, num_images: int) -> np.ndarray:
    """The keys of so many images of a set, of each class in proportion."""
    return np.sort(base_keys(source.labels, num_images, seed=0))


def _pixel_stream(source: Source, side: int, real: RealData, config: Config) -> loader.EvalStream:
    """All images of a source, in every process, at a side; read once, so not held decoded."""
    return loader.eval_stream(
        source,
        config["eval"]["batch_size"],
        image_px=side,
        channels=real.shape[2],
        decoded="none",
        transform=Resize(side, real.shape[2], crop_fraction=real.test_crop),
    )


def _read_pixels(data: loader.EvalStream, mirrored: bool = False) -> np.ndarray:
    """Pixels as vectors, float32 [N, H W C] in [0, 1]."""
    images = np.concatenate([batch["image"][batch["mask"] > 0] for batch in data])
    images = images[:, :, ::-1] if mirrored else images
    return images.reshape(len(images), -1).astype(np.float32) / 255


def _copying(of: str, summary: dict) -> Iterator[tuple[str, float]]:
    """Memorisation as a page shows it, and what it would be for a generator that does not copy."""
    yield f"suspicious[{of}]", summary["share_suspicious"]
    yield f"suspicious_floor[{of}]", summary["share_expected"]
    yield f"closer[{of}]", summary["closer"]
    yield f"closer_floor[{of}]", 0.5


def _write_pairs(
    folder: Path,
    memorised: dict[str, Memorisation],
    sets: dict[str, Source],
    real: RealData,
    num_pairs: int,
    shown: np.ndarray,
) -> None:
    """Writes ratios.npz, all of them; the closest pairs as pairs.npz and a picture; those of `shown` as shown.npz."""
    resize = Resize(real.shape[0], real.shape[2], crop_fraction=real.test_crop)
    arrays: dict[str, dict[str, Any]] = {"ratios": {}, "pairs": {}, "shown": {}}
    blocks = []
    for space, found in memorised.items():
        arrays["ratios"] |= {f"{space}/synthetic": found.ratio, f"{space}/heldout": found.heldout_ratio}
        for file, index in (("pairs", found.closest(num_pairs)), ("shown", shown)):
            keys = {"synthetic": index, "train": found.nearest[index]}
            images = {name: np.stack([resize.map(sets[name].read(i)) for i in of]) for name, of in keys.items()}
            labels = {f"{name}_label": sets[name].labels[of] for name, of in keys.items()}
            indices = {f"{name}_index": of for name, of in keys.items()}
            table = {**images, **labels, **indices, "ratio": found.ratio[index]}
            arrays[file] |= {f"{space}/{name}": array for name, array in table.items()}
            if file == "pairs":
                captions = [f"{ratio:.3f}" for ratio in found.ratio[index]]
                title = f"{space}: synthetic | nearest training image; distance over that of a held-out image"
                blocks.append((title, images["synthetic"], images["train"], captions))
    for file, of_spaces in arrays.items():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **of_spaces)
        atomic_write(folder / f"{file}.npz", buffer.getvalue())
    buffer = io.BytesIO()
    pair_sheet(blocks).save(buffer, "PNG")
    atomic_write(folder / "pairs.png", buffer.getvalue())
