"""The machine the tests see: four CPU devices in one process, and programs compiled once across runs.

And what several of them start from: a study that was run once, in its quick variant.
"""

import contextlib
import fcntl
import gc
import json
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import buckets
import pytest

ROOT = Path(__file__).parents[1]

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
if version("jaxlib").startswith("0.10."):  # halves the time of compiling; later ones have no such flag
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Most of the tests' time is compiling. With "0" the compiler does all it does for a user.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


# Linux grants a process 65,530 mappings of memory (vm.max_map_count), each compiled program takes several, and beyond
# them XLA crashes; a worker that runs half of the tests comes near.
MOST_MAPPINGS = 15_000


# Tests that train, sample, draw whole pages or start processes, by the beginning of their path; and those that use the
# study that is run once. `make test-fast` leaves them out.
SLOW = (
    *("assets", "cli", "configs", "experiments", "generate", "jobs", "kill", "models", "notebooks", "resume", "speed"),
    *("train", "data/loading/speed", "data/samplers/speed", "report/browser", "report/html", "runtime/checkpoint"),
    *("runtime/parallel", "study/runner", "core/augment", "analysis/equivalence", "data/loading/workers"),
    *(
        "bucket_runs",
        "runtime/bucket",
        "study/calibrate",
        "study/engines/local",
        "study/engines/ray",
        "study/engines/slurm",
    ),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is slow."""
    for item in items:
        place = item.path.relative_to(ROOT / "tests").as_posix()
        if place.startswith(SLOW) or "quick_study" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Forgets what was compiled when a file of tests ends and there are many mappings."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPPINGS:
        import jax

        jax.clear_caches()
        gc.collect()


@dataclass(frozen=True)
class Outcome:
    """What one command line did: its exit code, and what it wrote to the two streams."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs a command line (after `jaxmoust`) in this process, from the root of the repository."""
    from jaxmoust.cli import call

    monkeypatch.chdir(ROOT)

    def run(line: str, **values: object) -> Outcome:
        capsys.readouterr()
        code = call(shlex.split(line.format(**values)))
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(params=buckets.KINDS)
def bucket_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a new bucket; copies of it lie in the test's folder."""
    from jaxmoust.runtime import bucket_copy

    monkeypatch.setattr(bucket_copy, "cache_folder", lambda: tmp_path / "cache")
    with buckets.serving(request.param, monkeypatch) as url:
        yield url


@dataclass(frozen=True)
class QuickStudy:
    """The quick variant of experiments/quickstart.py with two seeds, done.

    Args:
        workdir: holds results.csv and report/. store: holds the stages.
    """

    workdir: Path
    store: Path

    def stage(self, kind: str, **fields: object) -> Path:
        """The folder of the first stage of a kind whose configuration has these top-level fields, or a method."""
        for path in sorted(self.store.glob(f"{kind}-*")):
            config = json.loads((path / "config.json").read_text())
            config |= {"method": config.get("method", {}).get("name"), "sampler": config.get("sampler", {}).get("name")}
            if all(config[name] == value for name, value in fields.items()):
                return path
        raise LookupError(f"no {kind} stage with {fields} in {self.store}")

    @property
    def generator(self) -> Path:
        """A fitted EDM."""
        return self.stage("fit", method="edm")

    @property
    def made(self) -> Path:
        """A synthetic set called edm: 40 images of the ten digits."""
        return self.stage("sample", name="edm", seed=0)

    @property
    def classifier(self) -> Path:
        """A classifier trained on real images alone."""
        return self.stage("train", sampler="random", seed=0)


@pytest.fixture(scope="session")
def quick_study(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> QuickStudy:
    """Runs the quick study through the command line, once for all tests, those of other workers among them."""
    from jaxmoust.cli import call

    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "quick_study"
    folder.mkdir(exist_ok=True)
    study = QuickStudy(folder / "study", folder / "stages")
    with open(folder / "lock", "w") as lock, contextlib.chdir(ROOT):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (study.workdir / "report").exists():  # what is written last
            args = ["--config=experiments/quickstart.py:quick", "--config.seeds=0,1"]
            assert call(["study", *args, f"--workdir={study.workdir}"]) == 0
    return study
