"""A study by worker processes: refusals before anything is written, and the same numbers whatever becomes of them."""

import argparse
import csv
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from jaxmoust.cli import call
from jaxmoust.jobs.parts import engines
from jaxmoust.jobs.parts.registry import BadInput
from jaxmoust.runtime import parallel
from jaxmoust.study.store import Store

SMALL = """import ml_collections
from jaxmoust.config import read_config

def get_config(arg=""):
    config = read_config("experiments/quickstart.py:quick") | {"domains": {}, "measures": {}, "seeds": (0,)}
    config["generators"], config["sets"] = ({"edm": config[table]["edm"]} for table in ("generators", "sets"))
    config["arms"] = tuple(arm for arm in config["arms"] if arm["name"] in ("real", "edm_mixed"))
    return ml_collections.ConfigDict(config)
"""
RESOURCES = '[device]\nplatform = "cpu"\n[default]\ndevices = 1\n'
two_cores = pytest.mark.skipif(len(parallel.cores()) < 2, reason="needs two cores")


def chosen(*words):
    """The place that a command line chooses."""
    parser = argparse.ArgumentParser()
    engines.arguments(parser)
    for flag in ("--coordinator", "--store", "--workdir"):
        parser.add_argument(flag, default="")
    with engines.chosen(parser.parse_args(words)) as place:
        return place


@pytest.fixture
def small(tmp_path):
    """The line of a study of four stages."""
    (tmp_path / "small.py").write_text(SMALL)
    return f"study --config={tmp_path}/small.py"


def rows(folder):
    """results.csv but for what differs from run to run."""
    with open(folder / "results.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "device")} for row in csv.DictReader(file)]


def wait_for(condition):
    end = time.monotonic() + 300  # interpreters start on a busy machine
    while not condition():
        assert time.monotonic() < end, "nothing happened for five minutes"
        time.sleep(0.05)


@two_cores
def test_study_whose_worker_is_killed_and_whose_driver_is_stopped_ends_as_in_one_process(small, tmp_path, request):
    root = request.config.rootpath
    os.chdir(root)
    assert call([*small.split(), f"--workdir={tmp_path}/alone/study"]) == 0
    words = [*small.split(), f"--workdir={tmp_path}/two/study", "--workers=2"]
    command = [sys.executable, "-c", "from jaxmoust.cli import main; main()", *words]
    environment, store = {**os.environ, "PYTHONPATH": str(root)}, tmp_path / "two" / "stages"

    def start():
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": root}
        return subprocess.Popen(command, env=environment, **given)

    def log():
        return "".join(path.read_text() for path in store.glob("fit-*/log.txt"))

    with start() as driver:
        wait_for(lambda: "process " in log())
        os.kill(int(re.search(r"process (\d+) on", log())[1]), signal.SIGKILL)
        wait_for(lambda: log().count("process ") == 2)
        driver.send_signal(signal.SIGTERM)
        said = driver.communicate(timeout=300)[0]
    assert driver.returncode == 143, said
    assert (
        re.search(r"the worker of fit-\w+ died; the stage is begun again", said)
        and "the same command continues" in said
    )
    assert not list(store.glob(".*.lease"))
    with start() as driver:
        said = driver.communicate(timeout=600)[0]
    assert driver.returncode == 0, said
    assert rows(tmp_path / "two" / "study") == rows(tmp_path / "alone" / "study")
    assert "images/s" not in said and all((path / "log.txt").exists() for path in store.glob("*-*"))
    again = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert again.returncode == 0 and "4 stages, 4 found, 0 to compute" in again.stdout


@two_cores
def test_dry_run_says_how_wide_a_study_is_and_writes_nothing(cli, small, tmp_path):
    outcome = cli(f"{small} --workdir={tmp_path}/study --workers=2 --dry-run")
    assert outcome.code == 0, outcome
    assert "at once: up to 2 of them; 1 fit, 1 sample, 2 train, each on " in outcome.out
    assert re.search(r"expected: .* in one process, .* with 2 at once for \d of them", outcome.out)
    assert [path.name for path in tmp_path.iterdir()] == ["small.py"]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--workers=0"], "expected at least 1"),
        (["--workers=9999"], "this machine has .* cores. Allowed: 1 to "),
        (["--workers=2", "--coordinator=auto"], "--coordinator goes with neither"),
        (["--engine=slurm", "--coordinator=auto"], "--coordinator goes with neither"),
        (["--ray_address=x:1"], "goes with --engine=ray"),
        (["--engine=ray"], "wants --resources=FILE"),
        (["--resources=absent.toml"], "cannot be read"),
    ],
)
def test_places_that_cannot_be_are_refused(words, said):
    with pytest.raises(BadInput, match=said):
        chosen(*words)


