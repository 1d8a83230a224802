"""The benchmark of Stable Diffusion runs, and measures the published sizes; its figures are for a quiet machine."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]


def run(*flags: str) -> str:
    command = [sys.executable, "experiments/speed/stable_diffusion.py", "--quick", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_benchmark_prints_our_own_rates_without_torch():
    """Two ways to draw, two ways to train."""
    out = run("--no-torch", "--batch_size=4")
    rates = re.findall(r"^  jaxmoust +([\d,.]+) images/s +([\d.]+)% of matmul$", out, re.M)
    assert len(rates) == 4 and all(float(rate.replace(",", "")) > 0 for rate, _ in rates)
    assert "torch" not in out


def test_sizes_say_how_many_images_fit():
    """Recomputing fits more; what an accelerator of five times the memory holds is more, too."""
    out = run("--sizes")
    found = re.findall(r"^  ([\w, .]+): 16 GiB: (\d+); 80 GiB: (\d+); each image", out, re.M)
    fits = {title: (int(small), int(large)) for title, small, large in found}
    assert set(fits) == {
        "full",
        "full, remat",
        "lora",
        "lora, remat",
        "sampling, guidance 1.0",
        "sampling, guidance 7.5",
    }
    assert all(small < large for small, large in fits.values())
    assert fits["full"] < fits["full, remat"] and fits["lora"] < fits["lora, remat"]
    assert fits["sampling, guidance 7.5"] <= fits["sampling, guidance 1.0"]  # equal where the decoder needs most


@pytest.fixture(scope="module")
def script():
    folder = ROOT / "experiments" / "speed"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("speed_stable_diffusion", folder / "stable_diffusion.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("size", "unet", "text"), [("sd15", 859_520_964, 123_060_480), ("sd21", 865_910_724, 340_387_840)]
)
def test_measured_pipelines_have_the_published_sizes(script, size, unet, text):
    shapes = script.pipeline_of(size, "bfloat16").parameter_shapes()
    counts = {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in shapes.items()}
    assert counts == {"unet": unet, "vae": 83_653_863, "text_encoder": text}
