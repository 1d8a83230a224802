"""What stages have to themselves where they are computed, as a file says that a laboratory writes once.

It is no part of an experiment and of no stage's name: results depend on the number of devices to rounding only.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxmoust.config import Field, check_names, complete, fields, merge
from jaxmoust.runtime.parallel import Devices
from jaxmoust.runtime.paths import read_text

KINDS = ("fit", "sample", "features", "train", "score", "domain", "measure")  # of stages
DEVICE = {
    "platform": Field(type=Literal["gpu", "tpu", "cpu"], doc="what devices are; cpu: cores of a machine without"),
    "kind": Field("", str, "of a device, as JAX calls it: --dry-run takes times of that"),
    "memory_gb": Field(0.0, float, "of a device; 0 checks nothing"),
}


@dataclass(frozen=True)
class Resource:
    """What a stage of a kind has.

    Args:
        devices: of each machine: GPUs, chips of a TPU, or cores where there are neither.
        cpus: cores beside them. memory_gb: of the machine; 0 asks for none.
        hours: after which SLURM ends it, which goes on in another job then; 0 is the cluster's own limit.
        hosts: machines that work at it in step, a process on each; of SLURM.
        parts: tasks with these devices each among which a stage is shared out: the files of a set (kind sample), and
            the classes of adapters by class (kind fit).
    """

    devices: int = 1
    cpus: int = 1
    memory_gb: float = 0.0
    hours: float = 0.0
    hosts: int = 1
    parts: int = 1


@dataclass(frozen=True)
class Resources:
    """What stages have, by kind.

    Args:
        device: one of the devices; without names. by_kind: for every kind of stage.
        ray, slurm: further options, as `ray.remote` and submitit call them.
    """

    device: Devices
    by_kind: Mapping[str, Resource]
    ray: Mapping[str, Any] = field(default_factory=dict)
    slurm: Mapping[str, Any] = field(default_factory=dict)

    def count_of(self, kind: str) -> int:
        """How many devices a stage has, over all its machines."""
        return self.by_kind[kind].devices * self.by_kind[kind].hosts

    @property
    def parts(self) -> Mapping[str, int]:
        """Of a kind of stage, among how many tasks it is shared out."""
        return {kind: one.parts for kind, one in self.by_kind.items()}

    def ray_options(self, kind: str) -> dict[str, Any]:
        """What a stage asks of Ray."""
        one, platform = self.by_kind[kind], self.device.platform
        cores = {"num_cpus": one.devices if platform == "cpu" else one.cpus}
        devices: dict[str, Any] = {"num_gpus": one.devices} if platform == "gpu" else {}
        if platform == "tpu":
            devices = {"resources": {"TPU": one.devices}}
        memory = {"memory": int(one.memory_gb * 1e9)} if one.memory_gb else {}
        # A worker of Ray sees all cores of its machine; on others Ray itself says what it sees.
        seen = {"env_vars": self.device.environment(("",) * one.devices)} if platform == "cpu" else {}
        return {**cores, **devices, **memory, **seen, **self.ray}

    def slurm_options(self, kind: str) -> dict[str, Any]:
        """What a stage asks of SLURM."""
        one, platform = self.by_kind[kind], self.device.platform
        devices = {"gpus_per_node": one.devices} if platform == "gpu" else {}
        memory = {"mem_gb": one.memory_gb} if one.memory_gb else {}
        hours = {"timeout_min": max(1, round(60 * one.hours))} if one.hours else {}
        cores = {"cpus_per_task": one.devices if platform == "cpu" else one.cpus}
        nodes = {"nodes": one.hosts, "tasks_per_node": 1} if one.hosts > 1 else {}
        return {**cores, **devices, **memory, **hours, **nodes, **self.slurm}


def read_resources(path: str) -> Resources:
    """Reads a file of TOML. Raises: ValueError: it is none, or a field is unknown or no value of its type."""
    at, schema = f"--resources={path}", fields(Resource)
    try:
        given = tomllib.loads(read_text(path))
    except OSError as e:
        raise ValueError(f"{at} cannot be read: {e.strerror}. Give a file; docs/cluster/resources.toml is one.") from e
    except ValueError as e:
        raise ValueError(f"{at} is no TOML: {e}.") from e
    check_names(at, given, ("device", "default", *KINDS, "ray", "slurm"))
    if wrong := [name for name, table in given.items() if not isinstance(table, Mapping)]:
        raise ValueError(f"{at}: {wrong[0]} is {given[wrong[0]]!r}, expected a table: [{wrong[0]}] on a line.")
    device = complete(given.get("device", {}), DEVICE, f"{at}: device")
    default = given.get("default", {})
    by_kind = {}
    for kind in KINDS:
        section = complete(merge(default, given.get(kind, {}), schema), schema, f"{at}: {kind}")
        if wrong := [name for name, value in section.items() if value < (name not in ("memory_gb", "hours"))]:
            raise ValueError(f"{at}: {kind}.{wrong[0]} is {section[wrong[0]]}. Expected more.")
        by_kind[kind] = of_kind = Resource(**section)
        if of_kind.parts > 1 and (kind not in ("sample", "fit") or of_kind.hosts > 1):
            raise ValueError(
                f"{at}: {kind}.parts is {of_kind.parts}, with {kind}.hosts {of_kind.hosts}. Only sets, and adapters by "
                "class, can be made in parts, on one machine each: say parts in [sample] or [fit], and leave hosts 1 "
                "there."
            )
    one = Devices(device["platform"], (), device["kind"], int(device["memory_gb"] * 1e9))
    return Resources(one, by_kind, given.get("ray", {}), given.get("slurm", {}))
