"""Laws of train/diffuse.py: the loss is the papers', it falls, and neither devices nor batch sizes matter."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.augment.nonleaky import LABEL_DIM, NonLeaky
from jaxmoust.core.diffusion import noise
from jaxmoust.core.diffusion.methods import DDPM, EDM
from jaxmoust.core.optim import Recipe
from jaxmoust.core.state import TrainState
from jaxmoust.data.loading.loader import eval_stream
from jaxmoust.data.source import from_arrays
from jaxmoust.models.drop import dropout
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train.diffuse import Diffuse
from jaxmoust.train.loop import init_state, make_step

SHAPE, K = (2, 2, 1), 3
RECIPE = Recipe(batch_size=16, num_steps=200, learning_rate=0.01)


class Net(nn.Module):
    """One hidden layer that knows noise level, class and augmentation, with dropout; it does not start at zero."""

    dropout: float = 0.0
    augment_dim: int = 0

    @nn.compact
    def __call__(self, x, c, label, keys=None, train=False, augment_label=None):
        level = jnp.stack([jnp.sin(c), jnp.cos(c), jnp.sin(c / 100), jnp.cos(c / 100)], -1)
        h = nn.Dense(32)(x.reshape(len(x), -1)) + nn.Dense(32)(level) + nn.Embed(K + 1, 32)(label)
        if self.augment_dim:
            told = jnp.zeros((len(x), self.augment_dim)) if augment_label is None else augment_label
            h = h + nn.Dense(32, use_bias=False)(told)
        h = nn.silu(h)
        if train and self.dropout:
            h = dropout(keys, h, self.dropout)
        return nn.Dense(x[0].size)(h).reshape(x.shape)


def make_source(num):
    images = np.random.default_rng(num).integers(0, 256, (num, *SHAPE), dtype=np.uint8)
    return from_arrays(images, np.arange(num) % K, ["a", "b", "c"], "real")


def batches(num, batch_size):
    return eval_stream(make_source(num), batch_size, image_px=2, channels=1)


def init(task, seed=0):
    params, stats = task.init(jax.random.key(seed))
    return TrainState(np.int32(0), params, stats, None, None)


def evaluate(task, state, data, num_devices=4):
    machine = Machine.local(num_devices)
    return task.evaluate(machine.replicate(state), None, data, machine).metrics


def train(task, num_steps, num_devices=4):
    """Takes so many steps on the same sixteen images."""
    machine, source = Machine.local(num_devices), make_source(16)
    batch = {"image": source.images(np.arange(16)), "label": source.labels, "slot": np.arange(16, dtype=np.int32)}
    step = make_step(task, RECIPE, machine)
    state, seed = machine.replicate(init_state(task, RECIPE, 0)), machine.replicate(np.uint32(0))
    for _ in range(num_steps):
        state, _ = jax.block_until_ready(step(state, None, seed, machine.split(batch)))
    return state


# Noise, noise level, dropout, the dropped classes and augmentation are all drawn.
EVERYTHING = Diffuse(Net(dropout=0.1, augment_dim=LABEL_DIM), EDM(), K, SHAPE, Augment(flip=True), 0.1, NonLeaky(0.12))


@pytest.mark.parametrize("task", [EVERYTHING, Diffuse(Net(), DDPM(), K, SHAPE)], ids=["edm", "ddpm"])
def test_loss_falls_on_sixteen_images(task):
    data = {"train": batches(16, 16)}
    before = evaluate(task, init(task), data)["loss_train"]
    after = evaluate(task, train(task, 200), data)["loss_train"]
    assert after < 0.75 * before


def test_one_device_trains_as_four():
    """Whatever is drawn is drawn by example."""
    one, four = (train(EVERYTHING, 5, num_devices) for num_devices in (1, 4))
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(four.params), strict=True):
        # Sums in another order are 6e-8 apart; Adam divides by the gradient's size, and moves 0.01 a step.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


def loss_of(task, params, batch, seed=0):
    """The task's loss of one batch, by its own random draws."""
    keys = jax.random.split(jax.random.key(seed), len(batch["label"]))
    loss, (metrics, stats) = jax.jit(task.loss)(params, {}, None, batch, keys)
    assert metrics == {} and stats == {}
    return float(loss)


