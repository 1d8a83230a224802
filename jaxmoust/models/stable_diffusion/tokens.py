"""New words of a pipeline's text encoders (textual inversion, Gal et al. 2022, 2208.01618): added, written, read.

A file names a word and its vectors, as diffusers writes it, or holds the vectors alone, as user interfaces do: its word
is then what the file is called. XL's hold those of both encoders, clip_l and clip_g.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxmoust.core.tree import map_named, named_leaves
from jaxmoust.models.stable_diffusion.pipeline import Loaded, build
from jaxmoust.models.translate import FROM_TORCH
from jaxmoust.runtime.paths import check_plain

_TABLE = "text_model/embeddings/token_embedding/embedding"
_OF_XL = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}
_NAMELESS = {"emb_params": "text_encoder", "*": "text_encoder", **_OF_XL}  # tensors whose word is the file's name


def add_tokens(loaded: Loaded, words: Mapping[str, str]) -> Loaded:
    """Makes a pipeline that knows some words more, each at first with the mean vector of a text it knows.

    Args:
        words: new word, such as "<lymphocyte>" -> the text, such as "cell". They become the last of the tokenizer.
    Raises: ValueError: a word that the tokenizer has, or would cut, or a text without a token.
    """
    pipeline, table = loaded.pipeline, _table(loaded.params["text_encoder"])
    if len(pipeline.tokenizers) > 1:
        raise ValueError(
            f"New words would be vectors of {len(pipeline.tokenizers)} text encoders here, and this package trains "
            "those of one alone: fine-tune a pipeline of 1.x or 2.x, or set method.learn_tokens=0. XL's words that "
            "something else trained are read by pipeline.tokens."
        )
    known = pipeline.tokenizer.get_vocab()
    if not words or any(word in known or word != word.strip().lower() or " " in word for word in words):
        raise ValueError(
            f"Got the new words {list(words)}: expected one or more that the tokenizer lacks, in lower case and "
            "without spaces, such as <my-class>."
        )
    starts = {}
    for word, like in words.items():
        ids = pipeline.tokenizer.ids_of(like)
        if not ids:
            raise ValueError(f"The word {word} shall start as {like!r}, which is no token: name what it resembles.")
        starts[word] = table[np.array(ids)].mean(0)
    return _extended(loaded, {"text_encoder": starts})


def _extended(loaded: Loaded, vectors: Mapping[str, Mapping[str, np.ndarray]]) -> Loaded:
    """Gives text encoders words and their vectors [D], as the last of each one's tokenizer."""
    pipeline = loaded.pipeline
    configs, tokenizers, params = {**pipeline.configs}, {**pipeline.tokenizers}, {**loaded.params}
    for part, of in vectors.items():
        # Rows beyond the tokenizer's words belong to none, and would be taken for those of the new ones.
        known = _table(params[part])[: len(tokenizers[part])]
        table = np.concatenate([known, np.stack([*of.values()]).astype(known.dtype)])
        tokenizers[part] = tokenizers[part].with_words([*of])
        configs[part] = {**configs[part], "vocab_size": len(table)}
        params[part] = _with_table(params[part], table)
    how = (pipeline.net.dtype, pipeline.net.remat, pipeline.text_length)
    return Loaded(build(configs, tokenizers, *how), params)


def save_tokens(loaded: Loaded, words: Sequence[str], folder: Path) -> None:
    """Writes each word's vector to a .safetensors file of its own, which torch's `load_textual_inversion` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    table = _table(loaded.params["text_encoder"])
    for number, word in enumerate(words):
        row = table[loaded.pipeline.tokenizer.id_of(word)]
        path = folder / f"{number:04d}.safetensors"
        safetensors.numpy.save_file({word: np.asarray(row, np.float32)[None]}, path)


def load_tokens(loaded: Loaded, path: Path) -> Loaded:
    """Adds the words of a .safetensors file, or of those of a folder, in the order of their names.

    A word of several vectors stands for as many tokens in a row, as in torch's diffusers.

    Raises: ValueError: no such files, words that are known, or vectors of another text encoder.
    """
    path = Path(path)
    files = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin")) if path.is_dir() else [path]
    towers = loaded.pipeline.towers
    if "transformer" in loaded.pipeline.configs:
        raise ValueError(f"{path}: Stable Diffusion 3 reads no new words, in torch's diffusers neither.")
    widths = {part: _table(loaded.params[part]).shape[1] for part in towers}
    vectors: dict[str, dict[str, np.ndarray]] = {part: {} for part in towers}
    for file in files:
        for name, tensor in _read(file).items():
            word, part = (file.stem, _NAMELESS[name]) if name in _NAMELESS else (name, "text_encoder")
            rows = tensor.reshape(-1, tensor.shape[-1]) if tensor.ndim else tensor
            if part not in towers or rows.shape[-1:] != (widths[part],):
                raise ValueError(f"{file} holds {name} {tensor.shape}, expected vectors of this pipeline: of {widths}.")
            if " " in word or word in loaded.pipeline.tokenizers[part].get_vocab() or word in vectors[part]:
                raise ValueError(
                    f"{file} holds the word {word!r}: expected one that the tokenizer lacks, without spaces. Where the "
                    "word is the file's name, rename the file, such as <my-word>.safetensors."
                )
            vectors[part] |= {f"{word}_{i}" if i else word: row for i, row in enumerate(rows)}
    if any({*of} != {*vectors["text_encoder"]} for of in vectors.values()) or not vectors["text_encoder"]:
        held = {part: [*of] for part, of in vectors.items()}
        raise ValueError(f"{path} holds the words {held}: expected one or more, the same for each text encoder.")
    return _extended(loaded, vectors)


def _read(file: Path) -> dict[str, np.ndarray]:
    if file.suffix in (".bin", ".pt", ".pth"):
        raise ValueError(
            f"{file} is a pickle, which may run code when opened. Expected .safetensors. Beside torch, this line makes "
            f"one of its tensors:\n  {FROM_TORCH}"
        )
    try:
        check_plain(file)
        return safetensors.numpy.load_file(file)
    except (OSError, safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} cannot be read as .safetensors: {error}. Fetch it again.") from error


def _table(text_encoder: Any) -> np.ndarray:
    return np.asarray(named_leaves(text_encoder)[_TABLE])


def _with_table(text_encoder: Any, table: np.ndarray) -> Any:
    return map_named(lambda name, leaf: table if name == _TABLE else leaf, text_encoder)
