"""The job on a generator from outside: `sample` writes a set with Stable Diffusion, from text or from real images."""

import time
from pathlib import Path

import jax.numpy as jnp

from jaxmoust import build
from jaxmoust.build import Config
from jaxmoust.data import synthetic
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


def sample_external(config: Config, resolve: Resolve = Path) -> Work:
    """Writes a synthetic set of a data set's classes and size with Stable Diffusion (verb `sample`).

    Raises: ValueError: what does not fit together, before anything is drawn.
    """
    # Here, as diffusers and transformers take seconds to import, which no other job should pay.
    from jaxmoust.generate import text_to_image

    build.check_sections(config, TEXT_TO_IMAGE_SECTIONS, "text_to_image")
    parallel.check_seed(config["seed"])
    machine, everyone = parallel.Machine.local(), parallel.Machine.all()
    real = open_real_data(config["data"])
    class_names = real.base.class_names
    words = dict(config["prompts"])
    negative = words.pop("negative", "")
    asked = build.unpack("prompts", prompts.read, words, class_names=class_names)
    loaded = build.unpack("pipeline", _load, config["pipeline"], resolve=resolve)
    given = {"prompts": asked, "negative": negative}
    section = {**config["sample"], "image_px": config["sample"]["image_px"] or loaded.pipeline.image_px}
    request = build.unpack("sample", text_to_image.Request, section, **given)
    if request.strength < 1 and not config["from_real"]:
        raise ValueError(
            f"sample.strength {request.strength} needs images to start from: set from_real=True, or strength=1.0."
        )
    loaded.pipeline.latent_shape(request.image_px)
    loaded.pipeline.tokenize([negative, *(prompt for some in asked for prompt in some)])
    spec = synthetic.SyntheticSpec(
        name=config["name"] or "stable_diffusion",
        class_names=class_names,
        shape=real.shape,
        num_images=config["num_images"],
        shard_images=config["shard_images"],
        seed=config["seed"],
        generator=text_to_image.digest(loaded),
        guidance=request.guidance,
        steps=request.num_kept,
        prompts=tuple(some[0] for some in asked) if all(len(some) == 1 for some in asked) else (),
        created_by={
            **section,
            "prompts": asked,
            "negative": negative,
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
            "n_base": 0,
            "class_names": spec.class_names,
            "seconds": time.monotonic() - started,
        }

    return work


def _load(path: str, resolve: Resolve, revision: str = "", variant: str = "", dtype: str = "float32"):
    """Loads the pipeline that a configuration names."""
    from jaxmoust.models import stable_diffusion

    if not path:
        raise ValueError(
            "config.pipeline.path is empty: give a folder in diffusers' layout, or OWNER/MODEL on the Hugging Face hub."
        )
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"config.pipeline.dtype {dtype!r}: allowed are 'float32', 'bfloat16' and 'float16'.")
    here = resolve(path)
    return stable_diffusion.load(str(here) if here.is_dir() else path, revision, variant, jnp.dtype(dtype))
