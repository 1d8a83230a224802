"""The job `measure`: how close a synthetic set is to the real images, and whether its generator copied them.

Three sets are compared by one extractor's features: real training images, the synthetic ones, and the test images.
Every figure of the synthetic set stands beside its floor, the same of as many test images. Whether the generator copied
can be told of the images that it learnt from alone: where the set says that these were others, only fidelity is
measured.
"""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import fidelity
from jaxmoust.analysis.memorisation import Memorisation, memorisation
from jaxmoust.build import Config, RealData
from jaxmoust.data.loading import loader
from jaxmoust.data.loading.transforms import Resize
from jaxmoust.data.source import Source
from jaxmoust.data.sources import registry as sources
from jaxmoust.jobs.classifiers import SET_FIELDS, learnt_from_synthetic, open_classifier
from jaxmoust.jobs.job import Resolve, Work, base_size, evaluation_batch_size, evaluation_stream, open_real_data
from jaxmoust.report.contact_sheet import pair_sheet
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.paths import atomic_write, read_json
from jaxmoust.train import features
from jaxmoust.train.predict import NonFiniteRows

MEASURE_SECTIONS = ("task", "set", "extractor", "data", "eval", "num_images", "num_pairs", "flips")
CLASSIFIER = "classifier"
EXTRACTORS = (CLASSIFIER, *features.EXTRACTORS)

# Pixels are compared at no more than this side: nearest neighbours do not want more, and memory does not have it.
PIXELS_PX = 32
# What is held against the training images; the second gives the floor.
JUDGED = ("synthetic", "heldout")


def measure(config: Config, resolve: Resolve = Path) -> Work:
    """Measures fidelity and memorisation of a synthetic set (verb `measure`).

    Leaves result.json with every metric of all synthetic images, NAME[EXTRACTOR], and its floor, NAME_floor[EXTRACTOR]:
    the metric of n_floor test images. Metrics depend on how many images there are: where the synthetic ones are more,
    NAME_alike[EXTRACTOR] is that of n_floor of them, stratified. And memorisation.json; ratios.npz with every image's
    distance ratio; pairs.npz and pairs.png with the closest pairs.
    """
    machine = parallel.Machine.all()
    real = plan_measure(config, machine)
    made, cap = build.open_set(resolve(config["set"]), real.base), config["num_images"]
    base = real.base.subset(np.arange(base_size(real)))  # each image once, however often it counts in training
    sets = {"train": base, "synthetic": _some(made, cap), "heldout": _some(real.test, cap)}
    for name, source in sets.items():
        if len(source) <= fidelity.NEAREST_DENSITY:
            raise ValueError(
                f"The {name} images are {len(source)}; allowed are more than {fidelity.NEAREST_DENSITY}, whose nearest "
                "neighbours are asked for. Give more."
            )
    extractor, shape, stream = _open_extractor(config, resolve, real, made, machine)
    streams = {name: stream(source) for name, source in sets.items()}
    side = min(real.shape[0], PIXELS_PX)
    pixels = {name: _pixel_stream(source, side, real, config) for name, source in sets.items()}
    learnt = (read_json(resolve(config["set"]) / "result.json") or {}).get("data_digest", "")
    elsewhere = learnt not in ("", real.base.digest)
    notes = [_resampled(made, real.base, shape)]
    if elsewhere:
        notes.append(
            "The generator learnt from other images than these: whether it copied them is not measured. Give the data "
            "section of its own configuration for that."
        )
    notes = [note for note in notes if note]

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        memorised: dict[str, Memorisation] = {}
        summaries: dict[str, dict] = {}

        def remember(space: str, vectors: dict, read: Callable, data: dict) -> None:
            """Measures memorisation in a space, and writes what is known so far."""
            memorised[space] = memorisation(
                **vectors,
                labels=tuple(sets[name].labels for name in JUDGED),
                mirrored=tuple(read(data[name], mirrored=True) for name in JUDGED) if config["flips"] else None,
            )
            summaries[space] = memorised[space].summary(made.class_names)
            if machine.primary:
                atomic_write(folder.path / "memorisation.json", json.dumps(summaries, indent=2))
                _write_pairs(folder.path, memorised, sets, real, config["num_pairs"])

        if not elsewhere:
            in_pixels = {name: _read_pixels(pixels[name]) for name in sets}
            remember(f"pixels-{side}px", in_pixels, _read_pixels, pixels)
        try:
            extract = features.make_extract(extractor, machine)
            vectors = {name: extract(streams[name]) for name in sets}
            if not elsewhere:
                remember(extractor.name, vectors, extract, streams)
        except NonFiniteRows as e:
            known = "" if elsewhere else f" What was measured in pixels is in {folder.path}/memorisation.json."
            raise NonFiniteRows(f"{e}{known}") from e
        n_floor = min(len(sets[name]) for name in JUDGED)
        return {
            "n": len(sets["synthetic"]),
            "n_train": len(base),
            "n_test": len(sets["heldout"]),
            "n_floor": n_floor,
            "extractor": extractor.name,
            "class_names": made.class_names,
            **dict(_fidelity(extractor.name, vectors, sets, n_floor)),
            **{k: v for space, summary in summaries.items() for k, v in _copying(space, summary)},
            "image_shape": shape,
            "own_shapes": {name: source.shape for name, source in sets.items()},
            "notes": " ".join(notes),
            "set_digest": made.digest,
            "data_digest": real.base.digest,
            "seconds": time.monotonic() - started,
        }

    return work


