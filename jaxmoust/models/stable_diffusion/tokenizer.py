"""CLIP's and T5's tokenizers: texts to token numbers, by the `tokenizers` library, as transformers gives them.

Read from tokenizer.json, or from vocab.json and merges.txt, or T5's spiece.model; CLIP's is written as all of the
former, so that any transformers opens it.
"""

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Int
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from jaxmoust.models.stable_diffusion import sentencepiece
from jaxmoust.runtime.paths import read_json, read_text

START, END = "<|startoftext|>", "<|endoftext|>"
_WORDS = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
# Of CLIP's first release, whose file of merges is longer.
_MOST_MERGES = 49_152 - 256 - 2
_MOST_EXTRA = 10_000
CLIP = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""Special tokens where the files do not name them."""
_FLAGS = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")


class Tokenizer:
    """Reads texts; a value, as nothing changes it.

    Args:
        model: of the library. settings: of tokenizer_config.json, with the special tokens.
        roles: `CLIP` or `T5`.
    """

    def __init__(self, model: tokenizers.Tokenizer, settings: dict[str, Any], roles: Mapping[str, str] = CLIP) -> None:
        """Registers the special tokens, which are found in a text as they are."""
        self._model = tokenizers.Tokenizer.from_str(model.to_str())
        self._model.no_padding()
        self._model.no_truncation()
        self.roles = roles
        special = {role: _token(settings.get(role) or usual) for role, usual in roles.items()}
        self._model.add_special_tokens(list(special.values()))
        self.settings = settings | {role: token.content for role, token in special.items()}

    def __call__(self, texts: Sequence[str], length: int) -> Int[np.ndarray, "N {length}"]:
        """Turns texts into token numbers with both ends, padded as the files say.

        Raises: ValueError: a text that is longer; nothing is cut off unsaid.
        """
        # One by one: batches start threads, which forks mind.
        rows = [self._whole(self._model.encode(text).ids) for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if len(row) > length:
                raise ValueError(
                    f"The text {text!r} is {len(row)} tokens long, expected at most {length}, start and end included."
                )
        pad = self.id_of(self.settings["pad_token"])
        return np.array([row + [pad] * (length - len(row)) for row in rows], np.int32).reshape(len(rows), length)

    def __len__(self) -> int:
        """How many tokens it knows."""
        return self._model.get_vocab_size()

    def get_vocab(self) -> dict[str, int]:
        """Every token and its number."""
        return self._model.get_vocab()

    def id_of(self, token: str) -> int:
        """The number of a token that it knows."""
        return self._model.token_to_id(token)

    def ids_of(self, text: str) -> list[int]:
        """The numbers of a text of any length, without ends."""
        return self._whole(self._model.encode(text, add_special_tokens=False).ids)

    def _whole(self, ids: list[int]) -> list[int]:
        """A word of several vectors as all of its tokens: word, word_1, word_2 ..."""
        return [number for first in ids for number in (first, *self._following.get(first, ()))]

    @functools.cached_property
    def _following(self) -> dict[int, list[int]]:
        added = {token.content: number for number, token in self._model.get_added_tokens_decoder().items()}

        def row(word: str) -> list[int]:
            names = (f"{word}_{i}" for i in itertools.count(1))
            return [added[name] for name in itertools.takewhile(added.__contains__, names)]

        return {number: row(word) for word, number in added.items()}

    def with_words(self, words: Sequence[str]) -> "Tokenizer":
        """Itself with these words as its last tokens."""
        extended = Tokenizer(self._model, self.settings, self.roles)
        extended._model.add_tokens(list(words))
        return extended

    def save(self, folder: Path, length: int) -> None:
        """Writes tokenizer.json, and the files that transformers' slow CLIPTokenizer reads; they pad to `length`."""
        folder.mkdir(parents=True, exist_ok=True)
        self._model.save(str(folder / "tokenizer.json"))
        kind = "CLIPTokenizer" if self.roles == CLIP else "T5TokenizerFast"
        if kind == "CLIPTokenizer":
            self._model.model.save(str(folder))
        added = {
            str(number): {name: getattr(token, name) for name in _FLAGS}
            for number, token in sorted(self._model.get_added_tokens_decoder().items())
        }
        more = {"tokenizer_class": kind, "model_max_length": length, "added_tokens_decoder": added}
        (folder / "tokenizer_config.json").write_text(json.dumps(self.settings | more, indent=2, sort_keys=True) + "\n")


