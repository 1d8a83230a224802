"""models/stable_diffusion/tokenizer.py: the numbers that transformers gives, and files that it opens."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_stable_diffusion as tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmoust.models.stable_diffusion.tokenizer import T5, Tokenizer, open_tokenizer

FIXTURES = Path(__file__).parent / "fixtures"
WORDS = [
    "a photo of a cat",
    "dog",
    "it's",
    "we've",
    "they'll",
    "he'd",
    "<|endoftext|>",
    "<|STARTOFTEXT|>",
    "&amp;",
    "!!",
]
LETTERS = [
    "abcXYZ",
    "0123",
    "!?.,'\"<|>@#",
    " \t\n",
    "éÜßÅ",
    "ΑΣσς",
    "бЖ",
    "中文字本",
    "한국",
    "🙂👩‍👧",
    "\u0301\u200b\u00a0",
    "İﬁ①",
    "\x00\ufffd",
]


def odd_prompts(count: int) -> list[str]:
    """Words and letters of many scripts, with and without spaces between them, from none to eight."""
    rng = random.Random(0)

    def piece() -> str:
        letters = rng.choice(LETTERS)
        some = rng.choice(WORDS) if rng.random() < 0.5 else "".join(rng.choices(letters, k=rng.randint(1, 5)))
        return some + rng.choice(["", " ", "  "])

    return ["".join(piece() for _ in range(rng.randint(0, 8))) for _ in range(count)]


@pytest.fixture(params=["", "sd15", "sd21"])
def folder(request, tmp_path) -> Path:
    """Files of a small vocabulary, with no settings, and with those of the published pipelines."""
    tiny.write_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    if request.param:
        shutil.copytree(FIXTURES / request.param / "tokenizer", tmp_path, dirs_exist_ok=True)
    return tmp_path


def numbers(tokenizer: Tokenizer, prompts: list[str]) -> list[list[int]]:
    return tokenizer(prompts, 400).tolist()


def padded(tokenizer, prompts: list[str]) -> list[list[int]]:
    return tokenizer(prompts, padding="max_length", max_length=400).input_ids


@pytest.mark.parametrize(("folder", "count"), [("", 10_000), ("sd15", 500), ("sd21", 500)], indirect=["folder"])
def test_odd_prompts_have_the_numbers_that_transformers_gives(folder, count):
    transformers = pytest.importorskip("transformers")
    prompts = odd_prompts(count)
    assert numbers(open_tokenizer(folder), prompts) == padded(
        transformers.CLIPTokenizerFast.from_pretrained(folder), prompts
    )


def test_what_is_saved_means_the_same_to_us_and_to_every_transformers(folder, tmp_path):
    prompts = odd_prompts(100)
    extended = open_tokenizer(folder).with_words(["<mine>", "<yours>"])
    prompts += ["a <mine>", "<yours> a cat"]
    extended.save(tmp_path / "saved", 400)
    expected = numbers(extended, prompts)
    assert numbers(open_tokenizer(tmp_path / "saved"), prompts) == expected
    plain = ["a photo of a <mine> cat!", "<yours>", ""]  # without what the slow tokenizer cuts otherwise
    transformers = pytest.importorskip("transformers")
    for kind in (transformers.CLIPTokenizerFast, transformers.CLIPTokenizer):
        assert padded(kind.from_pretrained(tmp_path / "saved"), plain) == numbers(extended, plain)
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "saved" / name).unlink()
    assert numbers(open_tokenizer(tmp_path / "saved"), prompts) == expected
    assert padded(transformers.CLIPTokenizerFast.from_pretrained(tmp_path / "saved"), prompts) == expected


def test_file_that_pads_and_cuts_by_itself_is_not_obeyed(folder):
    """Tokenizer.json keeps how it was last used; the length is the pipeline's."""
    extended = open_tokenizer(folder)
    extended.save(folder / "saved", 400)
    file = folder / "saved" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(content))
    assert numbers(open_tokenizer(folder / "saved"), ["a cat a dog"]) == numbers(extended, ["a cat a dog"])


