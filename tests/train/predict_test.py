"""Laws of train/predict.py: logits and features of every image once, in order, and one linear layer apart."""

import jax
import numpy as np
import pytest

from jaxmoust.core.state import TrainState
from jaxmoust.data.loading.loader import eval_stream
from jaxmoust.data.source import from_arrays
from jaxmoust.models.classifiers.resnet import ResNet
from jaxmoust.models.classifiers.vit import ViT
from jaxmoust.models.classifiers.wide_resnet import WideResNet
from jaxmoust.runtime.parallel import Machine
from jaxmoust.train import predict
from jaxmoust.train.classify import Classify

SHAPE = (8, 8, 1)
MODELS = {
    "resnet": ResNet(stage_sizes=(1,), block="basic", num_classes=3, width=4, stem="cifar"),
    "wide_resnet": WideResNet(num_classes=3, depth=10, widen=1),
    "vit": ViT(num_classes=3, width=16, depth=1, num_heads=2, patch_px=4),
}


@pytest.mark.parametrize("name", MODELS)
def test_features_are_what_the_head_is_linear_in(name):
    """Thirteen images in padded batches of eight on four devices, by a network of random numbers."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (13, *SHAPE), dtype=np.uint8)
    source, task = from_arrays(images, np.arange(13) % 3), Classify(MODELS[name], 3, SHAPE)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    params, stats = jax.tree.map(lambda leaf: rng.uniform(0.1, 1.0, leaf.shape).astype(np.float32), shapes)
    state = TrainState(np.int32(0), params, stats, None, None)
    logits, features = (
        ask(task, state, eval_stream(source, 8, image_px=8, channels=1), Machine.local(4))
        for ask in (predict.logits, predict.features)
    )
    head = params["head"]
    assert logits.shape == (13, 3) and features.shape == (13, len(head["kernel"]))
    # float32 sums of up to 64 products, added up in another order.
    np.testing.assert_allclose(features @ head["kernel"] + head["bias"], logits, rtol=1e-5)
    assert np.unique(features, axis=0).shape == features.shape