def _fidelity(
    of: str, vectors: dict[str, np.ndarray], sets: dict[str, Source], n_floor: int
) -> Iterator[tuple[str, float]]:
    """Every metric of all synthetic images, its floor of n_floor test images, and that of as many synthetic ones."""
    train, alike = vectors["train"], {name: _keys(sets[name], n_floor) for name in JUDGED}
    found = {"": fidelity.measure(train, vectors["synthetic"])}
    found["_floor"] = fidelity.measure(train, vectors["heldout"][alike["heldout"]])
    if n_floor < len(sets["synthetic"]):
        found["_alike"] = fidelity.measure(train, vectors["synthetic"][alike["synthetic"]])
    for name in found[""]:
        yield from ((f"{name}{kind}[{of}]", figures[name]) for kind, figures in found.items())


def _resampled(made: Source, base: Source, shape: tuple[int, int, int]) -> str:
    """Says that synthetic images are brought to another size than they have, where real ones are not likewise."""
    if made.shape == base.shape or made.shape == shape:
        return ""
    own, seen = ("x".join(map(str, size)) if size else "of several sizes" for size in (made.shape, shape))
    return (
        f"The synthetic images are {own} and were brought to {seen}, as the extractor sees real ones: what resampling "
        "(and, of images that are not square, cropping) changes counts as a difference."
    )


def plan_measure(
    config: Config, machine: parallel.Machine, open_real: Callable[[Config], RealData] | None = None
) -> RealData:
    """Opens the real images; refuses a configuration that could not run, whatever extractor and set it names."""
    build.check_sections(config, MEASURE_SECTIONS, "measure")
    _, fields = build.choose("extractor", dict.fromkeys(EXTRACTORS), config["extractor"])
    path = build.unpack("extractor", lambda path: path, fields)
    if not path or not config["set"]:
        raise ValueError(
            "config.extractor.path or config.set is empty: give the folder or file of the extractor and the folder of "
            "a synthetic set, --config.extractor.path=PATH --config.set=DIR."
        )
    if config["num_images"] < 0 or config["num_pairs"] < 1:
        raise ValueError(
            f"config.num_images {config['num_images']}, config.num_pairs {config['num_pairs']}: allowed are from 0 "
            "(all), and from 1."
        )
    evaluation_batch_size(config, machine)
    return (open_real or open_real_data)({k: v for k, v in config["data"].items() if k not in SET_FIELDS})


