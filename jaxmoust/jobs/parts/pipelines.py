"""Opens what the section `pipeline` of a configuration names, and leaves what was learnt of one in a folder.

A pipeline is one of the hub or of a folder in diffusers' layout; or the folder of a fine-tuning run, which holds either
a whole pipeline/ or, on top of the one it started from, tokens/ and lora.safetensors.
"""

import functools
import shutil
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxmoust.config import Config, fields, unpack
from jaxmoust.jobs.parts.inputs import Inputs, read_object
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import Loaded
from jaxmoust.models.stable_diffusion import lora as adapters
from jaxmoust.runtime.folder import refuse_damaged

PIPELINE, LORA, TOKENS = "pipeline", "lora.safetensors", "tokens"
# The tasks that fine-tune parts of a pipeline.
TUNING_TASKS = ("finetune", "autoencode")


def open_pipeline(section: Config, inputs: Inputs) -> Loaded:
    """Opens the pipeline that a section names; of one that is yet to be fine-tuned, what its training starts from.

    Raises: ValueError: unknown fields, no such pipeline, or a run that is not finished.
    """
    return unpack("pipeline", _open, section, inputs=inputs)


def _open(
    inputs: Inputs,
    path: str = "",
    revision: str = "",
    variant: str = "",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    remat: bool = False,
    lora: str = "",
    lora_scale: float = 1.0,
) -> Loaded:
    """Opens a pipeline.

    Args:
        inputs: what finds the folders.
        path: a folder in diffusers' layout, the folder of a fine-tuning run, or OWNER/MODEL on the hub.
        revision: a branch, a tag or a commit on the hub.
        variant: the files' variant, such as "fp16".
        dtype: of the computation.
        remat: compute the U-Net's inside again on the way back: less memory, more time.
        lora: a .safetensors file of adapters on top, or its folder.
        lora_scale: what these adapters are multiplied with.
    """
    if not path:
        raise ValueError(
            "config.pipeline.path is empty: give a folder in diffusers' layout, the folder of a fine-tuning run, or "
            "OWNER/MODEL on the Hugging Face hub."
        )
    if path in inputs.planned:
        return inputs.shared[path]  # which the check of the fine-tuning opened, with its new words
    here = inputs.path(path)
    if (read_object(here / "config.json") or {}).get("task") in TUNING_TASKS:
        output = inputs.output(path, TUNING_TASKS, "fit")
        loaded = left(here, {**output.config["pipeline"], "dtype": dtype, "remat": remat}, inputs)
    else:
        loaded = _load(str(here) if here.is_dir() else path, revision, variant, dtype, remat)
    if not lora:
        return loaded
    file = inputs.path(lora)
    file = file / LORA if file.is_dir() else file
    refuse_damaged(file.parent)
    found, scale = adapters.load(file, loaded.params)
    return Loaded(loaded.pipeline, adapters.merge(loaded.params, found, scale * lora_scale))


@functools.lru_cache(maxsize=2)
def _load(name: str, revision: str, variant: str, dtype: str, remat: bool) -> Loaded:
    """A pipeline as it lies there; kept, so that a study's stages share compiled programs."""
    return stable_diffusion.load(name, revision, variant, jnp.dtype(dtype), remat=remat)


def left(folder: Path, section: Config, inputs: Inputs) -> Loaded:
    """Opens what `leave` wrote; the section names the pipeline that the run started from."""
    if (folder / PIPELINE).is_dir():
        return _load(str(folder / PIPELINE), "", "", section["dtype"], section.get("remat", False))
    loaded = open_pipeline(section, inputs)
    if (folder / TOKENS).is_dir():
        loaded = stable_diffusion.load_tokens(loaded, folder / TOKENS)
    if (folder / LORA).is_file():
        found, scale = adapters.load(folder / LORA, loaded.params)
        loaded = Loaded(loaded.pipeline, adapters.merge(loaded.params, found, scale))
    return loaded


def fine_tuned(path: str, inputs: Inputs) -> dict[str, Any]:
    """The result of a fine-tuning run ("words": what it calls each class); {} where `path` is not the folder of one."""
    if path in inputs.planned:
        return inputs.planned[path].result
    here = inputs.path(path)
    return read_object(here / "result.json") or {}


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


PIPELINE_SECTION = fields(_open, skip=("inputs",))
