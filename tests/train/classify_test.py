"""Laws of train/classify.py: it learns, it counts every test image once, and devices do not matter."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxmoust.core.augment import Augment
from jaxmoust.core.state import TrainState
from jaxmoust.data.loader import eval_stream
from jaxmoust.data.sources import from_arrays
from jaxmoust.models.resnet import ResNet
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Recipe, fit

SHAPE = (4, 4, 1)


class Net(nn.Module):
    """One hidden layer with batch norm over all devices."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train):
        h = nn.Dense(32)(x.reshape(len(x), -1))
        h = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=parallel.AXIS)(h)
        return nn.Dense(self.num_classes)(nn.relu(h))


def make_source(num, num_classes=3):
    images = np.random.default_rng(num).integers(0, 256, (num, *SHAPE), dtype=np.uint8)
    return from_arrays(images, np.arange(num) % num_classes, [f"c{k}" for k in range(num_classes)], "test")


def evaluate(task, state, source, batch_size, num_devices=4):
    machine = Machine.local(num_devices)
    batches = eval_stream(source, batch_size, image_px=4, channels=1)
    return task.evaluate(machine.replicate(state), None, batches, machine)


def make_state(num_classes, ema=None):
    """Random parameters and statistics of `Net`, other ones for each number of classes."""
    rng = np.random.default_rng(num_classes)
    init = Classify(Net(num_classes), num_classes, SHAPE).init
    shapes = jax.eval_shape(init, jax.random.key(0))
    params, stats = jax.tree.map(lambda leaf: rng.uniform(0.1, 1.0, leaf.shape).astype(np.float32), shapes)
    return TrainState(np.int32(0), params, stats, None, ema)


def logits_by_hand(params, stats, images, train=False):
    """`Net` in NumPy."""
    h = (images.astype(np.float64) / 127.5 - 1).reshape(len(images), -1)
    h = h @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    norm, known = params["BatchNorm_0"], stats["BatchNorm_0"]
    mean, var = (h.mean(0), h.var(0)) if train else (known["mean"], known["var"])
    h = np.maximum((h - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"], 0)
    return h @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]


def cross_entropy_by_hand(logits, label):
    true = np.take_along_axis(logits, label[:, None], 1)[:, 0]
    return np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1) - true


@pytest.mark.parametrize(("batch_size", "num_devices"), [(13, 1), (4, 1), (4, 4), (8, 4), (32, 4)])
def test_evaluation_counts_every_image_once(batch_size, num_devices):
    """Thirteen images in batches that divide them, do not, and hold more."""
    source, state = make_source(13), make_state(3)
    found = evaluate(Classify(Net(3), 3, SHAPE), state, source, batch_size, num_devices)
    logits = logits_by_hand(state.params, state.stats, source.images(np.arange(13)))
    true = np.take_along_axis(logits, source.labels[:, None], 1)
    rank = (logits > true).sum(1)
    assert 0 < np.mean(rank < 1) < 1
    np.testing.assert_array_equal(found.arrays["rank"], rank)
    assert found.metrics["top1"] == 100 * np.mean(rank < 1)
    # float32 against float64.
    assert found.metrics["loss"] == pytest.approx(cross_entropy_by_hand(logits, source.labels).mean(), rel=1e-5)


def test_top5_is_measured_where_it_can_be_wrong():
    few, many = (
        evaluate(Classify(Net(k), k, SHAPE), make_state(k), make_source(13, k), 16, num_devices=1) for k in (5, 6)
    )
    assert set(few.metrics) == {"top1", "loss"}
    assert set(many.metrics) == {"top1", "top5", "loss"}
    assert many.metrics["top1"] < many.metrics["top5"] == 100 * np.mean(many.arrays["rank"] < 5) < 100


def test_evaluation_judges_the_average_where_there_is_one():
    source, plain = make_source(13), make_state(3)
    rng = np.random.default_rng(0)
    average = jax.tree.map(
        lambda leaf: rng.uniform(0.1, 1.0, leaf.shape).astype(np.float32),
        {"params": plain.params, "stats": plain.stats},
    )
    task = Classify(Net(3), 3, SHAPE)
    judged = evaluate(task, plain.replace(ema=average), source, 16, 1)
    as_if = evaluate(task, plain.replace(**average), source, 16, 1)
    assert judged.metrics == as_if.metrics
    assert judged.metrics["loss"] != evaluate(task, plain, source, 16, 1).metrics["loss"]


