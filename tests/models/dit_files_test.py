"""Parity of an imported DiT with diffusers' torch class, and what is refused; dit_torch.py made dit_parity.npz."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from public_dits import CLASSES, CONFIG, DEPTH, WIDTH, as_paper, inputs, save_folder, tensors

from jaxmoust.core.tree import named_leaves
from jaxmoust.models.dit import DiT, positions
from jaxmoust.models.dit_files import is_dit, read_dit

TABLE = positions(4, 4, WIDTH)


def answer(got, learn_variance=True):
    """What the imported network answers; with its variance, whose channels come after the others."""
    fields = {k: v for k, v in got.sections["model"].items() if k != "name"}
    channels = got.image_shape[-1]
    net = DiT(out_channels=channels, num_classes=got.num_classes, **fields)
    if learn_variance:
        net = net.clone(out_channels=2 * channels, learn_variance=False)
    x, timestep, label = inputs()
    return jax.jit(net.apply)({"params": got.params}, x, jnp.asarray(timestep, jnp.float32), jnp.asarray(label))


@pytest.fixture(scope="module")
def got(tmp_path_factory):
    return read_dit(save_folder(tmp_path_factory.mktemp("dit"), tensors()))


def test_imported_network_answers_as_diffusers_class(got):
    """At timesteps from the first to the last, of classes and of none; the project's bound for parity."""
    with np.load(Path(__file__).with_name("dit_parity.npz")) as file:
        expected = file["answer"]
    assert expected.std() > 0.5
    np.testing.assert_allclose(answer(got), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(answer(got, learn_variance=False), expected[..., :4], rtol=0, atol=1e-4)


def test_sizes_and_schedule_are_read_off_the_folder(got):
    model, method = got.sections["model"], got.sections["method"]
    assert (model["width"], model["depth"], model["num_heads"], model["patch_size"]) == (WIDTH, DEPTH, 2, 2)
    assert (got.num_classes, got.image_shape) == (CLASSES, (8, 8, 4))
    assert (method["name"], method["num_timesteps"], method["label_dropout"]) == ("ddpm", 1000, 0.1)


def test_file_of_the_papers_code_holds_the_same_network(got, tmp_path):
    """Its time is embedded by other frequencies than in diffusers' class, and so nothing else differs."""
    file = tmp_path / "DiT.safetensors"
    safetensors.numpy.save_file(as_paper(tensors(), TABLE), file)
    found = read_dit(file)
    one, two = named_leaves(got.params), named_leaves(found.params)
    assert one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)
    assert found.sections["model"] == {**got.sections["model"], "wave_shift": 0}
    assert found.image_shape == got.image_shape and is_dit(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norm_type": "ada_norm"}, "norm_type is 'ada_norm'"),
        ({"activation_fn": "gelu"}, "activation_fn is 'gelu'"),
        ({"cross_attention_dim": 768}, "cross_attention_dim is 768"),
        ({"out_channels": 5}, "out_channels is 5"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"sample_size": [8, 8]}, "sample_size is"),
        ({"num_layers": 2}, "not wanted by the model: transformer_blocks.2."),
        ({"attention_head_dim": 32}, "another shape"),
    ],
)
def test_settings_of_another_network_are_named(tmp_path, change, said):
    folder = save_folder(tmp_path / "dit", tensors(), {**CONFIG, **change})
    assert is_dit(folder)
    with pytest.raises(ValueError, match=said):
        read_dit(folder)


def test_tensors_of_another_network_are_named(tmp_path):
    drawn = tensors()
    with pytest.raises(ValueError, match="knows 5 classes, expected 7"):
        read_dit(save_folder(tmp_path / "classes", drawn), 7)
    name = "transformer_blocks.1.norm1.emb.timestep_embedder.linear_1.bias"
    with pytest.raises(ValueError, match=f"{name} is not that of block 0"):
        read_dit(save_folder(tmp_path / "shared", {**drawn, name: 1 + drawn[name]}))
    paper = as_paper(drawn, TABLE)
    for spoilt, said in (
        ({**paper, "pos_embed": 1 + paper["pos_embed"]}, "pos_embed is not the table"),
        ({k: v for k, v in paper.items() if k != "blocks.1.mlp.fc1.bias"}, r"missing.*blocks\.1\.mlp\.fc1\.bias"),
        ({k: v for k, v in paper.items() if k != "pos_embed"}, "lacks what says"),
    ):
        safetensors.numpy.save_file(spoilt, tmp_path / "spoilt.safetensors")
        with pytest.raises(ValueError, match=said):
            read_dit(tmp_path / "spoilt.safetensors")