def _token(token: str | dict[str, Any]) -> AddedToken:
    fields = {"content": token} if isinstance(token, str) else {k: v for k, v in token.items() if k in _FLAGS}
    return AddedToken(**{"normalized": True, **fields, "special": True})


def open_tokenizer(folder: Path, roles: Mapping[str, str] = CLIP) -> Tokenizer:
    """Opens CLIP's or T5's tokenizer, whichever the special tokens are.

    Raises: ValueError: a folder without its files, or with damaged ones.
    """
    try:
        settings = _object(folder / "tokenizer_config.json")
        if "added_tokens_decoder" not in settings:
            # As transformers reads the files that it wrote before 4.34.
            settings |= _object(folder / "special_tokens_map.json")
        if content := _object(folder / "tokenizer.json"):
            added = [entry["id"] for entry in content.get("added_tokens") or []]
            vocab = content["model"]["vocab"]
            _check_numbers([*(vocab.values() if isinstance(vocab, dict) else range(len(vocab))), *added])
            opened = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)), settings, roles)
        elif roles == T5:
            opened = _from_pieces(folder, settings)
        else:
            opened = _from_merges(folder, settings)
        _check_ends(opened)
        return opened
    except BaseException as error:  # the library has no other, and panics that are no `Exception`
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(
            f"{folder} cannot be read as {'CLIP' if roles == CLIP else 'T5'}'s tokenizer: {error}. Fetch it again."
        ) from error


def _object(path: Path) -> dict[str, Any]:
    content = {} if (content := read_json(path)) is None else content
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds a {type(content).__name__}, expected an object.")
    return content


def _check_numbers(numbers: Sequence[Any]) -> None:
    """Refuses tokens that are not 0, 1, 2 ...: the library would list all the numbers between, for ever."""
    if not all(type(number) is int for number in numbers) or {*numbers} != {*range(len({*numbers}))}:
        raise ValueError("its tokens are not numbered from 0 without a gap")


def _check_ends(tokenizer: Tokenizer) -> None:
    numbers = [tokenizer.id_of(tokenizer.settings["pad_token"]), *tokenizer._model.encode("a").ids]
    if not all(number is not None and number < len(tokenizer) for number in numbers):
        raise ValueError("what begins, ends or pads a text is none of its tokens")


def _from_pieces(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    """T5's of a spiece.model, with the words <extra_id_N> that transformers puts after its own."""
    extra, pieces = settings.get("extra_ids", 100), sentencepiece.read(folder / "spiece.model")
    if type(extra) is not int or not 0 <= extra <= _MOST_EXTRA:
        raise ValueError(f"extra_ids is {extra!r:.80}, expected up to {_MOST_EXTRA:,}")
    words = [f"<extra_id_{i}>" for i in reversed(range(extra))]
    names = [name for name, _ in pieces.vocab]
    vocab = [*pieces.vocab, *((word, 0.0) for word in words)]
    model = tokenizers.Tokenizer(models.Unigram(vocab, names.index(T5["unk_token"])))
    steps = [normalizers.Precompiled(pieces.charsmap)] if pieces.charsmap else []
    steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")] if pieces.squeeze else []
    model.normalizer = normalizers.Sequence(steps)
    model.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", "always" if pieces.prefix else "never")
    end = T5["eos_token"]
    model.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, names.index(end))])
    model.add_special_tokens(words)
    return Tokenizer(model, settings, T5)


def _from_merges(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    if missing := [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]:
        raise ValueError(f"it lacks tokenizer.json, and {', '.join(missing)}")
    vocab = _object(folder / "vocab.json")
    _check_numbers(list(vocab.values()))
    lines = read_text(folder / "merges.txt").strip().split("\n")[1 : _MOST_MERGES + 1]
    merges = [(first, second) for first, second in map(str.split, lines)]
    model = tokenizers.Tokenizer(
        models.BPE(vocab, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=END)
    )
    model.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(_WORDS, behavior="removed", invert=True)
    model.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    model.decoder = decoders.ByteLevel()
    ends = [(token, vocab[token]) for token in (END, START)]
    model.post_processor = processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    added = _object(folder / "added_tokens.json")
    added |= {entry["content"]: int(number) for number, entry in settings.get("added_tokens_decoder", {}).items()}
    words = [word for word in sorted(added, key=lambda word: added[word]) if word not in vocab]
    tokenizer = Tokenizer(model, settings).with_words(words)
    if wrong := [word for word in words if tokenizer.id_of(word) != added[word]]:
        raise ValueError(f"its added words {wrong[:4]} do not follow on the others")
    return tokenizer
