"""The benchmarks of training and sampling run; their figures are for a quiet machine."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *flags: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, f"experiments/speed/{script}.py", "--quick", *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)


@pytest.mark.parametrize("script", ["train", "generate", "features"])
def test_benchmark_prints_our_own_rates_without_torch(script):
    only = ["--only=vit_s"] if script == "train" else []  # the others compile for minutes, also when small
    done = run(script, "--no-torch", *only)
    assert done.returncode == 0, done.stderr
    ((rate, _),) = re.findall(r"^  jaxmoust +([\d,.]+) images/s +([\d.]+)% of matmul$", done.stdout, re.M)
    assert float(rate.replace(",", "")) > 0
    assert "torch" not in done.stdout


@pytest.mark.parametrize("script", ["train", "generate"])
def test_benchmark_refuses_a_folder_that_is_no_checkout(script, tmp_path):
    pytest.importorskip("torch")
    done = run(script, f"--edm={tmp_path}", *(["--only=edm"] if script == "train" else []))
    assert done.returncode != 0 and "no checkout of NVlabs/edm" in done.stderr


def test_benchmark_of_seeds_compares_one_program_with_several():
    done = run("seeds", "--seeds=2")
    assert done.returncode == 0, done.stderr
    (apart,) = re.findall(r"parameters apart by (\S+) of the largest", done.stdout)
    assert float(apart) < 1e-5  # float32, five updates
    assert re.search(r"^2 seeds: [\d.]+ updates/s in turn, [\d.]+ in one program, [\d.]+x$", done.stdout, re.M)


def test_benchmark_of_fidelity_prints_a_line_for_each_metric():
    done = run("fidelity")
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^(.+): [\d.]+ s \([\d.]+ s of processor time\), peak [\d.]+ GiB$", done.stdout, re.M)
    assert len(lines) == 5 and "FID" in lines


def test_benchmark_of_accelerators_runs_every_line(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "experiments/speed/accelerator.py", "--tiny", "--no-torch", f"--json={tmp_path}/a.json"]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [row["line"] for row in rows if "error" in row] == []
    assert len(rows) == 10 and len({row["line"] for row in rows}) == 10
    assert all(row["images_per_sec"] > 0 and "cpu" in row["device"] for row in rows)
    assert sum(row.get("share", 0) > 0 for row in rows) == 6
    assert len(done.stdout.splitlines()) == 11
