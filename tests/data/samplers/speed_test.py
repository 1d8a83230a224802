"""The samplers' benchmark runs, case by case; its figures are for a quiet machine."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "experiments" / "speed" / "samplers.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("samplers_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_samplers_benchmark_measures_every_one_of_ours(script):
    for name in script.OURS:
        found = script.CASES[f"ours: {name}"](0.001)
        assert found["keys_per_s"] > 0 and found["first_ms"] > 0, name


def test_samplers_benchmark_measures_grain(script):
    assert script.CASES["grain: shuffle + mix"](0.001)["one_us"] > 0
