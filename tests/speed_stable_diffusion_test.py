"""The benchmarks of Stable Diffusion run, and measure the published sizes; their figures are for a quiet machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *flags: str) -> str:
    command = [sys.executable, f"experiments/speed/{script}.py", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("size", ["tiny_sd35"])  # the others go the same way
def test_benchmark_prints_our_own_rates_without_torch(size):
    """Two ways to sample, two ways to train."""
    out = run("stable_diffusion", "--quick", "--no-torch", "--batch_size=4", f"--size={size}")
    rates = re.findall(r"^  jaxmoust +([\d,.]+) images/s +([\d.]+)% of matmul$", out, re.M)
    assert len(rates) == 4 and all(float(rate.replace(",", "")) > 0 for rate, _ in rates)
    assert "torch" not in out


def test_needs_say_how_many_images_fit():
    """Recomputing fits more; what an accelerator of five times the memory holds is more, too."""
    out = run("pipeline_needs", "--size=tiny")
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


def test_needs_are_compared_with_the_compilers():
    """What both say of a small 3.5 is a factor of two apart at most, and equal blocks compile sooner as one."""
    out = run("pipeline_needs", "--size=tiny_sd35", "--plan")
    ratios = [float(ratio) for ratio in re.findall(r"ratio ([\d.]+)$", out, re.M)]
    assert len(ratios) == 3 and 0.5 < ratios[0] < 2 and 0.5 < ratios[1] < 2
    out = run("pipeline_needs", "--size=tiny_sd35", "--compile")
    assert re.findall(r"^tiny_sd35, ([a-z ]+): trace", out, re.M) == ["equal blocks once", "each block"]


def test_loading_is_compared_with_reading(tmp_path):
    out = run("pipeline_load", str(tmp_path / "made"), "--write=tiny_sd3")
    assert len(re.findall(r"^  the (files|pipeline), (from the disk|again): [\d.]+ s, [\d.]+ GB/s$", out, re.M)) == 4
    assert re.search(r"^  at most [\d.]+ times the parameters in memory$", out, re.M)


@pytest.fixture(scope="module")
def pipelines():
    folder = str(ROOT / "experiments" / "speed")
    sys.path.insert(0, folder)
    try:
        import pipelines

        yield pipelines
    finally:
        sys.path.remove(folder)
        sys.modules.pop("pipelines", None)


@pytest.mark.parametrize(
    ("size", "net", "vae"),
    [
        ("sd15", 859_520_964, 83_653_863),
        ("sd21", 865_910_724, 83_653_863),
        ("sdxl", 2_567_463_684, 83_653_863),
        ("sd3_medium", 2_028_328_000, 83_819_683),
        ("sd35_medium", 2_243_171_520, 83_819_683),
        ("sd35_large", 8_056_627_520, 83_819_683),
    ],
)
def test_measured_pipelines_have_the_published_sizes(pipelines, size, net, vae):
    pipeline = pipelines.pipeline_of(size, "bfloat16")
    shapes = pipeline.parameter_shapes()
    counts = [sum(leaf.size for leaf in jax.tree.leaves(shapes[part])) for part in (pipeline.NET, "vae")]
    assert counts == [net, vae]