def loss_of(task, state, batch):
    """What the task's loss returns for a batch, over four devices."""
    machine = Machine.local(4)

    def loss(state, batch):
        keys = jax.random.split(jax.random.key(0), len(batch["label"]))
        value, (metrics, stats) = task.loss(state.params, state.stats, None, batch, keys)
        return parallel.mean({"loss": value, **metrics, "stats": stats})

    return machine.parallel(loss, 1)(machine.replicate(state), machine.split(batch))


def test_loss_is_the_cross_entropy_of_the_batch():
    source, state = make_source(8), make_state(3)
    batch = {"image": source.images(np.arange(8)), "label": source.labels}
    found = loss_of(Classify(Net(3), 3, SHAPE, smoothing=0.1), state, batch)
    logits = logits_by_hand(state.params, state.stats, batch["image"], train=True)
    everywhere = np.mean([cross_entropy_by_hand(logits, np.full(8, k)).mean() for k in range(3)])
    expected = 0.9 * cross_entropy_by_hand(logits, batch["label"]).mean() + 0.1 * everywhere
    assert float(found["loss"]) == pytest.approx(expected, rel=1e-5)  # float32 against float64
    assert float(found["accuracy"]) == np.mean(logits.argmax(1) == batch["label"])
    assert not np.allclose(found["stats"]["BatchNorm_0"]["mean"], state.stats["BatchNorm_0"]["mean"])


def test_training_images_are_augmented_and_test_images_are_not():
    source, state = make_source(8), make_state(3)
    batch = {"image": source.images(np.arange(8)), "label": source.labels}
    plain, flipped = Classify(Net(3), 3, SHAPE), Classify(Net(3), 3, SHAPE, Augment(flip=True))
    assert loss_of(plain, state, batch)["loss"] != loss_of(flipped, state, batch)["loss"]
    assert evaluate(plain, state, source, 8).metrics == evaluate(flipped, state, source, 8).metrics


def stream_from(source, batch_size):
    def make(start):
        slot = np.arange(batch_size, dtype=np.int32)
        step = start
        while True:
            keys = (step * batch_size + slot) % len(source)
            yield {"image": source.images(keys), "label": source.labels[keys], "slot": slot}
            step += 1

    return make


def train(path, task, source, recipe, num_devices=4, eval_data=None):
    return fit(
        task,
        recipe,
        stream_from(source, recipe.batch_size),
        folder=RunFolder.open(path, {}, {}),
        machine=Machine.local(num_devices),
        seed=1,
        eval_data=eval_data,
    )


def test_classifier_overfits_sixteen_images(tmp_path):
    """Random images with random labels: nothing but learning them by heart reaches 100 %."""
    source = make_source(16)
    recipe = Recipe(batch_size=16, num_steps=60, name="adamw", learning_rate=0.02)
    batches = eval_stream(source, 16, image_px=4, channels=1)
    _, found, _ = train(tmp_path, Classify(Net(3), 3, SHAPE), source, recipe, eval_data=batches)
    assert found.metrics["top1"] == 100.0
    assert found.metrics["loss"] < 0.1


def test_one_device_trains_a_resnet_as_four(tmp_path):
    """With synchronised batch norm, flips and crops."""
    model = ResNet(stage_sizes=(1,), block="basic", num_classes=3, width=4, stem="cifar", axis_name=parallel.AXIS)
    task = Classify(model, 3, SHAPE, Augment(flip=True, crop_px=1), smoothing=0.1)
    recipe = Recipe(batch_size=16, num_steps=3, name="sgd", learning_rate=0.1, weight_decay=1e-3)
    source = make_source(48)
    one, four = (train(tmp_path / str(n), task, source, recipe, n)[0] for n in (1, 4))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        # Sums in another order: roundings of 6e-8 on numbers of order 1, carried along for three steps.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
