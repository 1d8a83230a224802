"""Laws of train/features.py: one row an image, named by what extracts it."""

import jax
import numpy as np
import pytest

from jaxmoust.core.state import TrainState
from jaxmoust.data.loading.loader import eval_stream
from jaxmoust.data.source import from_arrays
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train import features
from jaxmoust.train.classify import Classify
from jaxmoust.train.loop import normalize

SHAPE = (8, 8, 1)
IMAGES = np.random.RandomState(0).randint(0, 256, (21, *SHAPE)).astype(np.uint8)
SOURCE = from_arrays(IMAGES, np.arange(21) % 3)


def stream(source=SOURCE, batch_size=8):
    return eval_stream(source, batch_size, image_px=8, channels=1)


@pytest.fixture(scope="module")
def task() -> Classify:
    return Classify(ResNet(num_classes=3, stage_sizes=(1,), block="basic", width=4, stem="cifar"), 3, SHAPE)


@pytest.fixture(scope="module")
def state(task) -> TrainState:
    params, stats = task.init(jax.random.key(0))
    params["head"]["kernel"] = 0.1 * jax.random.normal(jax.random.key(1), params["head"]["kernel"].shape)
    return TrainState(0, params, stats, None, None)


def test_features_of_a_classifier_are_what_its_head_is_linear_in(task, state):
    extractor = features.of_classifier(task, state)
    found = features.make_extract(extractor, Machine.all())(stream())
    assert found.shape == (21, 4) and found.dtype == np.float32
    logits = task.logits({"params": state.params, "stats": state.stats}, normalize(IMAGES))
    head = state.params["head"]
    np.testing.assert_allclose(found @ head["kernel"] + head["bias"], logits, atol=1e-5)  # float32 sums of 4


def test_features_are_one_row_an_image_in_order_at_any_batch_size(task, state):
    extract = features.make_extract(features.of_classifier(task, state), Machine.all())
    first, second = extract(stream()), extract(stream(batch_size=12))
    np.testing.assert_allclose(first, second, atol=1e-5)  # programs of other batch sizes round differently
    back = extract(stream(SOURCE.subset(np.arange(21)[::-1])))
    np.testing.assert_allclose(back[::-1], first, atol=1e-5)


def test_features_of_mirrored_images_are_those_of_flipped_ones(task, state):
    extract = features.make_extract(features.of_classifier(task, state), Machine.all())
    flipped = from_arrays(IMAGES[:, :, ::-1], np.arange(21) % 3)
    np.testing.assert_array_equal(extract(stream(), mirrored=True), extract(stream(flipped)))


def test_features_use_the_averaged_parameters_where_there_are_any(task, state):
    averaged = {"params": jax.tree.map(lambda x: 2 * x, state.params), "stats": state.stats}
    with_average = features.of_classifier(task, state.replace(ema=averaged))
    assert jax.tree.all(jax.tree.map(np.array_equal, dict(with_average.variables), averaged))


def test_extractor_is_named_by_its_kind_and_its_parameters(task, state):
    name = features.of_classifier(task, state, "real_classifier").name
    assert name == features.of_classifier(task, state, "real_classifier").name
    assert name.startswith("real_classifier-") and len(name) == len("real_classifier-") + 8
    other = state.replace(params=jax.tree.map(lambda x: x + 1e-3, state.params))
    assert features.of_classifier(task, other, "real_classifier").name != name


def test_extractors_name_holds_how_images_are_prepared(state):
    names = {features.named("clip", state.params, how) for how in ("", "224 of 256", "squashed to 224")}
    assert len(names) == 3 and all(name.startswith("clip-") for name in names)
