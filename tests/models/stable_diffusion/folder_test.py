"""The settings of a pipeline's parts: read, or refused before a network is built of them."""

import json

import pytest

from jaxmoust.models.stable_diffusion.folder import read_json


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_hidden_layers": 10**7}, "num_hidden_layers is 10000000; allowed are whole numbers up to 1,000"),
        ({"transformer_layers_per_block": [1, 10**7]}, "transformer_layers_per_block is"),
        ({"layers_per_block": -1}, "layers_per_block is -1"),
        ({"layers_per_block": "2"}, "layers_per_block is '2'"),
        ([1], "holds a list, allowed is an object"),
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
