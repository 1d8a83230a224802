"""models/stable_diffusion/tokens.py: files of new words (textual inversion) as others write them."""

import re

import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny_stable_diffusion as tiny

from jaxmoust.jobs.parts import pipelines
from jaxmoust.jobs.parts.inputs import Inputs
from jaxmoust.models import stable_diffusion

RNG = np.random.default_rng(0)
ROWS = {width: RNG.standard_normal((3, width)).astype(np.float32) for width in (16, 32)}


@pytest.fixture(scope="module", params=[1, "xl"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def plain(tmp_path_factory, kind) -> stable_diffusion.Loaded:
    return tiny.make_pipeline(tmp_path_factory.mktemp("tokens"), kind, shallow=True)


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> stable_diffusion.Loaded:
    return tiny.make_pipeline(tmp_path_factory.mktemp("first"), 1, shallow=True)


def ids(loaded: stable_diffusion.Loaded, prompt: str) -> dict[str, list[int]]:
    return {part: of[0].tolist() for part, of in loaded.pipeline.by_part(loaded.pipeline.tokenize([prompt])).items()}


def write(path, **tensors):
    path.parent.mkdir(exist_ok=True)
    safetensors.numpy.save_file({name.replace("any", "*"): x for name, x in tensors.items()}, path)
    return path


def test_word_of_several_vectors_is_as_many_tokens_in_a_row_for_every_encoder(plain, kind, tmp_path):
    """As torch's pipelines read it: "<mine>" of three vectors is "<mine> <mine>_1 <mine>_2"."""
    names = ("clip_l", "clip_g") if kind == "xl" else ("emb_params",)
    file = write(tmp_path / "<mine>.safetensors", **dict.fromkeys(names, ROWS[32]))
    added = stable_diffusion.load_tokens(plain, file)
    before = len(plain.pipeline.tokenizer)
    for part, row in ids(added, "a <mine> cat").items():
        known = ids(plain, "a cat")[part]
        assert row[:7] == [*known[:2], before, before + 1, before + 2, *known[2:4]]
        table = added.params[part]["text_model"]["embeddings"]["token_embedding"]["embedding"]
        assert np.array_equal(table[-3:], ROWS[32]) and len(table) == added.pipeline.modules[part].vocab_size
    texts = stable_diffusion.encode_prompts(added, ["a cat"]), stable_diffusion.encode_prompts(plain, ["a cat"])
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, *texts)))  # what has no new word stays as it was


def test_what_is_saved_with_new_words_reads_them_alike(plain, kind, tmp_path):
    names = ("clip_l", "clip_g") if kind == "xl" else ("<mine>",)
    added = stable_diffusion.load_tokens(
        plain, write(tmp_path / "<mine>.safetensors", **dict.fromkeys(names, ROWS[32]))
    )
    stable_diffusion.save(added, tmp_path / "saved")
    again = stable_diffusion.load(str(tmp_path / "saved"))
    assert ids(again, "a <mine>") == ids(added, "a <mine>") != ids(added, "a cat")


@pytest.mark.parametrize("name", ["<mine>", "<Mine>", "emb_params", "any"])
@pytest.mark.parametrize("shape", [(32,), (1, 32)])
def test_word_is_that_of_the_tensor_or_the_files_name(first, tmp_path, name, shape):
    write(tmp_path / "of_others" / "<mine>.safetensors", **{name: ROWS[32][0].reshape(shape).astype(np.float16)})
    added = stable_diffusion.load_tokens(first, tmp_path / "of_others")
    assert ids(added, "a <mine>")["text_encoder"][2] == len(first.pipeline.tokenizer)
    table = added.params["text_encoder"]["text_model"]["embeddings"]["token_embedding"]["embedding"]
    assert np.array_equal(table[-1], ROWS[32][0].astype(np.float16).astype(np.float32))


def test_words_that_have_no_place_are_refused_with_what_helps(plain, kind, tmp_path):
    whole = dict.fromkeys(("clip_l", "clip_g"), ROWS[32]) if kind == "xl" else {"emb_params": ROWS[32]}
    narrow = dict.fromkeys(whole, ROWS[16])
    cases = (
        ("ph.safetensors", whole, r"the word 'ph': expected one that the tokenizer lacks.*rename the file"),
        ("my word.safetensors", whole, "rename the file"),
        ("<mine>.safetensors", narrow, r"\(3, 16\), expected vectors of this pipeline: of .*32"),
        ("<mine>.safetensors", {"clip_g": ROWS[32]}, "the same for each" if kind == "xl" else "of this pipeline"),
    )
    for name, tensors, said in cases:
        with pytest.raises(ValueError, match=said):
            stable_diffusion.load_tokens(plain, write(tmp_path / name, **tensors))
    for name in ("learned_embeds.bin", "style.pt"):
        (tmp_path / name).write_bytes(b"\x80")
        with pytest.raises(ValueError, match=r"is a pickle(?s:.)*string_to_param") as refused:
            stable_diffusion.load_tokens(plain, tmp_path / name)
        assert re.search(r"\n  python -c .* FILE.pth NEW.safetensors", str(refused.value))


def test_words_of_3_are_refused(tmp_path):
    third = tiny.make_pipeline(tmp_path / "3", "sd3", shallow=True)
    with pytest.raises(ValueError, match="Stable Diffusion 3 reads no new words"):
        stable_diffusion.load_tokens(third, write(tmp_path / "<mine>.safetensors", clip_l=ROWS[32], clip_g=ROWS[32]))


def test_files_of_words_are_a_field_of_every_pipeline(first, tmp_path):
    stable_diffusion.save(first, tmp_path / "pipeline")
    files = [write(tmp_path / f"<{name}>.safetensors", emb_params=ROWS[32][:1]) for name in ("mine", "yours")]
    write(tmp_path / "folder" / "<theirs>.safetensors", emb_params=ROWS[32])
    section = {"path": str(tmp_path / "pipeline"), "tokens": (*map(str, files), str(tmp_path / "folder"))}
    loaded = pipelines.open_pipeline(section, Inputs())
    end = ids(loaded, "")["text_encoder"][1]
    new = [*range(end + 1, end + 6)]  # one, one, and three
    assert ids(loaded, "<mine> <yours> <theirs>")["text_encoder"][1:7] == [*new, end]
    assert "pipeline.tokens" in pipelines.REFERS
