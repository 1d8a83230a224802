"""Whether k seeds of a small classifier train faster in one program (vmap over seeds) than one after another.

The studies' classifier of digits (configs/classifier/digits_resnet.py: a ResNet on 8 x 8 grey, batches of 64), where an
update is so small that a device might have room for several. Each seed has its own parameters and batch; the one
program is the loop's own step under `jax.vmap`. Printed first is how far parameters of both ways are apart after five
updates, over their largest.

Run: python experiments/speed/seeds.py
Cost: 1 minute on 2 CPU cores.
Result of two runs on 2 CPU cores (x86_64, jax 0.10.2), float32, updates of one seed a second in one program over those
one after another: 2 seeds 0.64x and 0.77x, 3 seeds 0.68x and 0.74x, 5 seeds 0.66x and 0.69x; parameters 1.5e-08 apart.
So `study` trains seeds one after another. No accelerator was measured.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import peers

from jaxmoust import build
from jaxmoust.jobs.parts.configure import configuration
from jaxmoust.runtime import parallel
from jaxmoust.train.loop import init_state, make_step

CONFIG, SHAPE, NUM_CLASSES = "configs/classifier/digits_resnet.py", (8, 8, 1), 10
UPDATES = 5


class Together(parallel.Machine):
    """A machine whose programs take k states and k batches at once."""

    def parallel(self, fn, num_replicated, donate=()):
        """Compiles `fn` of one seed for k of them: state [k, ...], batch [D, k, ...]."""
        return super().parallel(jax.vmap(fn, in_axes=(0, None, 0, 0)), num_replicated, donate)


class Seeds:
    """UPDATES updates of each of k seeds, in one program or one seed after another."""

    def __init__(self, k: int, together: bool, quick: bool) -> None:
        """Initialises the states and the batches of seeds 0 to k - 1."""
        _, config, _ = configuration(f"{CONFIG}{':quick' if quick else ''}", [])
        here = parallel.Machine.all()
        self.machine = Together(here.devices) if together else here
        training = build.make_training(build.make_classify, config, SHAPE, NUM_CLASSES, ("top1",), here)
        states = [init_state(training.task, training.recipe, seed) for seed in range(k)]
        self.num_params = sum(x.size for x in jax.tree.leaves(states[0].params))
        self.step = make_step(training.task, training.recipe, self.machine)
        batches = [here.split(self.batch(seed, training.recipe.batch_size)) for seed in range(k)]
        seeds = np.arange(k, dtype=np.uint32)
        if together:
            states = [jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)]
            batches, seeds = [jax.tree.map(lambda *rows: np.stack(rows, axis=1), *batches)], [seeds]
        self.batches, self.together = batches, together
        self.states, self.seeds = map(self.machine.replicate, states), map(self.machine.replicate, seeds)
        self.states, self.seeds = list(self.states), list(self.seeds)

    @staticmethod
    def batch(seed: int, size: int) -> dict[str, np.ndarray]:
        """One batch as the loader delivers it."""
        return {
            "image": np.random.default_rng(seed).integers(0, 256, (size, *SHAPE), np.uint8),
            "label": np.arange(size, dtype=np.int32) % NUM_CLASSES,
            "source": np.zeros(size, np.int32),
            "slot": np.arange(size, dtype=np.uint32),
        }

    def __call__(self) -> None:
        """The updates, until their metrics are here."""
        for i, (seed, batch) in enumerate(zip(self.seeds, self.batches, strict=True)):
            for _ in range(UPDATES):
                self.states[i], metrics = self.step(self.states[i], None, seed, batch)
            assert np.isfinite(metrics["loss"]).all()

    def params(self) -> list[np.ndarray]:
        """The parameters of all seeds, [k, ...] each."""
        of_each = [jax.tree.leaves(parallel.to_host(state.params)) for state in self.states]
        return of_each[0] if self.together else [np.stack(leaves) for leaves in zip(*of_each, strict=True)]


def main() -> None:
    """Compares the results, then measures and prints a line for each k."""
    parser = peers.options(__doc__)
    parser.add_argument("--seeds", default="2,3,5", help="numbers of seeds, by comma")
    args = parser.parse_args()
    parallel.use_all_cores()
    ks = [int(k) for k in args.seeds.split(",")]
    both = [Seeds(ks[0], together, args.quick) for together in (True, False)]
    for run in both:
        run()
    pairs = list(zip(*(run.params() for run in both), strict=True))
    apart = max(np.abs(a - b).max() for a, b in pairs) / max(np.abs(b).max() for _, b in pairs)
    print(f"{parallel.Machine.all().description}: parameters apart by {apart:.1e} of the largest")
    for k in ks:
        makers = {name: partial(Seeds, k, name == "in one", args.quick) for name in ("in turn", "in one")}
        rates = peers.take_turns(makers, k * UPDATES, 1 if args.quick else args.turns)
        print(
            f"{k} seeds: {rates['in turn']:.1f} updates/s in turn, {rates['in one']:.1f} in one program, "
            f"{rates['in one'] / rates['in turn']:.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
