"""Laws of gradient accumulation: a batch in parts is one step, on any number of devices."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.optim import Recipe
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Training, fit

SHAPE = (4, 4, 1)
FLIPS = Augment(flip=True)


class Net(nn.Module):
    """One hidden layer, with batch norm over all devices or without."""

    normed: bool

    @nn.compact
    def __call__(self, x, train, keys=None):
        h = nn.Dense(8)(x.reshape(len(x), -1))
        if self.normed:
            h = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=parallel.AXIS, name="norm")(h)
        return nn.Dense(3)(nn.relu(h))


def batch_of(step, batch_size):
    rng = np.random.default_rng([7, step])
    return {
        "image": rng.integers(0, 256, (batch_size, *SHAPE), np.uint8),
        "label": rng.integers(0, 3, batch_size, np.int32),
        "slot": np.arange(batch_size, dtype=np.int32),
    }


def train(path, micro_batches, num_devices, normed=False, num_steps=3, batch_size=16, augment=FLIPS):
    """Returns the state after some steps."""

    def stream_from(start):
        step = start
        while True:
            yield batch_of(step, batch_size)
            step += 1

    recipe = Recipe(
        batch_size=batch_size,
        num_steps=num_steps,
        name="sgd",
        learning_rate=0.1,
        clip_norm=0.5,
        ema_half_life_images=32.0,
        micro_batches=micro_batches,
    )
    training = Training(Classify(Net(normed), 3, SHAPE, augment), recipe)
    return fit(training, stream_from, RunFolder.open(path, {}, {}), Machine.local(num_devices), 1)[0]


def assert_close(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        # Sums in another order: roundings of 6e-8 on numbers of order 1, carried along for three steps.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_batch_in_parts_makes_the_step_of_the_whole(tmp_path):
    """Draws, clipping, averaging and the clock are those of one update."""
    whole, parts = (train(tmp_path / str(m), m, num_devices=2) for m in (1, 4))
    assert int(parts.step) == 3
    assert_close(whole, parts)


def test_parts_with_batch_norm_and_mixing_do_not_depend_on_the_devices(tmp_path):
    """Part m is the m-th stretch of the global batch, so its statistics and partners are the same."""
    mixing = Augment(flip=True, mixup=0.5)
    one, two = (train(tmp_path / str(n), 2, n, normed=True, batch_size=32, augment=mixing) for n in (1, 2))
    assert_close(one, two)


def test_running_statistics_move_once_a_part(tmp_path):
    """By hand: the first layer's output over each quarter of the batch, in order."""
    state = train(tmp_path, 4, num_devices=2, normed=True, num_steps=1, augment=Augment())
    fresh, _ = Classify(Net(True), 3, SHAPE).init(jax.random.fold_in(jax.random.key(1), np.uint32(2**32 - 1)))
    image = np.float32(batch_of(0, 16)["image"]).reshape(16, -1) / 127.5 - 1
    hidden = image @ np.asarray(fresh["Dense_0"]["kernel"])
    mean = np.zeros(8)
    for part in hidden.reshape(4, 4, 8):
        mean = 0.9 * mean + 0.1 * part.mean(0)
    np.testing.assert_allclose(state.stats["norm"]["mean"], mean, atol=1e-5)  # float32 sums


@pytest.mark.parametrize(
    ("num_devices", "micro_batches", "message"),
    [
        (1, 3, "optim.micro_batches 3"),
        (1, 0, "optim.micro_batches 0"),
        (4, 8, "optim.micro_batches = 2 cannot be split"),
    ],
)
def test_parts_that_do_not_come_out_even_are_refused_before_any_work(tmp_path, num_devices, micro_batches, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path, micro_batches, num_devices)
    assert not (tmp_path / "metrics.jsonl").exists()