def test_words_are_added_to_a_copy_and_come_last(folder):
    plain = open_tokenizer(folder)
    extended = plain.with_words(["<mine>"])
    assert len(extended) == len(plain) + 1 and extended.id_of("<mine>") == len(plain)
    assert "<mine>" not in plain.get_vocab()
    assert extended.ids_of("a <mine>") == [*plain.ids_of("a"), len(plain)]


def test_files_that_are_no_tokenizer_are_refused(folder):
    (folder / "added_tokens.json").write_text('{"<mine>": 9999}')
    with pytest.raises(ValueError, match=r"<mine>.* do not follow on the others"):
        open_tokenizer(folder)
    (folder / "merges.txt").write_text("#version: 0.2\nzzz qqq\n")
    with pytest.raises(ValueError, match=r"cannot be read as CLIP's tokenizer: .*out of vocabulary"):
        open_tokenizer(folder)
    (folder / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"lacks tokenizer\.json, and merges\.txt"):
        open_tokenizer(folder)


odd = st.one_of(
    *(st.just(value) for value in (None, -1, 2**31, 2**40, 10**30, "", "x", [], [1], {}, {"a": 1}, "\ud800", "é\0")),
    st.floats(),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=3),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Files of every kind that a tokenizer is read from."""
    root = tmp_path_factory.mktemp("saved")
    tiny.write_tokenizer(root / "plain")
    open_tokenizer(root / "plain").save(root, 77)
    (root / "added_tokens.json").write_text("{}")
    return root


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "tokenizer_config.json", "added_tokens.json"])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_odd_entry_of_a_tokenizers_files_is_told_in_a_sentence_or_makes_no_odd_token(
    saved, tmp_path_factory, name, data
):
    folder = tmp_path_factory.mktemp("odd")
    shutil.copytree(saved, folder, dirs_exist_ok=True)
    if name != "tokenizer.json":
        (folder / "tokenizer.json").unlink()
    content = json.loads((folder / name).read_text())
    node, at = {"": content}, ""
    while isinstance(node[at], dict | list) and node[at] and data.draw(st.integers(0, 3)):
        node = node[at]
        at = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
    node[at] = data.draw(odd)
    (folder / name).write_text(json.dumps(content if at != "" else node[""]))
    try:
        opened = open_tokenizer(folder)
        assert opened(["a cat", ""], 77).max() < len(opened)
    except ValueError as error:
        assert str(folder) in str(error)


def test_vocabulary_with_a_gap_is_refused_before_its_numbers_are_listed(folder):
    vocab = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({**vocab, next(iter(vocab)): 2**40}))
    with pytest.raises(ValueError, match="not numbered from 0 without a gap"):
        open_tokenizer(folder)


@pytest.fixture
def pieces(tmp_path) -> tuple[Path, dict]:
    """A folder with a spiece.model, and what the package sentencepiece made of texts (fixtures/spiece.py)."""
    with np.load(Path(__file__).parent / "fixtures" / "spiece.npz") as file:
        stored = dict(file)
    (tmp_path / "spiece.model").write_bytes(stored["model"].tobytes())
    return tmp_path, stored


def test_t5_reads_texts_as_sentencepiece_does_and_is_saved_as_one_file(pieces, tmp_path):
    folder, stored = pieces
    tokenizer = open_tokenizer(folder, T5)
    texts = [str(text) for text in stored["texts"]]
    np.testing.assert_array_equal(tokenizer(texts, 64), stored["ids"])
    tokenizer.save(tmp_path / "saved", 64)
    assert not (tmp_path / "saved" / "spiece.model").exists()
    again = open_tokenizer(tmp_path / "saved", T5)
    np.testing.assert_array_equal(again(texts, 64), stored["ids"])
    assert len(again) == len(tokenizer) and again.ids_of("<extra_id_7>") == [len(tokenizer) - 8]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "lacks tokenizer.json, and spiece.model"),
        (b"\xff" * 20, "no protocol buffer"),
        (b"\x0a\x7fabc", "breaks off"),
        (b"", "no unigram model"),
    ],
)
def test_odd_spiece_model_is_refused(tmp_path, content, said):
    if content is not None:
        (tmp_path / "spiece.model").write_bytes(content)
    with pytest.raises(ValueError, match=f"T5's tokenizer.*{said}"):
        open_tokenizer(tmp_path, T5)