@pytest.mark.parametrize(
    "text, said",
    [
        ("no toml", "is no TOML"),
        ("[device]\nplatform = 'npu'", "device.platform is 'npu', expected "),
        ("[default]\ndevices = 1", "device.platform is missing"),
        ("[device]\nplatform = 'cpu'\n[trian]", "has no field 'trian'. Did you mean 'train'"),
        ("[device]\nplatform = 'cpu'\n[fit]\ndevcies = 2", "fit has no field 'devcies'. Did you mean 'devices'"),
        ("[device]\nplatform = 'cpu'\n[fit]\ndevices = 0", "fit.devices is 0"),
        ("device = 3", "device is 3, expected a table"),
        ("[device]\nplatform = 'cpu'\n[fit]\ndevices = 9999", "fit.devices is 9999, and this machine has"),
        ("[device]\nplatform = 'gpu'", "is of a gpu, and this machine has"),
        ("[device]\nplatform = 'cpu'\n[train]\nparts = 2", "train.parts is 2, .*Only sets, and adapters by class"),
        ("[device]\nplatform = 'cpu'\n[sample]\nparts = 2\nhosts = 2", "sample.parts is 2, with sample.hosts 2"),
        ("[device]\nplatform = 'cpu'\n[fit]\nhosts = 2", "fit.hosts is 2, and this is one machine.*--engine=slurm"),
    ],
)
def test_resources_that_cannot_be_are_refused(text, said, tmp_path):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(BadInput, match=re.escape(str(tmp_path)) + ".*" + said):
        chosen(f"--resources={tmp_path}/r.toml")


def test_workers_and_resources_are_one_or_the_other(tmp_path):
    (tmp_path / "r.toml").write_text(RESOURCES)
    with pytest.raises(BadInput, match="give one"):
        chosen(f"--resources={tmp_path}/r.toml", "--workers=2")


def test_resources_say_what_a_stage_has_here_and_elsewhere(tmp_path):
    (tmp_path / "r.toml").write_text(
        "[device]\nplatform = 'gpu'\nkind = 'NVIDIA H200'\nmemory_gb = 141\n[default]\ncpus = 4\nhours = 1.5\n"
        "[fit]\ndevices = 8\nmemory_gb = 64\nhosts = 2\n"
        "[slurm]\nslurm_partition = 'a'\n[ray]\naccelerator_type = 'H200'\n"
    )
    resources = engines.read_resources(f"{tmp_path}/r.toml")
    assert resources.slurm_options("fit") == {
        **{"gpus_per_node": 8, "cpus_per_task": 4, "mem_gb": 64.0, "timeout_min": 90, "slurm_partition": "a"},
        **{"nodes": 2, "tasks_per_node": 1},
    }
    assert resources.count_of("fit") == 16
    assert resources.ray_options("train") == {"num_gpus": 1, "num_cpus": 4, "accelerator_type": "H200"}


def test_resources_of_the_manual_are_read(request):
    resources = engines.read_resources(f"{request.config.rootpath}/docs/cluster/resources.toml")
    assert resources.ray_options("fit") == {"num_gpus": 8, "num_cpus": 32, "memory": 32 * 10**9}
    assert resources.parts["sample"] == 4 and resources.parts["train"] == 1 and resources.count_of("fit") == 8
    assert resources.slurm_options("train")["timeout_min"] == 480 and resources.device.kind == "NVIDIA H200"


def test_resources_of_workers_on_kubernetes_fit_them(request):
    folder = request.config.rootpath / "docs/cluster"
    job = (folder / "kuberay.yaml").read_text()
    (has,), (_, of_worker) = re.findall(r'nvidia.com/gpu: "(\d+)"', job), re.findall(r'cpu: "(\d+)"', job)
    resources = engines.read_resources(str(folder / re.search(r"--resources=docs/cluster/(\S+)", job)[1]))
    for kind in engines.KINDS:
        asked = resources.ray_options(kind)
        assert asked["num_gpus"] <= int(has) and asked["num_cpus"] <= int(of_worker)


