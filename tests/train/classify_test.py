"""Laws of train/classify.py: it learns, it counts every test image once, and devices do not matter."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxmoust.core.augment.augment import Augment
from jaxmoust.core.optim import Recipe
from jaxmoust.core.state import TrainState
from jaxmoust.data.loading.loader import eval_stream
from jaxmoust.data.source import from_arrays
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.models.classifiers.wide_resnet import WideResNet
from jaxmoust.runtime import parallel
from jaxmoust.runtime.folder import RunFolder
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import Training, fit, init_state

SHAPE = (4, 4, 1)


class Net(nn.Module):
    """One hidden layer with batch norm over all devices; it draws nothing."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train, keys=None):
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


@pytest.mark.parametrize("num_devices", [1, 4])
def test_probabilities_are_those_of_every_image_once(num_devices):
    source, state = make_source(13), make_state(3)
    found = evaluate(Classify(Net(3), 3, SHAPE, keep="probabilities"), state, source, 8, num_devices)
    lean = evaluate(Classify(Net(3), 3, SHAPE), state, source, 8, num_devices)
    logits = logits_by_hand(state.params, state.stats, source.images(np.arange(13)))
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found.arrays["probabilities"], expected, rtol=1e-4)  # float32 against float64
    np.testing.assert_allclose(lean.arrays["confidence"], expected.max(1), rtol=1e-4)
    for name in ("rank", "loss", "predicted", "confidence"):
        np.testing.assert_array_equal(found.arrays[name], lean.arrays[name])
    np.testing.assert_array_equal(lean.arrays["predicted"], expected.argmax(1))
    assert found.metrics == lean.metrics and "probabilities" not in lean.arrays


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


def loss_of(task, state, batch, frozen=None):
    """What the task's loss returns for a batch, over four devices."""
    machine = Machine.local(4)

    def loss(state, batch):
        keys = jax.random.split(jax.random.key(0), len(batch["label"]))
        value, (metrics, stats) = task.loss(state.params, state.stats, frozen, batch, keys)
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
            kind = ((keys * 7) % 5 < 2).astype(np.int32)  # two of five are synthetic, spread unevenly
            yield {"image": source.images(keys), "label": source.labels[keys], "slot": slot, "source": kind}
            step += 1

    return make


def train(path, task, source, recipe, num_devices=4, eval_data=None, **options):
    return fit(
        Training(task, recipe),
        stream_from(source, recipe.batch_size),
        RunFolder.open(path, {}, {}),
        Machine.local(num_devices),
        1,
        eval_data=eval_data,
        **options,
    )


def test_classifier_overfits_sixteen_images(tmp_path):
    """Random images with random labels: nothing but learning them by heart reaches 100 %."""
    source = make_source(16)
    recipe = Recipe(batch_size=16, num_steps=60, name="adamw", learning_rate=0.02)
    batches = eval_stream(source, 16, image_px=4, channels=1)
    _, found, _ = train(tmp_path, Classify(Net(3), 3, SHAPE), source, recipe, eval_data=batches)
    assert found.metrics["top1"] == 100.0
    assert found.metrics["loss"] < 0.1


RECIPE = Recipe(batch_size=16, num_steps=3, name="sgd", learning_rate=0.1, weight_decay=1e-3)
SMALL = {"num_classes": 3, "axis_name": parallel.AXIS}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (ResNet(stage_sizes=(2,), block="basic", width=4, stem="cifar", stochastic_depth=0.5, **SMALL), {}),
        (ResNet(stage_sizes=(1,), block="basic", width=4, stem="cifar", separate_stats=True, **SMALL), {}),
        (WideResNet(depth=10, widen=1, dropout=0.3, **SMALL), {}),
        (ViT(width=8, depth=2, num_heads=2, patch_px=2, dropout=0.2, stochastic_depth=0.5, **SMALL), {}),
        (Net(3), {"lambda_real": 0.5, "lambda_syn": 2.0, "synthetic_smoothing": 0.2}),
        (Net(3), {"logit_adjustment": 1.0, "synthetic_smoothing": 0.2}),
    ],
    ids=["resnet", "separate_stats", "wide_resnet", "vit", "weights", "adjusted"],
)
def test_one_device_trains_as_four(tmp_path, model, options):
    """With synchronised batch norm, whatever a network drops, flips, crops, and two kinds of image."""
    task = Classify(model, 3, SHAPE, Augment(flip=True, crop_px=1), smoothing=0.1, **options)
    source = make_source(48)
    shares = task.class_shares(np.array([[70.0, 20.0, 10.0]]), "abc")
    one, four = (train(tmp_path / str(n), task, source, RECIPE, n, frozen=shares)[0] for n in (1, 4))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        # Sums in another order: roundings of 6e-8 on numbers of order 1, carried along for three steps.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def two_kinds(num=8):
    source = make_source(num)
    batch = {"image": source.images(np.arange(num)), "label": source.labels}
    return {**batch, "source": np.array([0, 0, 1, 0, 0, 0, 2, 1][:num], np.int32)}