@dataclass(frozen=True)
class At(DDPM):
    """DDPM that trains at one timestep."""

    timestep: int = 0

    def sample_sigma(self, keys):
        return jnp.full(keys.shape, self.table[self.timestep], jnp.float32)


@pytest.mark.parametrize("timestep", [0, 400, 999])
def test_ddpm_loss_is_the_error_of_the_noise(monkeypatch, timestep):
    """|eps - eps_hat(sqrt(abar) x0 + sqrt(1 - abar) eps, t)|^2 (Ho et al. 2020, Eq. 14), in NumPy, at fixed noise."""
    source = make_source(8)
    task = Diffuse(Net(), At(timestep=timestep), K, SHAPE)
    params = init(task).params
    eps = np.random.default_rng(1).normal(size=(8, *SHAPE))
    monkeypatch.setattr(noise, "normal_like", lambda keys, shape: jnp.asarray(eps, jnp.float32))
    found = loss_of(task, params, {"image": source.images(np.arange(8)), "label": source.labels})

    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[timestep]
    x0 = source.images(np.arange(8)) / 127.5 - 1
    x_t = np.sqrt(abar) * x0 + np.sqrt(1 - abar) * eps
    eps_hat = Net().apply({"params": params}, x_t.astype(np.float32), np.full(8, timestep, np.float32), source.labels)
    # x = x0 + sigma eps loses 6e-8 of its size, and sigma = 0.01 at timestep 0 divides by it: 6e-6 of an error of 1.
    assert found == pytest.approx(float(np.mean((eps - eps_hat) ** 2)), rel=1e-4)


class Tell(nn.Module):
    """Answers 100 for the null class, and 0 for any other."""

    @nn.compact
    def __call__(self, x, c, label, keys=None, train=False):
        scale = self.param("scale", nn.initializers.ones, ())
        return jnp.where(label == K, 100.0, 0.0)[:, None, None, None] * scale * jnp.ones_like(x)


def test_label_dropout_turns_its_share_into_the_null_class():
    """The loss is |eps|^2, about 1, where the class is kept, and 100^2 more where it is dropped."""
    num = 1000
    batch = {"image": np.zeros((num, *SHAPE), np.uint8), "label": np.arange(num, dtype=np.int32) % K}
    shares = [
        loss_of(Diffuse(Tell(), DDPM(), K, SHAPE, label_dropout=share), {"scale": jnp.ones(())}, batch) / 1e4
        for share in (0.0, 0.25)
    ]
    assert shares[0] < 1e-3
    assert shares[1] == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / num) ** 0.5)  # 4 standard errors


@pytest.mark.parametrize(
    "other", [{"model": Net(dropout=0.5)}, {"augment": Augment(flip=True)}], ids=["dropout", "flip"]
)
def test_training_loss_goes_through_dropout_and_augmentation(other):
    source = make_source(8)
    batch = {"image": source.images(np.arange(8)), "label": source.labels}
    fields = {"model": Net(), "method": EDM(), "num_classes": K, "image_shape": SHAPE}
    plain, changed = Diffuse(**fields), Diffuse(**{**fields, **other})
    params = init(plain).params
    assert loss_of(plain, params, batch) == loss_of(plain, params, batch) != loss_of(changed, params, batch)


class Hear(nn.Module):
    """Answers 100 times how an image was augmented: the first label, flipped or not."""

    augment_dim: int = LABEL_DIM

    @nn.compact
    def __call__(self, x, c, label, keys=None, train=False, augment_label=None):
        scale = self.param("scale", nn.initializers.ones, ())
        told = jnp.zeros((len(x), LABEL_DIM)) if augment_label is None else augment_label
        return 100 * told[:, 0, None, None, None] * scale * jnp.ones_like(x)