def _open_extractor(
    config: Config, resolve: Resolve, real: RealData, made: Source, machine: parallel.Machine
) -> tuple[features.Extractor, tuple[int, int, int], Callable[[Source], loader.EvalStream]]:
    """Opens the extractor, and returns it with the shape that it sees, and what opens a source as it wants to see it.

    A classifier sees images as it is judged on them; the others see them at the size of the data section, resampled:
    real images and synthetic ones have then lost the same.
    """
    name, path = config["extractor"]["name"], config["extractor"]["path"]
    shape, held = real.shape, (real.decoded, real.map_dir, real.test_crop)
    if name == CLASSIFIER:
        task, state, shape, held, done = open_classifier(resolve(path), made)
        extractor = features.of_classifier(
            task, state, "classifier" if learnt_from_synthetic(done) else "real_classifier"
        )
    else:
        here = resolve(path).expanduser()
        extractor = features.EXTRACTORS[name](here if here.exists() else Path(path).expanduser())
    return extractor, shape, lambda source: evaluation_stream(source, shape, config, machine, *held)


def _some(source: Source, num_images: int) -> Source:
    """So many images of a set, of each class in proportion; all of them for 0."""
    return source.subset(_keys(source, num_images)) if 0 < num_images < len(source) else source


def _keys(source: Source, num_images: int) -> np.ndarray:
    """The keys of so many images of a set, of each class in proportion."""
    return np.sort(sources.base_keys(source.labels, num_images, seed=0))


def _pixel_stream(source: Source, side: int, real: RealData, config: Config) -> loader.EvalStream:
    """All images of a source, in every process, at a side; read once, so not held decoded."""
    return loader.eval_stream(
        source,
        config["eval"]["batch_size"],
        image_px=side,
        channels=real.shape[2],
        decoded="none",
        crop_fraction=real.test_crop,
    )


def _read_pixels(data: loader.EvalStream, mirrored: bool = False) -> np.ndarray:
    """Pixels as vectors, float32 [N, H W C] in [0, 1]."""
    images = np.concatenate([batch["image"][batch["mask"] > 0] for batch in data])
    images = images[:, :, ::-1] if mirrored else images
    return images.reshape(len(images), -1).astype(np.float32) / 255


def _copying(of: str, summary: dict) -> Iterator[tuple[str, float]]:
    """What a page shows of memorisation, and what it would be of a generator that does not copy."""
    yield f"suspicious[{of}]", summary["share_suspicious"]
    yield f"suspicious_floor[{of}]", summary["share_expected"]
    yield f"closer[{of}]", summary["closer"]
    yield f"closer_floor[{of}]", 0.5


def _write_pairs(
    folder: Path, memorised: dict[str, Memorisation], sets: dict[str, Source], real: RealData, num_pairs: int
) -> None:
    """Writes ratios.npz, all of them, and the closest pairs as pairs.npz and as a picture."""
    resize = Resize(real.shape[0], real.shape[2], crop_fraction=real.test_crop)
    ratios, pairs, blocks = {}, {}, []
    for space, found in memorised.items():
        ratios |= {f"{space}/synthetic": found.ratio, f"{space}/heldout": found.heldout_ratio}
        index = found.closest(num_pairs)
        keys = {"synthetic": index, "train": found.nearest[index]}
        images = {name: np.stack([resize.map(sets[name].read(i)) for i in of]) for name, of in keys.items()}
        labels = {f"{name}_label": sets[name].labels[of] for name, of in keys.items()}
        table = {**images, **labels, **{f"{name}_index": of for name, of in keys.items()}, "ratio": found.ratio[index]}
        pairs |= {f"{space}/{name}": array for name, array in table.items()}
        captions = [f"{ratio:.3f}" for ratio in found.ratio[index]]
        title = f"{space}: synthetic | nearest training image; distance over that of a held-out image"
        blocks.append((title, images["synthetic"], images["train"], captions))
    for name, arrays in (("ratios", ratios), ("pairs", pairs)):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        atomic_write(folder / f"{name}.npz", buffer.getvalue())
    buffer = io.BytesIO()
    pair_sheet(blocks).save(buffer, "PNG")
    atomic_write(folder / "pairs.png", buffer.getvalue())
