"""Computes a study on a Ray cluster: a stage is a task. Results lie in the store; Ray carries what was found, 1 kB.

On CPUs workers are reused, and compile once what is alike; on accelerators each stage has a fresh process, for JAX
keeps the memory of a device as long as a process lives.
"""

import os
import signal
from collections.abc import Mapping
from typing import Any

import ray

from jaxmoust.study.engines.cluster import Cluster
from jaxmoust.study.engines.loop import Reply, Task

# What a worker takes over from the environment of the driver.
_KEPT = ("PYTHONPATH", "JAXMOUST_CACHE", "JAXMOUST_SCRATCH", "JAXMOUST_BUCKET_GB", "XLA_FLAGS", "HF_HOME")


class Ray(Cluster):
    """A cluster of Ray. Args: where: its address, as `ray.init` takes it; the rest as `Cluster` has them."""

    def _connect(self, where: str) -> None:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            ray.init(where, log_to_driver=False, logging_level="warning")
        except (ConnectionError, RuntimeError) as e:
            raise ValueError(
                f"--ray_address={where}: there is no cluster of Ray: {e}. Start one by `ray start`."
            ) from e
        for number, handler in handlers.items():  # in whose place Ray has put its own
            signal.signal(number, handler)
        self._warm = ray.remote(max_retries=0)(self._work)
        self._fresh = ray.remote(max_retries=0, max_calls=1)(self._work)

    def _submit(self, task: Task, options: Mapping[str, Any]) -> Any:
        given = {"env_vars": {name: os.environ[name] for name in _KEPT if name in os.environ}}
        given["env_vars"] |= options.get("env_vars", {})
        asked = {name: value for name, value in options.items() if name != "env_vars"}
        function = self._fresh if asked.get("num_gpus") or asked.get("resources") else self._warm
        return function.options(**asked, runtime_env=given, name=task.name).remote(task)

    def _over(self, secs: float) -> list[str]:
        names = {ref: name for name, ref in self._running.items()}
        ready, rest = ray.wait([*names], num_returns=1, timeout=secs)
        more, _ = ray.wait(rest, num_returns=len(rest), timeout=0) if ready and rest else ([], [])
        return [names[ref] for ref in (*ready, *more)]

    def _reply(self, one: Any) -> Reply:
        try:
            return ray.get(one)
        except ray.exceptions.RayTaskError as e:  # before the job could be tried
            return Reply("over", None, True, error=str(e).strip().splitlines()[-1])
        except ray.exceptions.RayError:  # a worker or its machine is gone
            return Reply("lost")

    def _cancel(self, one: Any) -> None:
        ray.cancel(one)

    def close(self) -> None:
        """Leaves the cluster."""
        super().close()
        ray.shutdown()