def rows_by_hand(batch, state, smoothing=0.0):
    """Cross-entropy of every row of a batch with this label smoothing, [b]."""
    found = logits_by_hand(state.params, state.stats, batch["image"], train=True)
    everywhere = np.mean([cross_entropy_by_hand(found, np.full(len(found), k)) for k in range(3)], axis=0)
    return (1 - smoothing) * cross_entropy_by_hand(found, batch["label"]) + smoothing * everywhere


@pytest.mark.parametrize(("real", "syn"), [(1.0, 0.25), (0.0, 1.0), (3.0, 3.0)])
def test_loss_weighs_each_image_by_its_source(real, syn):
    """Sources 1 and 2 are both synthetic; the mean is over all images, so (1, 1) would be the plain one."""
    state, batch = make_state(3), two_kinds()
    found = loss_of(Classify(Net(3), 3, SHAPE, lambda_real=real, lambda_syn=syn), state, batch)
    weights = np.where(batch["source"] > 0, syn, real)
    assert float(found["loss"]) == pytest.approx(np.mean(weights * rows_by_hand(batch, state)), rel=1e-5)


def test_synthetic_labels_are_smoothed_before_all_labels_are():
    state, batch = make_state(3), two_kinds()
    found = loss_of(Classify(Net(3), 3, SHAPE, smoothing=0.1, synthetic_smoothing=0.2), state, batch)
    real, syn = rows_by_hand(batch, state, 0.1), rows_by_hand(batch, state, 1 - 0.9 * 0.8)
    assert float(found["loss"]) == pytest.approx(np.where(batch["source"] > 0, syn, real).mean(), rel=1e-5)


class Table(nn.Module):
    """Logits that are linear in the pixels: of the points of `population`, a free table."""

    @nn.compact
    def __call__(self, x, train, keys=None):
        return nn.Dense(3, use_bias=False)(x.reshape(len(x), -1))


# How many images of each of five kinds (rows) are of each of three classes: 77, 30 and 13 of 120.
POPULATION = np.array([[40, 5, 1], [20, 6, 3], [10, 9, 1], [5, 7, 2], [2, 3, 6]])


