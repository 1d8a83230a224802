"""The job `measure`: how close a synthetic set is to the real images, and whether its generator copied them.

Three sets are compared by one extractor's features: the images that the generator learnt from, the synthetic ones,
and the test images. Every figure of the synthetic set stands beside its floor, the same of the test images.
"""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxmoust import build
from jaxmoust.analysis import fidelity
from jaxmoust.analysis.memorisation import Memorisation, memorisation
from jaxmoust.build import Config, RealData
from jaxmoust.data import loader, sources
from jaxmoust.data.pictures import pair_sheet
from jaxmoust.data.source import Source
from jaxmoust.data.transforms import Resize
from jaxmoust.jobs.classifiers import SET_FIELDS, learnt_from_synthetic, open_classifier
from jaxmoust.jobs.job import Resolve, Work, base_size, evaluation_batch_size, evaluation_stream, open_real_data
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder, atomic_write
from jaxmoust.train import features

MEASURE_SECTIONS = ("task", "set", "extractor", "data", "eval", "num_images", "num_pairs", "flips")
CLASSIFIER = "classifier"
EXTRACTORS = (CLASSIFIER, *features.EXTRACTORS)

# Pixels are compared at no more than this side: nearest neighbours do not want more, and memory does not have it.
PIXELS_PX = 32
# What is held against the training images; the second gives the floor.
JUDGED = ("synthetic", "heldout")


def measure(config: Config, resolve: Resolve = Path) -> Work:
    """Measures fidelity and memorisation of a synthetic set (verb `measure`).

    Leaves result.json with every metric, NAME[EXTRACTOR], and its floor, NAME_floor[EXTRACTOR]; memorisation.json;
    ratios.npz with every image's distance ratio; pairs.npz and pairs.png with the closest pairs.
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
    extractor, stream = _open_extractor(config, resolve, real, made, machine)
    streams = {name: stream(source) for name, source in sets.items()}
    side = min(real.shape[0], PIXELS_PX)
    pixels = {name: _pixel_stream(source, side, real, config) for name, source in sets.items()}

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        extract = features.make_extract(extractor, machine)
        memorised, vectors = {}, {}
        for space, read, data in ((f"pixels-{side}px", _read_pixels, pixels), (extractor.name, extract, streams)):
            vectors = {name: read(data[name]) for name in sets}
            memorised[space] = memorisation(
                **vectors,
                labels=tuple(sets[name].labels for name in JUDGED),
                mirrored=tuple(read(data[name], mirrored=True) for name in JUDGED) if config["flips"] else None,
            )
        found, floor = (fidelity.measure(vectors["train"], vectors[name]) for name in JUDGED)
        summaries = {space: each.summary(made.class_names) for space, each in memorised.items()}
        if machine.primary:
            atomic_write(folder.path / "memorisation.json", json.dumps(summaries, indent=2))
            _write_pairs(folder.path, memorised, sets, real, config["num_pairs"])
        return {
            "n": len(sets["synthetic"]),
            "n_train": len(base),
            "n_test": len(sets["heldout"]),
            "extractor": extractor.name,
            "class_names": made.class_names,
            **_named(extractor.name, found, floor),
            **{k: v for space, summary in summaries.items() for k, v in _named(space, *_copying(summary)).items()},
            "set_digest": made.digest,
            "data_digest": real.base.digest,
            "seconds": time.monotonic() - started,
        }

    return work


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
) -> tuple[features.Extractor, Callable[[Source], loader.EvalStream]]:
    """Opens the extractor, and returns it with what opens a source as it wants to see it.

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
    return extractor, lambda source: evaluation_stream(source, shape, config, machine, *held)


def _some(source: Source, num_images: int) -> Source:
    """So many images of a set, of each class in proportion; all of them for 0."""
    if not 0 < num_images < len(source):
        return source
    return source.subset(np.sort(sources.base_keys(source.labels, num_images, seed=0)))


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


def _named(of: str, found: dict[str, float], floor: dict[str, float]) -> dict[str, float]:
    """NAME[OF] and NAME_floor[OF] of each metric."""
    pairs = ((f"{name}[{of}]", value, f"{name}_floor[{of}]", floor[name]) for name, value in found.items())
    return {key: value for a, x, b, y in pairs for key, value in ((a, x), (b, y))}


def _copying(summary: dict) -> tuple[dict[str, float], dict[str, float]]:
    """What a page shows of memorisation, and what it would be of a generator that does not copy."""
    found = {"suspicious": summary["share_suspicious"], "closer": summary["closer"]}
    return found, {"suspicious": summary["share_expected"], "closer": 0.5}


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
