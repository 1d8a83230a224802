"""Where a study is computed: what its command line says of that, as an engine."""

import argparse
import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from jaxmoust.jobs.parts.job import refusals
from jaxmoust.jobs.parts.registry import BadInput
from jaxmoust.jobs.parts.worker import work
from jaxmoust.runtime import parallel
from jaxmoust.runtime.bucket import scheme_of
from jaxmoust.runtime.bucket_copy import SCRATCH
from jaxmoust.runtime.lock import own_locks
from jaxmoust.runtime.paths import refuse_url
from jaxmoust.study.engines.local import Local
from jaxmoust.study.engines.loop import NOT_IN_PARTS, Engine, InProcess
from jaxmoust.study.engines.resources import KINDS, Resources, read_resources
from jaxmoust.study.store import Store

ENGINES = ("local", "ray", "slurm")
MOST = 64  # stages that a cluster has at once, unless --workers says so


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says where a study is computed."""
    parser.add_argument("--engine", choices=ENGINES, default="local", help="where stages are computed: here, or there")
    parser.add_argument(
        "--workers",
        type=int,
        help="how many stages are computed at once. Here each has a process and its part of the devices; by default "
        "there is one for each GPU or chip, and on a machine with one or none all is done in this process",
    )
    parser.add_argument("--resources", default="", help="a file that says which devices a stage of each kind has")
    parser.add_argument("--ray_address", default="auto", help="of a cluster of Ray, as host:port")


@dataclass(frozen=True)
class Place:
    """Where stages are computed.

    Args:
        make: the engine over a store; by default in this process.
        count_of: how many devices a stage of a kind has there. width: how many stages may run at once.
        devices: how many they share; 0: each has its own, however many run.
        shared: whether several machines share the store.
        parts: of a kind of stage, among how many tasks its work is shared out.
    """

    make: Callable[[Store], Engine] = InProcess
    count_of: Callable[[str], int | None] = lambda kind: None
    width: int = 1
    devices: int = 0
    shared: bool = False
    parts: Mapping[str, int] = field(default_factory=dict)

    def engine(self, store: Store) -> Engine:
        """What computes stages of a store there. Raises: BadInput: its disk has no locks for that, or no cluster."""
        kind = own_locks(os.path.realpath(store.path)) if self.shared else ""
        if kind:
            raise BadInput(
                f"--store={store.path} lies on a disk ({kind}) that keeps locks on each machine alone, so two machines "
                "would compute one stage. Give a folder on NFS 4, Lustre or the like, or --engine=local."
            )
        with refusals():
            return self.make(store)

    def planning(self, kind: str) -> contextlib.AbstractContextManager[object]:
        """A block in which this process's devices are those that a stage of a kind has."""
        return parallel.planning(self.count_of(kind))

    def device(self, kind: str) -> str:
        """The devices that a stage of a kind has, in words."""
        with self.planning(kind):
            return parallel.Machine.all().description


@contextlib.contextmanager
def chosen(args: argparse.Namespace) -> Iterator[Place]:
    """Reads a command line, before JAX is used: while a block lasts, a process that only plans opens no accelerator.

    Raises: BadInput: devices that are not there, processes of one run with workers, or flags that do nothing.
    """
    with refusals():
        refuse_url("--resources", args.resources)
        resources = read_resources(args.resources) if args.resources else None
        if args.coordinator and (args.engine != "local" or resources or (args.workers or 1) > 1):
            raise ValueError(
                "--coordinator goes with neither --engine, --workers nor --resources: its processes work at each stage "
                "together. Leave one of them out."
            )
        if args.workers is not None and args.workers < 1:
            raise ValueError(f"--workers={args.workers}: expected at least 1.")
        if args.ray_address != "auto" and args.engine != "ray":
            raise ValueError("--ray_address would do nothing: it goes with --engine=ray.")
        place = _local(args, resources) if args.engine == "local" else _cluster(args, resources)
    try:
        yield place
    finally:
        parallel.plan_for(None)


def _local(args: argparse.Namespace, resources: Resources | None) -> Place:
    workers = args.workers or (1 if args.coordinator else parallel.accelerators() or 1)
    if resources is None and workers == 1:
        return Place()
    devices = parallel.survey()
    there = len(devices.names)
    what = f"{there} {'cores' if devices.platform == 'cpu' else f'devices ({devices.kind})'}"
    if resources is None:
        if args.workers is None and (devices.platform == "cpu" or there == 1):  # JAX does not use what was seen
            return Place()
        if workers > there:
            raise ValueError(f"--workers={workers}: this machine has {what}. Allowed: 1 to {there}.")
        counts = dict.fromkeys(KINDS, there // workers)
    elif args.workers is not None:
        raise ValueError("--workers shares devices out evenly, and --resources says which a stage has: give one.")
    else:
        counts = {kind: one.devices for kind, one in resources.by_kind.items()}
        _refuse_hosts(args, resources, "this is one machine")
        if devices.platform != resources.device.platform:
            named = resources.device.platform
            raise ValueError(f"--resources={args.resources} is of a {named}, and this machine has {what}.")
    for kind, count in counts.items():
        if count > there:
            raise ValueError(f"--resources={args.resources}: {kind}.devices is {count}, and this machine has {what}.")
        devices.environment(devices.names[:count])
    parallel.plan_for(devices, max(counts.values()))
    parts = resources.parts if resources else NOT_IN_PARTS
    make = functools.partial(Local, work=work, devices=devices, count_of=counts.__getitem__, parts=parts)
    return Place(make, counts.get, there // min(counts.values()), there, parts=parts)


def _refuse_hosts(args: argparse.Namespace, resources: Resources, why: str) -> None:
    if several := [kind for kind, one in resources.by_kind.items() if one.hosts > 1]:
        raise ValueError(
            f"--resources={args.resources}: {several[0]}.hosts is {resources.by_kind[several[0]].hosts}, and {why}. "
            "Leave it 1, or take --engine=slurm, where such a stage has a process on each node."
        )


def _cluster(args: argparse.Namespace, resources: Resources | None) -> Place:
    if resources is None:
        raise ValueError(
            f"--engine={args.engine} wants --resources=FILE, which says what a stage has there. "
            "docs/cluster/resources.toml is one to begin with."
        )
    most = args.workers or MOST
    if args.engine == "ray":
        _refuse_hosts(args, resources, "a task of Ray is a process of one machine")
    elif scheme_of(args.store or args.workdir):
        _refuse_hosts(args, resources, "processes of several machines cannot write one folder of a bucket")
        if not os.environ.get(SCRATCH):
            raise ValueError(
                f"--engine=slurm with {args.store or args.workdir}: what is submitted, and its logs, lie in the "
                "scratch folder, which every node must see. Name one on a disk that they share, --scratch=DIR."
            )
    parallel.plan_for(resources.device, max(map(resources.count_of, KINDS)))

    def make(store: Store) -> Engine:
        try:
            if args.engine == "ray":
                from jaxmoust.study.engines.ray import Ray

                return Ray(store, work, resources.ray_options, most, args.ray_address, resources.parts)
            from jaxmoust.study.engines.slurm import Slurm

            return Slurm(store, work, resources.slurm_options, most, "slurm", resources.parts)
        except ImportError as e:
            raise ValueError(f"{e}. Install it by `pip install 'jaxmoust[{args.engine}]'`.") from e

    return Place(make, resources.count_of, most, shared=True, parts=resources.parts)
