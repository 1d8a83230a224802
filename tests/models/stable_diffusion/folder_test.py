"""The settings of a pipeline's parts: read, or refused before a network is built of them."""

import json

import hostile
import numpy as np
import pytest

from jaxmoust.models.stable_diffusion import lora_files
from jaxmoust.models.stable_diffusion.folder import model_fields, noise_table, read_json
from jaxmoust.models.stable_diffusion.unet import UNet
from jaxmoust.models.stable_diffusion.weights import open_tensors


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_hidden_layers": 10**7}, "num_hidden_layers is 10000000, expected whole numbers up to 1,000"),
        ({"transformer_layers_per_block": [1, 10**7]}, "transformer_layers_per_block is"),
        ({"layers_per_block": -1}, "layers_per_block is -1"),
        ({"layers_per_block": "2"}, "layers_per_block is '2'"),
        ([1], "holds a list, expected an object"),
    ],
)
def test_read_json_refuses_settings_that_no_network_has(tmp_path, settings, said):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=rf"config\.json:? {said}"):
        read_json(tmp_path / "config.json")


def test_read_json_gives_what_networks_have(tmp_path):
    settings = {"layers_per_block": 2, "transformer_layers_per_block": [1, 2, 10], "reverse_layers": None, "x": [1e9]}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert read_json(tmp_path / "config.json") == settings


@pytest.mark.parametrize("value", [None, -1, 0, 0.5, 2**31, 10**400, "x", [], {}, [2] * 2000, float("nan")])
@pytest.mark.parametrize("name", ["block_out_channels", "cross_attention_dim", "norm_num_groups", "attention_head_dim"])
def test_settings_of_other_types_and_sizes_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"unet/config.json: {name} is "):
        model_fields("unet", {name: value}, UNet)


@pytest.mark.parametrize("layers", [1000, [1, 1000]])
def test_layers_that_are_few_each_and_millions_together_are_refused(layers):
    """Each would be built and traced: 32 blocks in 16 levels, each of 1,000 layers."""
    settings = {"layers_per_block": 2, "transformer_layers_per_block": layers, "block_out_channels": [32] * 16}
    with pytest.raises(ValueError, match=r"layers_per_block 2, .* in 16 levels make more than 1,000 layers"):
        model_fields("unet", settings, UNet)
    xl = {"layers_per_block": 2, "transformer_layers_per_block": [1, 2, 10], "block_out_channels": [320, 640, 1280]}
    assert model_fields("unet", xl, UNet)["transformer_layers_per_block"] == (1, 2, 10)


@pytest.mark.parametrize("value", [None, -1, 2**31, 10**400, "x", [], {}, float("nan")])
@pytest.mark.parametrize("name", ["num_train_timesteps", "beta_start", "beta_end", "trained_betas"])
def test_noise_of_odd_numbers_is_refused(name, value):
    scheduler = {"beta_schedule": "scaled_linear", name: value}
    if (name, value) == ("trained_betas", None):
        assert np.isfinite(noise_table(scheduler)[0]).all()
        return
    with pytest.raises(ValueError, match="scheduler: "):
        noise_table(scheduler)


def test_noise_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="leave nothing of an image"):
        noise_table({"beta_end": 0.9})


@pytest.mark.parametrize("content", ["{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', "[]", "x", "[" * 10**5])
def test_index_of_weights_that_names_no_files_is_refused(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        open_tensors(tmp_path, "model")


@pytest.mark.parametrize("make", hostile.SPECIAL[:-1])
def test_weights_that_are_no_plain_file_are_refused(tmp_path, make):
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "odd.safetensors"}}')
    make(tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match=r"odd\.safetensors"):
        open_tensors(tmp_path, "model")
    with pytest.raises(ValueError, match=r"odd\.safetensors"):
        lora_files.load(tmp_path / "odd.safetensors", {})
