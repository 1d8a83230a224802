"""The loader's benchmark runs; its figures are for a quiet machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_loader_benchmark_prints_our_own_rates_without_torch():
    command = [sys.executable, "experiments/speed/loader.py", "--quick", "--no-torch"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True)
    assert out.returncode == 0, out.stderr
    assert len(re.findall(r"jaxmoust +[\d,]+ images/s", out.stdout)) == 2 and "torch" not in out.stdout
