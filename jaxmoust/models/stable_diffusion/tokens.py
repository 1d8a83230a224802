"""New words for a pipeline's text encoder: added, written as the files that torch's diffusers reads, read again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxmoust.core.tree import map_named, named_leaves
from jaxmoust.models.stable_diffusion.pipeline import Loaded, build
from jaxmoust.runtime.paths import check_plain

_TABLE = "text_model/embeddings/token_embedding/embedding"


def add_tokens(loaded: Loaded, words: Mapping[str, str]) -> Loaded:
    """Makes a pipeline that knows some words more, each at first with the mean vector of a text it knows.

    Args:
        words: new word, such as "<lymphocyte>" -> the text, such as "cell". They become the last of the tokenizer.
    Raises: ValueError: a word that the tokenizer has, or would cut, or a text without a token.
    """
    pipeline, table = loaded.pipeline, _table(loaded.params["text_encoder"])
    if len(pipeline.tokenizers) > 1:
        raise ValueError("A pipeline of several text encoders learns no new words. Use one of 1.x or 2.x.")
    known = pipeline.tokenizer.get_vocab()
    if not words or any(word in known or word != word.strip().lower() or " " in word for word in words):
        raise ValueError(
            f"Got the new words {list(words)}: expected one or more that the tokenizer lacks, in lower case and "
            "without spaces, such as <my-class>."
        )
    starts = []
    for word, like in words.items():
        ids = pipeline.tokenizer.ids_of(like)
        if not ids:
            raise ValueError(f"The word {word} shall start as {like!r}, which is no token: name what it resembles.")
        starts.append(table[np.array(ids)].mean(0))
    tokenizer = pipeline.tokenizer.with_words(list(words))
    # Rows beyond the tokenizer's words belong to none, and would be taken for those of the new ones.
    vectors = np.concatenate([table[: len(pipeline.tokenizer)], np.stack(starts).astype(table.dtype)])
    configs = {**pipeline.configs, "text_encoder": {**pipeline.configs["text_encoder"], "vocab_size": len(vectors)}}
    extended = build(configs, tokenizer, pipeline.net.dtype, pipeline.net.remat)
    text_encoder = _with_table(loaded.params["text_encoder"], vectors)
    return Loaded(extended, {**loaded.params, "text_encoder": text_encoder})


def save_tokens(loaded: Loaded, words: Sequence[str], folder: Path) -> None:
    """Writes each word's vector to a .safetensors file of its own, which torch's `load_textual_inversion` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    table = _table(loaded.params["text_encoder"])
    for number, word in enumerate(words):
        row = table[loaded.pipeline.tokenizer.id_of(word)]
        path = folder / f"{number:04d}.safetensors"
        safetensors.numpy.save_file({word: np.asarray(row, np.float32)[None]}, path)


def load_tokens(loaded: Loaded, folder: Path) -> Loaded:
    """Adds the words whose vectors lie in a folder, in the order of the files' names.

    Raises: ValueError: no such files, or vectors of another text encoder.
    """
    width = _table(loaded.params["text_encoder"]).shape[1]
    vectors: dict[str, np.ndarray] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        try:
            check_plain(path)
            vectors |= safetensors.numpy.load_file(path)
        except (OSError, safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} cannot be read as .safetensors: {error}. Fetch it again.") from error
    if not vectors or any(vector.reshape(-1).shape != (width,) for vector in vectors.values()):
        shapes = {word: vector.shape for word, vector in vectors.items()}
        raise ValueError(f"{folder} holds the words {shapes}: expected one or more, of {width} numbers each.")
    added = add_tokens(loaded, dict.fromkeys(vectors, "a"))
    table = np.array(_table(added.params["text_encoder"]))
    table[-len(vectors) :] = np.stack([vector.reshape(-1) for vector in vectors.values()])
    return Loaded(added.pipeline, {**added.params, "text_encoder": _with_table(added.params["text_encoder"], table)})


def _table(text_encoder: Any) -> np.ndarray:
    return np.asarray(named_leaves(text_encoder)[_TABLE])


def _with_table(text_encoder: Any, table: np.ndarray) -> Any:
    return map_named(lambda name, leaf: table if name == _TABLE else leaf, text_encoder)
