"""Opens what the section `pipeline` of a configuration names, and leaves what was learnt of one in a folder.

A pipeline is one of the hub or of a folder in diffusers' layout; or the folder of a fine-tuning run, which holds either
a whole pipeline/ or, on top of the one it started from, tokens/ and lora.safetensors.
"""

import functools
import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmoust import build
from jaxmoust.build import Config
from jaxmoust.jobs.job import TUNING_TASKS, Resolve, finished
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import Loaded
from jaxmoust.models.stable_diffusion import lora as adapters
from jaxmoust.runtime.paths import read_json

PIPELINE, LORA, TOKENS = "pipeline", "lora.safetensors", "tokens"

DTYPES = ("float32", "bfloat16", "float16")


def open_pipeline(section: Config, resolve: Resolve = Path) -> Loaded:
    """Opens the pipeline that a section names.

    Raises: ValueError: unknown fields, no such pipeline, or a run that is not finished.
    """
    return build.unpack("pipeline", _open, section, resolve=resolve)


def _open(
    path: str,
    resolve: Resolve,
    revision: str = "",
    variant: str = "",
    dtype: str = "float32",
    remat: bool = False,
    lora: str = "",
    lora_scale: float = 1.0,
) -> Loaded:
    """Opens a pipeline.

    Args:
        path: a folder, or OWNER/MODEL on the hub. revision, variant: of the hub.
        dtype: of the computation. remat: compute the U-Net's inside again on the way back.
        lora: a .safetensors file of adapters on top, or its folder. lora_scale: what they are multiplied with.
    """
    if not path:
        raise ValueError(
            "config.pipeline.path is empty: give a folder in diffusers' layout, the folder of a fine-tuning run, or "
            "OWNER/MODEL on the Hugging Face hub."
        )
    if dtype not in DTYPES:
        raise ValueError(f"config.pipeline.dtype {dtype!r}: allowed are {', '.join(DTYPES)}.")
    here = _folder(path, resolve)
    how = (dtype, remat)
    loaded = _tuned(here, resolve, *how) if (here / "config.json").is_file() else None
    if loaded is None:
        loaded = _load(str(here) if here.is_dir() else path, revision, variant, *how)
    if not lora:
        return loaded
    file = _folder(lora, resolve)
    file = file / LORA if file.is_dir() else file
    found, scale = adapters.load(file, loaded.params)
    return Loaded(loaded.pipeline, adapters.merge(loaded.params, found, scale * lora_scale))


def _folder(path: str, resolve: Resolve) -> Path:
    """What a name means to the resolver, else to the file system."""
    return here if (here := resolve(path).expanduser()).exists() else Path(path).expanduser()


@functools.lru_cache(maxsize=2)
def _load(name: str, revision: str, variant: str, dtype: str, remat: bool) -> Loaded:
    """A pipeline as it lies there; kept, so that a study's stages share compiled programs."""
    return stable_diffusion.load(name, revision, variant, jnp.dtype(dtype), remat=remat)


def _tuned(folder: Path, resolve: Resolve, dtype: str, remat: bool) -> Loaded | None:
    """The pipeline that a fine-tuning run left; None where the folder is not one's.

    Raises: ValueError: the run is not finished.
    """
    if (read_json(folder / "config.json") or {}).get("task") not in TUNING_TASKS:
        return None
    config, _ = finished(folder, TUNING_TASKS, "fit")
    return left(folder, {**config["pipeline"], "dtype": dtype, "remat": remat}, resolve)


def left(folder: Path, section: Config, resolve: Resolve = Path) -> Loaded:
    """Opens what `leave` wrote; the section names the pipeline that the run started from."""
    if (folder / PIPELINE).is_dir():
        return _load(str(folder / PIPELINE), "", "", section["dtype"], section.get("remat", False))
    loaded = open_pipeline(section, resolve)
    if (folder / TOKENS).is_dir():
        loaded = stable_diffusion.load_tokens(loaded, folder / TOKENS)
    if (folder / LORA).is_file():
        found, scale = adapters.load(folder / LORA, loaded.params)
        loaded = Loaded(loaded.pipeline, adapters.merge(loaded.params, found, scale))
    return loaded


def tuned(path: str, resolve: Resolve = Path) -> dict[str, Any]:
    """The result of a fine-tuning run ("words": what it calls each class); {} where `path` is not the folder of one."""
    return read_json(_folder(path, resolve) / "result.json") or {}


def leave(folder: Path, tuned: Loaded, lora: Any = None, alpha: float = 0.0, words: tuple[str, ...] = ()) -> None:
    """Writes what a run has learnt, in the layouts that torch's diffusers reads.

    Args:
        tuned: the pipeline with everything learnt in it; written whole where there is nothing smaller to write.
        lora, alpha: the adapters that are all that changed. words: the new words, likewise.
    """
    if words:
        stable_diffusion.save_tokens(tuned, words, folder / TOKENS)
    if lora:
        adapters.save(folder / LORA, lora, alpha)
    if not (words or lora):
        shutil.rmtree(folder / PIPELINE, ignore_errors=True)  # of a call that was cut off
        stable_diffusion.save(tuned, folder / PIPELINE, np.float32)
