"""Six kills of the campaign, in a process that JAX has not been used in."""

import os
import subprocess
import sys
from pathlib import Path


def test_commands_that_are_killed_at_work_end_as_those_that_are_not():
    script = Path(__file__).with_name("kill_campaign.py")
    command = [sys.executable, str(script), "--kills=6", "--verbs=fit,sample,train,score,data import"]
    run = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("went on to the same\n") == 6 and "\n6 of 6 kills landed" in run.stdout
