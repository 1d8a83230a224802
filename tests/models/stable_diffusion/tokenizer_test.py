"""models/stable_diffusion/tokenizer.py: the numbers that transformers gives, and files that it opens."""

import json
import random
import shutil
from pathlib import Path

import pytest
import tiny_stable_diffusion as tiny

from jaxmoust.models.stable_diffusion.tokenizer import Tokenizer, open_tokenizer

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


def test_odd_prompts_have_the_numbers_that_transformers_gives(folder):
    transformers = pytest.importorskip("transformers")
    prompts = odd_prompts(500)
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
