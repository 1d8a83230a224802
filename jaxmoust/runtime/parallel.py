"""The only file that knows devices: which there are, and how one program runs on all of them.

Data parallelism by `pmap` over every device of every process. State and parameters are one logical copy,
placed once as a replicated global array (`Machine.replicate`) and passed with `in_axes=None`; the batch is
split. What a parallel function returns is either reduced over the devices (`mean`, `gather`) and so the same
everywhere, or kept per device (`Machine.map`). Nothing else in the package names a device, an axis or a process.
"""

import contextlib
import functools
import gc
import json
import math
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax._src import clusters, distributed, xla_bridge  # what of these is used here has no public name
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmoust.runtime import processes, stop
from jaxmoust.runtime.paths import cache_folder

AXIS = "devices"

# Linux grants a process 65,530 mappings of memory (vm.max_map_count); a compiled program takes hundreds, and XLA aborts
# where there are no more. A training of a new network takes some 270, and 14 MB.
_MOST_MAPPINGS = 6_000

_ASK_SECS = 2.0  # about as often processes that work in step ask each other whether to stop
_MOST_SAID = 16_384  # bytes of what one process tells the others of an error
_DEAD_SECS = 30  # after which JAX believes that a process which says nothing is gone
_FRESH = "Processes are joined before anything else uses JAX, each in a fresh Python process."
_STOP_KEY = "jaxmoust/stop"  # in the memory that JAX's service keeps for all processes


def initialize(
    coordinator: str = "", num_processes: int = 0, process_id: int = -1, say: Callable[[str], object] = print
) -> None:
    """Joins this process to the others of a multi-process run; call it before any other use of JAX.

    Args:
        coordinator: `host:port` of process 0, or "auto" where the platform knows (TPU pods, SLURM).
        num_processes, process_id: the size of the run and this process's number; ignored with "auto".
        say: receives a line of text while it waits for others, which names them.
    Raises: ValueError: a coordinator that is no HOST:PORT, an impossible process number, processes that do not come,
        JAX in use already, or no cluster that "auto" knows.
    """
    # JAX's own preemption service would take SIGTERM away from runtime/stop.py, whatever is installed first.
    jax.config.update("jax_enable_preemption_service", False)
    stop.always_defer()
    if coordinator == "auto":
        _refuse_in_use()
        known: Any = clusters.ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, _DEAD_SECS)
        if None in known[:3]:
            raise ValueError("coordinator auto: this is no TPU pod and no job of SLURM that JAX knows. Give HOST:PORT.")
        coordinator, num_processes, process_id = known[:3]
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(
            f"coordinator {coordinator!r}: give HOST:PORT, such as localhost:1234, where process 0 listens; or auto."
        )
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"process_id {process_id} of num_processes {num_processes}: give both, with "
            "0 <= process_id < num_processes, or --coordinator=auto on a TPU pod or under SLURM."
        )
    _refuse_in_use()  # before anybody is waited for
    processes.meet(host.strip("[]"), int(port), process_id, num_processes, say)
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, heartbeat_timeout_seconds=_DEAD_SECS, shutdown_timeout_seconds=300
        )
    except (RuntimeError, ValueError) as e:
        raise ValueError(f"the processes cannot be joined: {e} {_FRESH}") from e
    threading.Thread(target=_pass_on, args=(distributed.global_state.client,), daemon=True).start()


def _refuse_in_use() -> None:
    if xla_bridge.backends_are_initialized():
        raise ValueError(f"JAX is in use already. {_FRESH}")


def _pass_on(client: Any) -> None:
    """Tells the other processes of a run once this one was asked to stop, whatever it is doing."""
    while not stop.requested():
        time.sleep(_ASK_SECS / 4)
    _tell(client)


def _tell(client: Any) -> None:
    with contextlib.suppress(Exception):  # at the end of everything the service may be gone
        client.key_value_set(_STOP_KEY, "1", allow_overwrite=True)


