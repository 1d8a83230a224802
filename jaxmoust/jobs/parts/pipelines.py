"""Opens what the section `pipeline` of a configuration names, and leaves what was learnt of one in a folder.

A pipeline is one of the hub or of a folder in diffusers' layout; or the folder of a fine-tuning run, which holds either
a whole pipeline/ or, on top of the one it started from, tokens/ and lora.safetensors.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

import jax.numpy as jnp
import numpy as np

from jaxmoust.config import Config, fields, unpack
from jaxmoust.data.mixture import as_tuple
from jaxmoust.jobs.parts.inputs import Inputs, read_object
from jaxmoust.models import hub, stable_diffusion
from jaxmoust.models.stable_diffusion import Loaded, lora_files
from jaxmoust.models.stable_diffusion import lora as adapters
from jaxmoust.models.stable_diffusion.pipeline import build
from jaxmoust.runtime.folder import refuse_damaged

PIPELINE, LORA, TOKENS, CLASSES = "pipeline", "lora.safetensors", "tokens", "classes"
# What a section refers to, as jobs declare it.
REFERS = ("pipeline.path", "pipeline.like", "pipeline.lora", "pipeline.tokens")
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
    param_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    text_length: int = 256,
    like: str = "",
    lora: str | tuple[str, ...] = "",
    lora_scale: float | tuple[float, ...] = 1.0,
    tokens: str | tuple[str, ...] = "",
) -> Loaded:
    """Opens a pipeline.

    Args:
        inputs: what finds the folders.
        path: a folder in diffusers' layout, the folder of a fine-tuning run, OWNER/MODEL on the hub, or a .safetensors
            file of a whole checkpoint of 1.x, 2.x or XL.
        revision: a branch, a tag or a commit on the hub.
        variant: the files' variant, such as "fp16".
        dtype: of the computation.
        remat: compute the network's inside again on the way back: less memory, more time.
        param_dtype: of the parameters that are not trained.
        text_length: tokens that T5 reads of a prompt (Stable Diffusion 3); they are part of the result.
        like: of such a file, the pipeline whose settings and tokenizer it has: a folder, or OWNER/MODEL on the hub.
        lora: .safetensors files of adapters on top, by commas, or their folders.
        lora_scale: what these adapters are multiplied with: one number, or one for each file.
        tokens: .safetensors files of new words (textual inversion), by commas, or their folders.
    """
    files = as_tuple(lora)
    scales = lora_scale if isinstance(lora_scale, tuple) else (lora_scale,) * len(files)
    if len(scales) != len(files):
        raise ValueError(f"config.pipeline.lora_scale names {len(scales)} for {len(files)} files: give one, or each.")
    if not path:
        raise ValueError(
            "config.pipeline.path is empty: give a folder in diffusers' layout, the folder of a fine-tuning run, or "
            "OWNER/MODEL on the Hugging Face hub."
        )
    here = inputs.path(path)
    task = (read_object(here / "config.json") or {}).get("task")
    if path in inputs.planned:
        opened = inputs.shared[path]  # which the check of the fine-tuning opened, with its new words
        configs, tokenizers = opened.pipeline.configs, opened.pipeline.tokenizers
        pipeline = build(configs, tokenizers, jnp.dtype(dtype), remat, text_length)
        loaded = Loaded(pipeline, opened.params, opened.by_class)
    elif task in TUNING_TASKS or (task == "merge" and (here / PIPELINE).is_dir()):
        output = inputs.output(path, task, "merge" if task == "merge" else "fit")
        how = {"dtype": dtype, "remat": remat, "param_dtype": param_dtype, "text_length": text_length}
        loaded = open_fine_tuned(here, {**output.config["pipeline"], **how}, inputs)
    else:
        name = str(here) if here.exists() else path
        loaded = _load(name, revision, variant, dtype, param_dtype, remat, text_length, like)
    for ref in as_tuple(tokens):
        loaded = stable_diffusion.load_tokens(loaded, inputs.path(ref))
    for ref, scale in zip(files, scales, strict=True):
        file = inputs.path(ref)
        refuse_damaged(file if file.is_dir() else file.parent)
        loaded = _adapted(loaded, file, scale)
    return loaded


def _adapted(loaded: Loaded, file: Path, scale: float = 1.0) -> Loaded:
    params = adapters.attach(loaded.params, lora_files.load(file, loaded.params), scale)
    return Loaded(loaded.pipeline, params, loaded.by_class)


_LOADED: WeakValueDictionary[tuple, Loaded] = WeakValueDictionary()


def _load(*how: Any) -> Loaded:
    """A pipeline as it lies there; the same one for all that ask while somebody uses it, and then gone from memory."""
    if (loaded := _LOADED.get(how)) is None:
        name, revision, variant, dtype, param_dtype, *rest = how
        types = jnp.dtype(dtype), jnp.dtype(param_dtype)
        loaded = _LOADED[how] = stable_diffusion.load(name, revision, variant, *types, *rest)
    return loaded


def open_fine_tuned(folder: Path, section: Config, inputs: Inputs) -> Loaded:
    """Opens what `save_fine_tuned` wrote; the section names the pipeline that the run started from."""
    if (folder / PIPELINE).is_dir():
        types, how = (section["dtype"], section["param_dtype"]), (section["remat"], section["text_length"], "")
        return _load(str(folder / PIPELINE), "", "", *types, *how)
    loaded = open_pipeline(section, inputs)
    if (folder / TOKENS).is_dir():
        loaded = stable_diffusion.load_tokens(loaded, folder / TOKENS)
    if (folder / CLASSES).is_dir():
        files = sorted((folder / CLASSES).glob(f"*/{LORA}"))
        return Loaded(loaded.pipeline, loaded.params, tuple(lora_files.load(file, loaded.params) for file in files))
    return _adapted(loaded, folder / LORA) if (folder / LORA).is_file() else loaded


def fine_tuned(section: Config, inputs: Inputs) -> dict[str, Any]:
    """The result of the fine-tuning run that a section names ("words": what it calls each class), or of one merged.

    Where adapters or words on top are of such runs, the last of these says which images were learnt from.

    Returns: {} where nothing named is of a run.
    """
    path = section["path"]
    result = dict(inputs.planned[path].result if path in inputs.planned else _result(inputs.path(path)))
    for field, names in (("tokens", (*_LEARNT, "words")), ("lora", _LEARNT)):
        for said in (_result(inputs.path(ref)) for ref in as_tuple(section[field])):
            result |= {name: said[name] for name in names if name in said}
    return result


# What a run says of what it learnt from.
_LEARNT = ("n_base", "data_digest", "trained_on")


def _result(here: Path) -> dict[str, Any]:
    """Of the run whose folder, or a file or a folder of which, this is."""
    above = here.parents[1] if here.parent.name == CLASSES else here.parent
    inside = here.is_file() or here.name in (PIPELINE, TOKENS) or above != here.parent
    return _result(above) if inside else read_object(here / "result.json") or {}


def origin(section: Config, tuned: Mapping[str, Any]) -> dict[str, str]:
    """What a record says of a pipeline of the hub beside its content's digest: its commit; {} of one that lies here.

    Args: tuned: what `fine_tuned` says; of a run, the commit is that of the pipeline that it started from.
    """
    commit = tuned.get("commit", "")
    if not commit and not Path(section["path"]).exists():
        commit = hub.commit(section["path"], section["revision"])
    return {"commit": commit} if commit else {}


def save_fine_tuned(
    folder: Path, fine_tuned: Loaded, lora: Any = None, alpha: float = 0.0, words: tuple[str, ...] = ()
) -> None:
    """Writes what a run has learnt, in the layouts that torch's diffusers reads.

    Args:
        fine_tuned: the pipeline with everything learnt in it; written whole where there is nothing smaller to write.
        lora, alpha: the adapters that are all that changed. words: the new words, likewise.
    """
    if words:
        stable_diffusion.save_tokens(fine_tuned, words, folder / TOKENS)
    if lora:
        lora_files.save(folder / LORA, lora, alpha)
    if not (words or lora):
        shutil.rmtree(folder / PIPELINE, ignore_errors=True)  # of a call that was cut off
        stable_diffusion.save(fine_tuned, folder / PIPELINE, np.float32)


PIPELINE_SECTION = fields(_open, skip=("inputs",))
