"""Whether memory stays flat over a study of hundreds of small stages that have nothing in common, and what that costs.

Each stage trains a perceptron of another width for two steps, through the loop, the store and the engine of a study, so
that every one of them compiles programs of its own; then as many stages of one width, which share theirs.

Run: python experiments/speed/long_study.py [--stages=300] [--keep]   (--keep never forgets a compiled program)
Result (2 cores of an x86_64 that some fifteen processes shared, jax 0.10, one device, no optimizations by XLA, see
    JAX_DISABLE_MOST_OPTIMIZATIONS=1):
    unlike: from 40 to 300 stages 673 to 713 MB at every twentieth, 686 after 100, 695 after 200, 713 after 300, and
    never over 5,732 mappings there: beyond 6,000 it forgets. 1.6 s of processor time a stage, most of it compiling.
    alike (300, after them): 715 MB and 5,461 to 5,463 mappings throughout, 0.09 s of processor time a stage.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.study.engines.loop import compute_all
from jaxmoust.study.store import Stage, Store
from jaxmoust.train.loop import Evaluation, Recipe, Training, fit

RECIPE = Recipe(batch_size=8, num_steps=2, name="sgd")


@dataclass(frozen=True)
class Perceptron:
    """Learns the mean of an image; a task of another width is another program."""

    width: int

    def net(self) -> nn.Module:
        """Three layers."""
        return nn.Sequential([nn.Dense(self.width), nn.relu, nn.Dense(self.width), nn.relu, nn.Dense(1)])

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Fresh parameters, and no statistics."""
        return self.net().init(key, jnp.zeros((1, 4)))["params"], {}

    def loss(self, params: Any, stats: Any, frozen: Any, batch: dict, keys: jax.Array) -> tuple:
        """The mean squared error."""
        x = batch["image"].reshape(-1, 4).astype(jnp.float32) / 255
        error = self.net().apply({"params": params}, x)[:, 0] - x.mean(1)
        return (error**2).mean(), ({}, stats)

    def evaluate(self, state: Any, frozen: Any, data: Any, machine: parallel.Machine) -> Evaluation:
        """Nothing."""
        return Evaluation({})


def batches(step: int) -> Iterator[dict[str, np.ndarray]]:
    """The batches of a step and of those after it."""
    while True:
        image = np.random.default_rng(step).integers(0, 256, (8, 2, 2, 1), np.uint8)
        yield {"image": image, "slot": np.arange(8, dtype=np.int32)}
        step += 1


def train(stage: Stage, workdir: Path) -> dict[str, Any]:
    """The job of a stage."""
    folder = RunFolder.open(workdir, stage.config, {})
    machine = parallel.Machine.all()
    state, _, seconds = fit(Training(Perceptron(stage.config["width"]), RECIPE), batches, folder, machine, 0)
    result = {"step": int(state.step), "seconds": seconds}
    folder.write_result(result)
    return result


def held() -> tuple[float, int]:
    """The memory of this process, in MB, and its mappings."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, Path("/proc/self/maps").read_bytes().count(b"\n")


def study(folder: Path, name: str, widths: list[int]) -> None:
    """Computes a stage for each width, and prints what is held after every twenty, and what a stage took."""
    stages = [Stage("train", {"width": width, "k": k}) for k, width in enumerate(widths)]
    started = time.process_time()
    for k, done in enumerate(compute_all(stages, Store(folder, train)), 1):
        assert done.result, done.error
        if k % 20 == 0 or k == len(stages):
            megabytes, mappings = held()
            print(f"{name} {k}: {megabytes:.0f} MB, {mappings:,} mappings", flush=True)
    print(f"{name}: {(time.process_time() - started) / len(stages):.3f} s of processor time a stage", flush=True)


def main() -> None:
    """Runs both."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stages", type=int, default=300)
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    if args.keep:
        parallel.forget_programs = lambda: False
    parallel.use_all_cores()
    with tempfile.TemporaryDirectory() as folder:
        for name, widths in (("unlike", list(range(8, 8 + args.stages))), ("alike", [8] * args.stages)):
            study(Path(folder) / name, name, widths)


if __name__ == "__main__":
    main()
