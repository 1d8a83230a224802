"""SentencePiece's spiece.model, as T5 has it: unigrams (Kudo 2018, 1804.10959), and what is done to a text before.

The file is a protocol buffer, of which a few fields are read (sentencepiece_model.proto of google/sentencepiece).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmoust.runtime.paths import read_bytes

_UNIGRAM = 1


@dataclass(frozen=True)
class Pieces:
    """A model.

    Args:
        vocab: pieces and their logarithmic probabilities, in the order of their numbers.
        charsmap: what normalises a text, in the library's own form; b"" is nothing.
        squeeze: whether spaces in a row become one. prefix: whether a text begins with one.
    """

    vocab: list[tuple[str, float]]
    charsmap: bytes
    squeeze: bool
    prefix: bool


def read(path: Path) -> Pieces:
    """Reads a file. Raises ValueError: no such file, a damaged one, or a model of another kind."""
    if not path.is_file():
        raise ValueError(f"it lacks tokenizer.json, and {path.name}")
    vocab, trainer, normalizer = [], {}, {}
    for number, value in _fields(read_bytes(path)):
        if number == 1:
            piece = dict(_fields(value))
            vocab.append((piece[1].decode(), float(np.frombuffer(piece.get(2, bytes(4)), "<f4")[0])))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    if (
        trainer.get(3, _UNIGRAM) != _UNIGRAM
        or trainer.get(35, 0)
        or not {"</s>", "<unk>"} <= {name for name, _ in vocab}
    ):
        raise ValueError(f"{path.name} is no unigram model with </s> and <unk> and without single bytes")
    return Pieces(vocab, normalizer.get(2, b""), bool(normalizer.get(4, 1)), bool(normalizer.get(3, 1)))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: (number, an integer or bytes). Raises ValueError where it breaks off."""
    at = 0

    def integer() -> int:
        nonlocal at
        value = shift = 0
        while shift < 64 and at < len(data):
            byte, at = data[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
        raise ValueError("it is no protocol buffer, or breaks off")

    while at < len(data):
        key = integer()
        if key & 7 == 0:
            yield key >> 3, integer()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or (integer() if key & 7 == 2 else len(data) + 1)
        if at + size > len(data):
            raise ValueError("it is no protocol buffer, or breaks off")
        yield key >> 3, data[at : at + size]
        at += size