def stop_requested() -> bool:
    """Whether this process was asked to stop, or another one of its run: for work that processes do each by itself."""
    client, asked = distributed.global_state.client, stop.requested()
    if client is None:
        return asked
    if asked:
        _tell(client)  # now: the caller leaves its work, and the others would work on until JAX's service gives up
        return True
    try:
        return bool(client.key_value_try_get(_STOP_KEY))
    except jax.errors.JaxRuntimeError:  # nobody was
        return False


class Pace:
    """When processes that work in step ask each other whether to stop: at calls that all count alike.

    Asking costs a message between all, so they do it about every two seconds, by the first one's clock.
    """

    def __init__(self, machine: "Machine"):
        self._machine, self._left, self._every, self._asked = machine, 1, 1, time.monotonic()

    def stop(self) -> bool:
        """Whether any process was asked to stop; every process calls it as often."""
        if self._machine.process_count == 1:
            return stop.requested()
        self._left -= 1
        if self._left:
            return False
        secs = max(1e-6, time.monotonic() - self._asked) / self._every
        every = int(min(max(1.0, _ASK_SECS / secs), 4.0 * self._every))
        answers = self._machine.answers([stop.requested(), every])
        self._left = self._every = int(answers[0, 1])
        self._asked = time.monotonic()
        return bool(answers[:, 0].any())


def enable_compilation_cache(folder: str | os.PathLike = "") -> None:
    """Keeps compiled programs in a folder, so that no process compiles again what an earlier one did.

    A folder that JAX was already given (JAX_COMPILATION_CACHE_DIR) wins; one that cannot be made is no error.

    Args: folder: by default xla/ in JAXMOUST_CACHE, or in ~/.cache/jaxmoust.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None):
        return
    try:
        folder = Path(folder or cache_folder() / "xla")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return
    jax.config.update("jax_compilation_cache_dir", os.fspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def forget_programs(most_mappings: int = _MOST_MAPPINGS) -> bool:
    """Forgets what was compiled, once that is much; call it between two pieces of work that may have nothing in common.

    Alike pieces of work add no programs, so nothing is compiled again between them.

    Args: most_mappings: how many mappings of memory may be added since it last forgot, or was first asked.
    Returns: whether it forgot.
    """
    if (now := _num_mappings()) <= _mappings.setdefault("kept", now) + most_mappings:
        return False
    jax.clear_caches()
    gc.collect()
    _mappings["kept"] = _num_mappings()
    return True


_mappings: dict[str, int] = {}


def _num_mappings() -> int:
    """The mappings of memory of this process; 0 where the system does not say, and has no such limit."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return 0


