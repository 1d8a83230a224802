"""Jobs on a generator from outside: `sample` writes a set with Stable Diffusion, `merge` what was learnt of it."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxmoust import build
from jaxmoust.build import Config, RealData
from jaxmoust.data.synthetic import store as synthetic
from jaxmoust.generate import prompts
from jaxmoust.jobs.job import Resolve, Work, open_real_data
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder, environment

TEXT_TO_IMAGE_SECTIONS = (
    "seed",
    "task",
    "pipeline",
    "data",
    "prompts",
    "name",
    "num_images",
    "shard_images",
    "from_real",
    "sample",
)
MERGE_SECTIONS = ("task", "pipeline", "dtype")


def sample_external(config: Config, resolve: Resolve = Path) -> Work:
    """Writes a synthetic set of a data set's classes and size with Stable Diffusion (verb `sample`).

    Raises: ValueError: what does not fit together, before anything is drawn.
    """
    # Here, as diffusers and transformers take seconds to import, which no other job should pay.
    from jaxmoust.generate import text_to_image
    from jaxmoust.jobs import pipelines

    build.check_sections(config, TEXT_TO_IMAGE_SECTIONS, "text_to_image")
    machine, everyone = parallel.Machine.local(), parallel.Machine.all()
    loaded = pipelines.open_pipeline(config["pipeline"], resolve)
    tuned = pipelines.tuned(config["pipeline"]["path"], resolve)
    real, request = plan_external(config, loaded, tuned.get("words", {}))
    spec = synthetic.SyntheticSpec(
        name=config["name"] or "stable_diffusion",
        class_names=real.base.class_names,
        shape=real.shape,
        num_images=config["num_images"],
        shard_images=config["shard_images"],
        seed=config["seed"],
        generator=text_to_image.digest(loaded),
        guidance=request.guidance,
        steps=request.num_kept,
        prompts=tuple(some[0] for some in request.prompts) if all(len(some) == 1 for some in request.prompts) else (),
        created_by={
            **config["sample"],
            "image_px": request.image_px,
            "prompts": request.prompts,
            "negative": request.negative,
            "from_real": real.base.digest if config["from_real"] else "",
        },
    )

    def work(folder: RunFolder) -> dict:
        started = time.monotonic()
        text_to_image.write_set(
            loaded,
            request,
            spec,
            folder.path,
            machine,
            everyone.process_index,
            everyone.process_count,
            environment()["packages"],
            start_from=real.base if config["from_real"] else None,
        )
        everyone.barrier("sampled")
        return {
            "n": spec.num_images,
            "generator": spec.generator,
            "method": "stable_diffusion",
            "n_base": tuned.get("n_base", 0),
            "data_digest": tuned.get("data_digest", ""),
            "class_names": spec.class_names,
            "seconds": time.monotonic() - started,
        }

    return work


def plan_external(
    config: Config,
    loaded: Any,
    words: dict[str, str],
    open_real: Callable[[Config], RealData] = open_real_data,
) -> tuple[RealData, Any]:
    """Reads what a configuration asks of a pipeline: (the real images that say classes and size, the request).

    Args:
        loaded: a `stable_diffusion.Loaded`. words: class -> what the pipeline has learnt to call it.
    Raises: ValueError: what does not fit together.
    """
    from jaxmoust.generate import text_to_image

    parallel.check_seed(config["seed"])
    real = open_real(config["data"])
    given = dict(config["prompts"])
    negative = given.pop("negative", "")
    class_names = real.base.class_names
    asked = build.unpack("prompts", prompts.read, given, class_names=class_names, words=words or None)
    section = {**config["sample"], "image_px": config["sample"]["image_px"] or loaded.pipeline.image_px}
    request = build.unpack("sample", text_to_image.Request, section, prompts=asked, negative=negative)
    if request.strength < 1 and not config["from_real"]:
        raise ValueError(
            f"sample.strength {request.strength} needs images to start from: set from_real=True, or strength=1.0."
        )
    loaded.pipeline.latent_shape(request.image_px)
    loaded.pipeline.tokenize([negative, *(prompt for some in asked for prompt in some)])
    return real, request


def merge(config: Config, resolve: Resolve = Path) -> Work:
    """Writes a pipeline with everything that was learnt in it as a plain folder, pipeline/ (verb `merge`)."""
    from jaxmoust.generate import text_to_image
    from jaxmoust.jobs import pipelines
    from jaxmoust.models import stable_diffusion

    build.check_sections(config, MERGE_SECTIONS, "merge")
    if config["dtype"] not in pipelines.DTYPES:
        raise ValueError(f"config.dtype {config['dtype']!r}: allowed are {', '.join(pipelines.DTYPES)}.")
    loaded = pipelines.open_pipeline(config["pipeline"], resolve)

    def work(folder: RunFolder) -> dict:
        started, target = time.monotonic(), folder.path / pipelines.PIPELINE
        if parallel.Machine.all().primary:
            shutil.rmtree(target, ignore_errors=True)  # of a call that was cut off
            stable_diffusion.save(loaded, target, jnp.dtype(config["dtype"]))
        return {"generator": text_to_image.digest(loaded), "seconds": time.monotonic() - started}

    return work