def population():
    """All of them as one batch, an image of kind i being white in pixel i; and the pixels of the five kinds."""
    kind, label = (index.ravel().repeat(POPULATION.ravel()) for index in np.indices(POPULATION.shape))
    images = (255 * np.eye(5, 16, dtype=np.uint8)).reshape(5, *SHAPE)
    batch = {"image": images[kind], "label": label.astype(np.int32), "source": np.zeros(len(kind), np.int32)}
    return jax.tree.map(jnp.asarray, batch), images.reshape(5, 16) / 127.5 - 1


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_adjusted_logits_are_best_where_the_classes_mean_accuracy_is(smoothing):
    """At log p(y|x) / pi(y) the loss of the whole population is stationary, and that ranks classes as balance does."""
    batch, pixels = population()
    task = Classify(Table(), 3, SHAPE, smoothing=smoothing, logit_adjustment=1.0)
    shares = task.class_shares(POPULATION.sum(0)[None], "abc")
    np.testing.assert_allclose(shares, np.array([77, 30, 13]) / 120, rtol=1e-6)
    posterior = POPULATION / POPULATION.sum(1, keepdims=True)
    best = np.log((1 - smoothing) * posterior / shares + smoothing)
    params = {"Dense_0": {"kernel": np.linalg.lstsq(pixels, best, rcond=None)[0].astype(np.float32)}}

    def loss(params, task, shares):
        keys = jax.random.split(jax.random.key(0), len(batch["label"]))
        return task.loss(params, {}, shares, batch, keys)[0]

    slope, plain = (
        jax.grad(loss)(params, task, jnp.asarray(shares)),
        jax.grad(loss)(params, Classify(Table(), 3, SHAPE), None),
    )
    assert abs(slope["Dense_0"]["kernel"]).max() < 1e-6 < 1e-2 < abs(plain["Dense_0"]["kernel"]).max()  # float32
    # The balanced accuracy of every way to name a class for each kind; the plain posterior's way has less.
    every = np.stack(np.meshgrid(*[range(3)] * 5), axis=-1).reshape(-1, 5)
    recalls = POPULATION / POPULATION.sum(0)
    balanced = recalls[np.arange(5), every].sum(1) / 3
    adjusted, likeliest = (recalls[np.arange(5), scores.argmax(1)].sum() / 3 for scores in (best, posterior))
    assert adjusted == pytest.approx(balanced.max()) and likeliest < balanced.max() - 0.05


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_adjustment_is_a_bias_that_prediction_does_without(tau):
    state, batch, shares = make_state(3), two_kinds(), jnp.array([0.7, 0.2, 0.1])
    task = Classify(Net(3), 3, SHAPE, logit_adjustment=tau)
    found = loss_of(task, state, batch, shares)
    moved = jax.tree.map(np.copy, state)
    moved.params["Dense_1"]["bias"] += tau * np.log(shares)
    assert float(found["loss"]) == pytest.approx(float(loss_of(Classify(Net(3), 3, SHAPE), moved, batch)["loss"]))
    source = make_source(13)
    assert evaluate(task, state, source, 8).metrics == evaluate(Classify(Net(3), 3, SHAPE), state, source, 8).metrics


def test_class_shares_are_those_of_the_loss():
    """Of draws [S, K], real ones first, each source by its weight; none is asked for where nothing is adjusted."""
    drawn = np.array([[90.0, 10.0], [0.0, 30.0], [0.0, 20.0]])
    assert Classify(Net(2), 2, SHAPE).class_shares(drawn, "ab") is None
    np.testing.assert_allclose(Classify(Net(2), 2, SHAPE, logit_adjustment=1.0).class_shares(drawn, "ab"), [0.6, 0.4])
    weighted = Classify(Net(2), 2, SHAPE, logit_adjustment=1.0, lambda_real=0.5, lambda_syn=0.1)
    np.testing.assert_allclose(weighted.class_shares(drawn, "ab"), [0.45 / 0.55, 0.1 / 0.55], rtol=1e-6)
    with pytest.raises(ValueError, match=r"\['b'\] are never drawn"):
        weighted.class_shares(np.array([[90.0, 0.0]]), "ab")


def test_mixed_images_weigh_as_their_labels_do():
    """Weights 0 and 1, and labels that are the sources: the weight of a row is its target's part of class 1."""
    state, batch = make_state(3), two_kinds()
    batch = {name: np.concatenate([rows] * 4) for name, rows in batch.items()}  # eight rows on each of four devices
    batch["label"] = (batch["source"] > 0).astype(np.int32)
    task = Classify(Net(3), 3, SHAPE, Augment(mixup=1.0), lambda_real=0.0)
    keys = jax.random.split(jax.random.key(0), 32)
    image, target, share = jax.jit(task._prepare)(batch, keys)
    np.testing.assert_allclose(share, target[:, 1], atol=1e-6)
    np.testing.assert_allclose(target.sum(1), 1, atol=1e-6)
    assert np.sum((share > 0) & (share < 1)) >= 8
    plain, plain_target, nothing = jax.jit(Classify(Net(3), 3, SHAPE, Augment(mixup=1.0))._prepare)(batch, keys)
    np.testing.assert_array_equal(image, plain)  # to tell the kinds changes no draw
    np.testing.assert_array_equal(target, plain_target)
    assert nothing is None
    assert np.isfinite(float(loss_of(task, state, batch)["loss"]))