def test_network_hears_of_augmentation_in_training_and_of_none_when_judged():
    """The loss is |eps|^2, about 1, where it is told of no flip, and 100^2 more where it is."""
    num = 400
    batch = {"image": np.zeros((num, *SHAPE), np.uint8), "label": np.arange(num, dtype=np.int32) % K}
    params = {"scale": jnp.ones(())}
    task = Diffuse(Hear(), DDPM(), K, SHAPE, nonleaky=NonLeaky(1e-6))
    flipped = loss_of(task, params, batch) / 1e4
    assert flipped == pytest.approx(0.5, abs=4 * (0.25 / num) ** 0.5)  # 4 standard errors
    assert loss_of(Diffuse(Hear(), DDPM(), K, SHAPE), params, batch) / 1e4 < 1e-3
    judged = evaluate(task, TrainState(np.int32(0), params, {}, None, None), {"one": batches(11, 4)})
    assert judged["loss_one"] / 1e4 < 1e-3


class Deaf(Tell):
    """Takes augmentation labels and does not listen."""

    augment_dim: int = LABEL_DIM

    @nn.compact
    def __call__(self, x, c, label, keys=None, train=False, augment_label=None):
        scale = self.param("scale", nn.initializers.ones, ())
        return jnp.where(label == K, 1.0, 0.0)[:, None, None, None] * scale * jnp.ones_like(x)


def test_nonleaky_augmentation_is_drawn_apart_from_everything_else():
    """Switched on so rarely that it changes no image but by flips, it leaves noise, levels and dropped classes."""
    one_pixel = (1, 1, 1)
    batch = {"image": np.full((8, *one_pixel), 7, np.uint8), "label": np.arange(8, dtype=np.int32) % K}
    losses = [
        loss_of(task, task.init(jax.random.key(0))[0], batch)
        for nonleaky in (NonLeaky(), NonLeaky(1e-9))
        for task in [Diffuse(Deaf(), EDM(), K, one_pixel, label_dropout=0.5, nonleaky=nonleaky)]
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)  # one program more or less fused


@pytest.mark.parametrize(("batch_size", "num_devices"), [(4, 4), (16, 4), (11, 1)])
def test_evaluation_does_not_depend_on_the_batch_size(batch_size, num_devices):
    task = Diffuse(Net(dropout=0.5), EDM(), K, SHAPE, Augment(flip=True), label_dropout=0.5)
    state = init(task)
    found = evaluate(task, state, {"one": batches(11, batch_size), "two": batches(7, 4)}, num_devices)
    expected = evaluate(task, state, {"one": batches(11, 4), "two": batches(7, 4)})
    assert set(found) == {"loss_one", "loss_two"} and found["loss_one"] != found["loss_two"]
    assert found == pytest.approx(expected, rel=1e-6)  # matrices of other sizes are multiplied in another order


def test_evaluation_judges_the_average_where_there_is_one():
    task, data = Diffuse(Net(), EDM(), K, SHAPE), {"real": batches(7, 4)}
    state, other = init(task), init(task, seed=1)
    averaged = state.replace(ema={"params": other.params, "stats": {}})
    assert evaluate(task, averaged, data) == evaluate(task, other, data) != evaluate(task, state, data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": Augment(mixup=0.2)}, "mixup"),
        ({"augment": Augment(cutmix=0.2)}, "cutmix"),
        ({"label_dropout": 1.0}, "label_dropout 1.0: expected"),
        ({"label_dropout": -0.1}, "label_dropout -0.1: expected"),
        ({"num_classes": 0}, "num_classes 0: expected"),
        ({"nonleaky": NonLeaky(0.12)}, "model.augment_dim 0: a network"),
    ],
)
def test_diffuse_refuses_what_means_nothing(options, message):
    with pytest.raises(ValueError, match=message):
        Diffuse(**{"model": Net(), "method": EDM(), "num_classes": K, "image_shape": SHAPE, **options})