def check_seed(seed: int) -> None:
    """Refuses a seed that does not fit what devices make keys of. Raises ValueError."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed {seed}: expected whole numbers from 0 to 2^32 - 1.")


def use_all_cores() -> None:
    """Makes each core of a machine without accelerator one device (the largest power of two, at most 8).

    XLA runs the small operations of a small network on one core, so a batch split over the cores is nearly as many
    times faster. Call it before any other use of JAX: where that is in use already, as in a notebook, the devices that
    there are stay. So does what was set by JAX_NUM_CPU_DEVICES or XLA_FLAGS.
    """
    if not _cpu_devices_are_set():
        with contextlib.suppress(RuntimeError):  # JAX is in use
            jax.config.update("jax_num_cpu_devices", cpu_devices(len(cores())))


def _cpu_devices_are_set() -> bool:
    return getattr(jax.config, "jax_num_cpu_devices", 0) > 0 or "device_count" in os.environ.get("XLA_FLAGS", "")


def cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def cpu_devices(num_cores: int) -> int:
    """How many devices so many cores are: the largest power of two, at most 8."""
    return 2 ** min(3, int(math.log2(num_cores)))


@dataclass(frozen=True)
class Devices:
    """Devices that processes of their own shall have, which this one has not opened.

    Args:
        platform: "gpu", "tpu" or "cpu". names: what tells one from another: of CPUs, the numbers of cores.
        kind: of one, in words. memory_bytes: of one.
    """

    platform: str
    names: tuple[str, ...]
    kind: str = ""
    memory_bytes: int = 0

    def environment(self, names: tuple[str, ...]) -> dict[str, str]:
        """What a process has in its environment that shall see some of them only.

        Source: JAX's documentation of GPUs; of a TPU's chips, that of libtpu, which was not tried.
        Raises: ValueError: so many chips of a TPU are no block.
        """
        if self.platform == "cpu":
            return {} if _cpu_devices_are_set() else {"JAX_NUM_CPU_DEVICES": f"{cpu_devices(len(names))}"}
        if self.platform == "gpu":
            return {"CUDA_VISIBLE_DEVICES": ",".join(names)}
        blocks = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
        if len(names) not in blocks:
            raise ValueError(f"{len(names)} chips of a TPU are no block. Allowed: {', '.join(map(str, blocks))}.")
        return {
            "TPU_VISIBLE_CHIPS": ",".join(names),
            "TPU_CHIPS_PER_PROCESS_BOUNDS": blocks[len(names)],
            "TPU_PROCESS_BOUNDS": "1,1,1",
        }


def accelerators() -> int:
    """How many GPUs or chips of a TPU this machine seems to have, without opening them; a user may hide some."""
    if getattr(jax.config, "jax_platforms", None) == "cpu":
        return 0
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len(_listed(visible))
    names = [path.name for path in Path("/dev").glob("*")] + [
        f"accel{path.name}" for path in Path("/dev/vfio").glob("*")
    ]
    return max(sum(bool(re.fullmatch(rf"{kind}\d+", name)) for name in names) for kind in ("nvidia", "accel"))


def _listed(names: str) -> list[str]:
    return [name for name in names.split(",") if name and name != "-1"]


def survey() -> Devices:
    """What devices a process of its own would have here; asks one, so that this one opens none.

    Raises: ValueError: JAX finds none, and what it says.
    """
    if not accelerators():
        return Devices("cpu", tuple(map(str, cores())))
    command = [sys.executable, "-c", f"from {__name__} import tell_devices; tell_devices()"]
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode:
        raise ValueError(f"JAX cannot open the devices of this machine: {asked.stderr.strip()[-500:]}")
    platform, kind, count, memory = json.loads(asked.stdout.splitlines()[-1])
    if platform == "cpu":
        return Devices("cpu", tuple(map(str, cores())))
    visible = _listed(os.environ.get("CUDA_VISIBLE_DEVICES", "")) if platform == "gpu" else []
    return Devices(platform, tuple(visible or map(str, range(count))), kind, memory)


def tell_devices() -> None:
    """Prints what devices this process has, for `survey`."""
    machine = Machine.all()
    first = machine.devices[0]
    print(json.dumps([first.platform, first.device_kind, machine.num_devices, machine.memory_bytes]))


def plan_for(devices: Devices | None, most: int = 0) -> None:
    """Makes this process one that plans for others: it opens no accelerator, and checks what their devices hold.

    Call it before any other use of JAX.

    Args: devices: those that the others will have; None: it plans no more. most: how many one of them has at most.
    Raises: ValueError: JAX is in use already, with fewer devices.
    """
    global _planned
    _planned = None if devices is None else (devices, None)
    if devices is None:
        return
    count = _number(devices, most)
    with contextlib.suppress(RuntimeError):  # JAX is in use
        jax.config.update("jax_platforms", "cpu")
        if count:
            jax.config.update("jax_num_cpu_devices", count)
    if len(jax.devices()) < (count or 1):
        _planned = None
        raise ValueError(f"JAX is in use already, with fewer than {count} devices. {_FRESH}")


@contextlib.contextmanager
def planning(count: int | None) -> Iterator[None]:
    """In a process that plans for others, has so many of their devices while a block lasts; None: all."""
    global _planned
    before = _planned
    try:
        if before and count:
            _planned = before[0], _number(before[0], count)
        yield
    finally:
        _planned = before


def stands_in() -> bool:
    """Whether this process plans for devices that it does not have itself."""
    return _planned is not None and _planned[0].platform != "cpu"


def _number(devices: Devices, count: int) -> int | None:
    """How many devices of JAX so many are: fewer than cores; None: as many as were set."""
    if devices.platform != "cpu":
        return count
    return None if _cpu_devices_are_set() else cpu_devices(count)


_planned: tuple[Devices, int | None] | None = None


def mean(tree: Any) -> Any:
    """Averages every leaf over the devices; inside a function run by `Machine.parallel`."""
    return jax.lax.pmean(tree, AXIS)


def gather(tree: Any) -> Any:
    """Joins every leaf [b, ...] of the devices to [D * b, ...], in device order; inside `Machine.parallel`."""
    return jax.lax.all_gather(tree, AXIS, tiled=True)


class FailedElsewhere(ValueError):
    """Another process of this run refuses, or failed; in its words."""


@dataclass(frozen=True)
class Machine:
    """A set of devices that runs one program in step. Hashable, so it can key a cache of compiled functions.

    Args:
        devices: the devices in order; of all processes (`Machine.all`) or of this one (`Machine.local`).
    """

    devices: tuple[jax.Device, ...]

    @classmethod
    def all(cls) -> "Machine":
        """Every device of every process; in one that plans for others, as many as they will have."""
        return cls(tuple(jax.devices()[: _planned[1] if _planned else None]))

    @classmethod
    def local(cls, num_devices: int = 0) -> "Machine":
        """The first `num_devices` devices of this process alone (0: all of them); no other process takes part."""
        devices = jax.local_devices()
        if num_devices > len(devices):
            raise ValueError(f"num_devices {num_devices}: this process has {len(devices)}. Ask for at most that.")
        return cls(tuple(devices[: num_devices or None]))

    @property
    def num_devices(self) -> int:
        """D, over all processes that take part."""
        return len(self.devices)

    @property
    def local_devices(self) -> tuple[jax.Device, ...]:
        """The devices of this process."""
        return tuple(d for d in self.devices if d.process_index == jax.process_index())

    @property
    def process_count(self) -> int:
        """How many processes take part."""
        return len({d.process_index for d in self.devices})

    @property
    def process_index(self) -> int:
        """This process's number among those that take part, from 0."""
        return sorted({d.process_index for d in self.devices}).index(jax.process_index())

    @property
    def primary(self) -> bool:
        """Whether this process writes what is written once."""
        return self.process_index == 0

    @property
    def description(self) -> str:
        """The devices in words, such as `4 x NVIDIA H200 (gpu)` or `1 x x86_64 (cpu, 2 cores)`."""
        first = self.devices[0]
        if _planned and _planned[0].kind:
            return f"{self.num_devices} x {_planned[0].kind} ({_planned[0].platform})"
        if first.platform == "cpu":
            return f"{self.num_devices} x {platform.machine()} (cpu, {os.cpu_count()} cores)"
        return f"{self.num_devices} x {first.device_kind} ({first.platform})"

    @property
    def memory_bytes(self) -> int:
        """The memory of the smallest device of this process that JAX may use; of CPUs, that of the whole machine."""
        if _planned and _planned[0].memory_bytes:
            return _planned[0].memory_bytes
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return min((device.memory_stats() or {}).get("bytes_limit", whole) for device in self.local_devices)

    def check_memory(self, what: str, num_bytes: float) -> None:
        """Refuses, by arithmetic and before any of it is taken, what a device cannot hold. Raises ValueError."""
        if num_bytes > self.memory_bytes:
            takes, has = num_bytes / 2**30, self.memory_bytes / 2**30
            raise ValueError(f"{what} takes {takes:,.1f} GiB, and this machine cannot hold more than {has:,.1f} GiB.")

    def per_device(self, batch_size: int, what: str = "batch_size") -> int:
        """The images of a global batch that one device gets. Raises ValueError when they do not come out even."""
        if batch_size < 1 or batch_size % self.num_devices:
            lower = max(1, batch_size // self.num_devices) * self.num_devices
            raise ValueError(
                f"{what} {batch_size} cannot be split over {self.num_devices} devices. "
                f"Allowed: multiples of {self.num_devices}, such as {lower}."
            )
        return batch_size // self.num_devices

    @functools.cached_property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(Mesh(np.array(self.devices), (AXIS,)), PartitionSpec())

    def replicate(self, tree: Any) -> Any:
        """Places a tree of host or device arrays as one replicated global array a leaf.

        Always copies, so that the result may be donated while the argument lives on.
        """
        if self.process_count == 1:
            return jax.tree.map(lambda x: jax.device_put(np.array(x), self._replicated), tree)
        place = functools.partial(jax.make_array_from_process_local_data, self._replicated)
        return jax.tree.map(lambda x: place(np.array(x)), tree)

    def split(self, batch: Any) -> Any:
        """Reshapes a process's slice of a batch, a tree of [b, ...], one row a device: [D_local, b / D_local, ...]."""
        d = len(self.local_devices)
        return jax.tree.map(lambda v: np.reshape(v, (d, v.shape[0] // d, *v.shape[1:])), batch)

    def parallel(self, fn: Callable, num_replicated: int, donate: tuple[int, ...] = ()) -> Callable:
        """Compiles `fn(*replicated, batch)` whose result is the same on every device.

        Args:
            fn: reduces what differs between devices itself, by `mean` or `gather`.
            num_replicated: how many leading arguments are one logical copy (`replicate`); the last is split.
            donate: which arguments give their memory to the result.
        """
        axes = (None,) * num_replicated + (0,)
        return jax.pmap(fn, AXIS, in_axes=axes, out_axes=None, donate_argnums=donate, devices=list(self.devices))

    def map(self, fn: Callable, num_replicated: int) -> Callable:
        """Compiles `fn(*replicated, batch)` whose result [D_local, b, ...] each device keeps for its own rows."""
        axes = (None,) * num_replicated + (0,)
        return jax.pmap(fn, AXIS, in_axes=axes, out_axes=0, devices=list(self.devices))

    def answers(self, values: list[int]) -> np.ndarray:
        """What every process says, [P, len(values)], numbers below 2^31; every process must ask at the same step."""
        own = np.array(values, np.int32)
        return own[None] if self.process_count == 1 else np.asarray(multihost_utils.process_allgather(own))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; every process must ask at the same step."""
        return bool(self.answers([flag]).any())

    def agree(self, flag: bool) -> bool:
        """What the primary process says; every process must ask at the same step."""
        return bool(self.answers([flag])[0, 0])

    def differing(self, value: int) -> list[int]:
        """The processes that say another number than the primary one; every process must ask at the same step."""
        answers = self.answers([value])[:, 0]
        return [int(i) for i in np.flatnonzero(answers != answers[0])]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A block that each process works through by itself, asking nothing of others: what one raises, ends it in all.

        They are in step at its end. What is raised here is raised as it is.

        Raises: stop.Stopped, FailedElsewhere: another process was asked to stop, or refuses or failed, in its words.
        """
        error: BaseException | None = None
        try:
            yield
        except (Exception, stop.Stopped) as e:
            if self.process_count == 1:
                raise
            error = e
        if self.process_count == 1:
            return
        how = self.answers([0 if error is None else 2 if isinstance(error, stop.Stopped) else 1])[:, 0]
        if not how.any():
            return
        said = self.answers([*f"{error or ''}".encode()[:_MOST_SAID].ljust(_MOST_SAID)])
        if error is not None:
            raise error
        i = int(np.argmax(how == how[how > 0].min()))  # a failure says more than a stop
        words = bytes(said[i].astype(np.uint8)).decode(errors="ignore").rstrip()
        if how[i] == 2:
            raise stop.Stopped(words)
        raise FailedElsewhere(f"process {i} of {self.process_count} (numbered from 0): {words}")

    def barrier(self, name: str) -> None:
        """Waits until every process that takes part is here."""
        if self.process_count > 1:
            multihost_utils.sync_global_devices(name)


def to_host(tree: Any) -> Any:
    """Fetches a tree of (replicated) device arrays as NumPy arrays."""
    return jax.tree.map(np.asarray, jax.device_get(tree))