def test_network_with_separate_statistics_learns_each_kinds():
    """Of the stem's output, over the whole batch although two devices hold no synthetic image."""
    model = ResNet(stage_sizes=(), block="basic", width=4, stem="cifar", separate_stats=True, **SMALL)
    task, batch = Classify(model, 3, SHAPE), two_kinds()
    params, stats = jax.tree.map(np.asarray, task.init(jax.random.key(0)))
    found = loss_of(task, TrainState(np.int32(0), params, stats, None, None), batch)["stats"]["stem_norm"]
    stem = jax.lax.conv_general_dilated(
        np.float32(batch["image"]) / 127.5 - 1,
        params["stem_conv"]["kernel"],
        (1, 1),
        [(1, 1)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    for name, rows in (("", batch["source"] == 0), ("synthetic_", batch["source"] > 0)):
        np.testing.assert_allclose(found[f"{name}mean"], 0.1 * stem[rows].mean((0, 1, 2)), atol=1e-5)
        np.testing.assert_allclose(found[f"{name}var"], 0.9 + 0.1 * stem[rows].var((0, 1, 2)), atol=1e-5)


def test_warm_start_puts_a_public_checkpoint_into_state_and_average(tmp_path):
    """Written under torchvision's names; the head, of another number of classes, stays fresh."""
    model = ResNet(stage_sizes=(), block="basic", num_classes=3, width=4)
    kernel = np.random.default_rng(0).normal(size=(4, 3, 7, 7)).astype(np.float32)
    norm = {f"bn1.{leaf}": np.full(4, 2.0, np.float32) for leaf in ("weight", "bias", "running_mean", "running_var")}
    head = {"fc.weight": np.zeros((9, 4), np.float32), "fc.bias": np.zeros(9, np.float32)}
    safetensors.numpy.save_file({"conv1.weight": kernel, **norm, **head}, tmp_path / "w.safetensors")
    task = Classify(model, 3, (8, 8, 3), pretrained=str(tmp_path / "w.safetensors"))
    fresh = init_state(task, Recipe(batch_size=8, num_steps=1, ema_half_life_images=1.0), 0)
    state = task.warm_start()(fresh)
    for params, stats in ((state.params, state.stats), (state.ema["params"], state.ema["stats"])):
        np.testing.assert_array_equal(params["stem_conv"]["kernel"], kernel.transpose(2, 3, 1, 0))
        np.testing.assert_array_equal(stats["stem_norm"]["mean"], 2.0)
        np.testing.assert_array_equal(params["head"]["kernel"], fresh.params["head"]["kernel"])
    assert state.step == 0 and jax.tree.structure(state) == jax.tree.structure(fresh)


def test_warm_start_is_nothing_without_a_checkpoint_and_refuses_an_absent_one():
    assert Classify(Net(3), 3, SHAPE).warm_start() is None
    with pytest.raises(ValueError, match="no such file"):
        Classify(Net(3), 3, SHAPE, pretrained="absent.safetensors").warm_start()


def test_run_starts_warm_once_and_resumes_from_its_own(tmp_path):
    task, source, calls = Classify(Net(3), 3, SHAPE), make_source(16), []

    def start(state):
        calls.append(int(state.step))
        return state.replace(params=jax.tree.map(jnp.zeros_like, state.params))

    recipe = Recipe(batch_size=16, num_steps=1, name="sgd", learning_rate=1e-6)
    for _ in range(2):
        state, _, _ = train(tmp_path, task, source, recipe, start=start)
    assert calls == [0]
    assert np.abs(state.params["Dense_0"]["kernel"]).max() < 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"smoothing": 1.0},
        {"synthetic_smoothing": -0.1},
        {"lambda_real": -1.0},
        {"lambda_real": 0.0, "lambda_syn": 0.0},
        {"lambda_syn": float("nan")},
    ],
)
def test_classify_refuses_what_could_not_train(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Classify(Net(3), 3, SHAPE, **options)


def test_soft_label_weighs_the_loss_of_both_of_its_classes():
    state, batch = make_state(3), two_kinds()
    weight = np.where(batch["source"] > 0, np.float32(0.25), np.float32(0))
    batch |= {"second": (batch["label"] + 1) % 3, "second_weight": weight}
    found = loss_of(Classify(Net(3), 3, SHAPE, lambda_syn=0.5), state, batch)
    other = rows_by_hand({**batch, "label": batch["second"]}, state)
    rows = (1 - weight) * rows_by_hand(batch, state) + weight * other
    assert float(found["loss"]) == pytest.approx(np.mean(np.where(batch["source"] > 0, 0.5, 1) * rows), rel=1e-5)