def test_a_bucket_under_slurm_wants_a_scratch_folder_that_nodes_share(monkeypatch, tmp_path):
    monkeypatch.delenv("JAXMOUST_SCRATCH", raising=False)
    (tmp_path / "r.toml").write_text(RESOURCES)
    words = ("--engine=slurm", f"--resources={tmp_path}/r.toml")
    with pytest.raises(BadInput, match=r"every node must see.*--scratch=DIR"):
        chosen(*words, "--store=s3://bucket/stages")
    monkeypatch.setenv("JAXMOUST_SCRATCH", str(tmp_path))
    assert chosen(*words, "--store=s3://bucket/stages").shared


def test_store_without_locks_between_machines_is_refused_to_a_cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "own_locks", lambda folder: "fuse.gcsfuse")
    place = engines.Place(lambda store: pytest.fail("made"), shared=True)
    with pytest.raises(BadInput, match=r"fuse.gcsfuse.* keeps locks on each machine"):
        place.engine(Store(Path(tmp_path), lambda stage, folder: {}))


@pytest.mark.parametrize("where", ["there", "there/stages", "link/runs/stages"])
def test_the_disk_of_a_store_is_that_of_its_real_folder(tmp_path, monkeypatch, where):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    mounted = str((tmp_path / "there").resolve())
    monkeypatch.setattr(engines, "own_locks", lambda folder: f"{folder}/".startswith(f"{mounted}/") and "fuse")
    place = engines.Place(lambda store: "made", shared=True)
    with pytest.raises(BadInput, match=r"\(fuse\) that keeps locks on each machine"):
        place.engine(Store(tmp_path / where, lambda stage, folder: {}))
    assert place.engine(Store(tmp_path / "stages", lambda stage, folder: {})) == "made"


def test_process_that_plans_for_other_devices_has_as_many_and_speaks_of_them(monkeypatch):
    monkeypatch.setattr(parallel, "_cpu_devices_are_set", lambda: False)
    others = parallel.Devices("gpu", ("0", "1", "2", "3"), "NVIDIA H200", 10**9)
    try:
        parallel.plan_for(others, 4)
        with parallel.planning(2):
            machine = parallel.Machine.all()
            assert machine.description == "2 x NVIDIA H200 (gpu)" and machine.memory_bytes == 10**9
            with pytest.raises(ValueError, match="cannot be split over 2 devices"):
                machine.per_device(3)
        assert parallel.Machine.all().num_devices == 4 and parallel.stands_in()
        with pytest.raises(ValueError, match="fewer than 99"):
            parallel.plan_for(others, 99)
    finally:
        parallel.plan_for(None)
    assert not parallel.stands_in() and "cpu" in parallel.Machine.all().description


def test_environment_of_a_worker_shows_it_its_devices_alone(monkeypatch):
    monkeypatch.setattr(parallel, "_cpu_devices_are_set", lambda: False)
    assert parallel.Devices("gpu", ()).environment(("2", "GPU-1")) == {"CUDA_VISIBLE_DEVICES": "2,GPU-1"}
    assert parallel.Devices("cpu", ()).environment(("0", "1", "2")) == {"JAX_NUM_CPU_DEVICES": "2"}
    chips = parallel.Devices("tpu", ()).environment(("0", "1"))
    assert chips["TPU_VISIBLE_CHIPS"] == "0,1" and chips["TPU_CHIPS_PER_PROCESS_BOUNDS"] == "1,2,1"
    with pytest.raises(ValueError, match="3 chips"):
        parallel.Devices("tpu", ()).environment(("0", "1", "2"))


def test_accelerators_are_counted_without_opening_them(monkeypatch):
    assert parallel.accelerators() == 0  # the tests' JAX is of CPUs
    any_platform = types.SimpleNamespace(config=types.SimpleNamespace(jax_platforms=None))
    monkeypatch.setattr(parallel, "jax", any_platform)
    for visible, count in (("", 0), ("0,3", 2), ("GPU-a,GPU-b,GPU-c", 3), ("-1", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert parallel.accelerators() == count
