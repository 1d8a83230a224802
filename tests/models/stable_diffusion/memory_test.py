"""models/stable_diffusion: blocks that are computed again, and what a step needs by memory.py's account."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_stable_diffusion as tiny

from jaxmoust.models.stable_diffusion import memory
from jaxmoust.models.stable_diffusion.pipeline import StableDiffusion, build

WIDTH = 32  # of the text states


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def loss_of(pipeline: StableDiffusion):
    def loss(unet, frozen, batch):
        denoiser = pipeline.denoiser({"unet": unet}, batch["states"])
        return jnp.square(denoiser(batch["x"], jnp.full(len(batch["x"]), 3.0))).mean()

    return loss


def shapes(rows: int, side: int = 8) -> dict[str, jax.ShapeDtypeStruct]:
    states = jax.ShapeDtypeStruct((rows, tiny.LENGTH, WIDTH), jnp.float32)
    return {"x": jax.ShapeDtypeStruct((rows, side, side, 4), jnp.float32), "states": states}


# --- blocks that are computed again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [1, 2])
def test_recomputing_unet_has_the_same_parameters_loss_and_gradients(tokenizer, kind):
    """Equal but for the rounding of sums that a compiler orders anew: a few units in the last of float32's 7 digits."""
    plain, again = (build(tiny.configs(kind, len(tokenizer), shallow=True), tokenizer, remat=r) for r in (False, True))
    wanted = plain.parameter_shapes()
    assert jax.tree.structure(wanted) == jax.tree.structure(again.parameter_shapes())
    unet = tiny.weights(wanted["unet"])
    rng = np.random.default_rng(0)
    batch = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes(2))
    expected, slopes = jax.jit(jax.value_and_grad(loss_of(plain)))(unet, None, batch)
    found, same = jax.jit(jax.value_and_grad(loss_of(again)))(unet, None, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(slopes))
    for left, right in zip(jax.tree.leaves(slopes), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(right, left, atol=1e-5 * largest, rtol=1e-4)


def test_recomputing_unet_keeps_less_for_its_gradient(tokenizer):
    """What the gradient's function closes over, in bytes, and the operations that it pays for them."""
    kept, operations = {}, {}
    for remat in (False, True):
        pipeline = build(tiny.configs(2, len(tokenizer)), tokenizer, remat=remat)
        unet, batch, loss = pipeline.parameter_shapes()["unet"], shapes(8), loss_of(pipeline)
        residuals = jax.eval_shape(
            lambda p, b, loss=loss: jax.vjp(functools.partial(loss, frozen=None, batch=b), p)[1], unet, batch
        )
        kept[remat] = memory.size_of(residuals) - memory.size_of(unet)
        lowered = jax.jit(jax.grad(loss)).lower(unet, None, batch)
        operations[remat] = lowered.cost_analysis()["flops"]
    assert kept[True] < kept[False] / 2
    assert operations[False] < operations[True] < 1.4 * operations[False]


def test_pipelines_of_both_kinds_live_side_by_side(tokenizer):
    """Tracing one leaves nothing behind that the other would meet."""

    def blocks(remat: bool) -> int:
        pipeline = build(tiny.configs(1, len(tokenizer), shallow=True), tokenizer, remat=remat)
        program = jax.make_jaxpr(loss_of(pipeline))(pipeline.parameter_shapes()["unet"], None, shapes(1))
        return sum("prevent_cse" in equation.params for equation in program.eqns)

    assert [blocks(remat) for remat in (False, True, False)] == [0, 9, 0]  # 5 of convolutions, 4 of attention


# --- what a step needs -----------------------------------------------------------------------------------------------


def test_peak_counts_what_is_alive_at_once():
    x = jax.ShapeDtypeStruct((256,), jnp.float32)
    assert memory.peak(lambda x: jnp.sin(x), x) == 1024
    assert memory.peak(lambda x: jnp.sin(jnp.sin(jnp.sin(x))), x) == 2048  # one is read while the next is written
    assert memory.peak(lambda x: (jnp.sin(x), jnp.cos(x), jnp.tan(x)), x) == 3072
    assert memory.peak(lambda x: x.reshape(16, 16), x) == 0  # a view of an argument
    assert memory.peak(jax.jit(lambda x: jnp.sin(jnp.sin(x))), x) == 2048
    three = lambda x: jax.lax.scan(lambda c, _: (jnp.sin(jnp.cos(c)), None), x, length=3)[0]  # noqa: E731
    assert memory.peak(three, x) == 3072  # the carry, and two inside


def test_estimate_is_near_what_the_compiler_plans(tokenizer):
    """XLA puts equations together, copies for its convolutions and orders them anew, so no closer than 40 %.

    Without recomputation: on the CPU XLA moves that to where it saves nothing.
    """
    pipeline = build(tiny.configs(1, len(tokenizer), shallow=True), tokenizer)
    unet, batch, step = pipeline.parameter_shapes()["unet"], shapes(16, 16), jax.grad(loss_of(pipeline))
    planned = jax.jit(step).lower(unet, None, batch).compile().memory_analysis()
    expected = planned.temp_size_in_bytes + planned.output_size_in_bytes
    assert 0.6 < memory.peak(step, unet, None, batch) / expected < 1.4


@pytest.mark.parametrize("of", ["pipeline", "dense", "scan"])
def test_bound_from_the_loss_alone_is_above_what_its_gradient_keeps(of, tokenizer):
    """A bound below would let a training start that no device holds."""
    if of == "pipeline":
        pipeline = build(tiny.configs(1, len(tokenizer), shallow=True), tokenizer)
        step = loss_of(pipeline), pipeline.parameter_shapes()["unet"], None, shapes(16, 16), optax.sgd(1e-3)
    elif of == "dense":
        step = (*dense(1000), optax.sgd(1e-3))
    else:  # keeps what each of its rounds gives
        x = jax.ShapeDtypeStruct((1000,), jnp.float32)
        rounds = lambda x, scale: jax.lax.scan(lambda x, _: (jnp.sin(scale * x), None), x, length=50)[0]  # noqa: E731
        step = lambda p, frozen, x: rounds(x, p).sum(), x, None, x, optax.sgd(1e-3)
    bound, exact = (memory.of_training(*step, at_most=at_most).total for at_most in (True, False))
    assert exact < bound < 20 * exact


def dense(rows: int) -> tuple:
    """A loss of a few layers with its parameters and a batch."""

    def loss(params, frozen, batch):
        for kernel in params:
            batch = jnp.tanh(batch @ kernel)
        return jnp.square(batch - frozen["target"]).mean()

    params = [jax.ShapeDtypeStruct((64, 64), jnp.float32)] * 3
    return (
        loss,
        params,
        {"target": jax.ShapeDtypeStruct((64,), jnp.float32)},
        jax.ShapeDtypeStruct((rows, 64), jnp.float32),
    )


def test_need_of_training_is_the_sum_of_its_parts():
    size = 3 * 64 * 64 * 4
    adam = memory.of_training(*dense(100), optax.adam(1e-3), average=True)
    assert adam.total == sum(adam.parts.values())
    assert adam.parts["parameters"] == adam.parts["gradients"] == adam.parts["average"] == size
    assert adam.parts["frozen"] == 64 * 4 and adam.parts["batch"] == 100 * 64 * 4
    assert 0 <= adam.parts["optimizer"] - 2 * size < 64  # two moments, and a count or two
    # The gradient keeps what each of three layers gave, at the least, for every row.
    some, many = (memory.of_training(*dense(rows), optax.sgd(1e-3), micro_batches=2) for rows in (10_000, 20_000))
    assert some.parts["gradients"] == 2 * size and some.parts["average"] == 0 and some.parts["optimizer"] < 64
    assert some.parts["activations"] > 3 * some.parts["batch"] == 3 * 10_000 * 64 * 4
    np.testing.assert_allclose(many.parts["activations"] / some.parts["activations"], 2, rtol=0.01)  # gradients aside
    assert str(some).startswith(f"{some.total / 2**30:.1f} GiB: activations")


@pytest.mark.parametrize("num_steps", [2, 20])
def test_need_of_sampling_does_not_grow_with_the_number_of_steps(num_steps):
    def draw(params, x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ params), None), x, length=num_steps)[0]

    params, x = jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((100, 64), jnp.float32)
    need = memory.of_sampling(draw, params, x)
    assert need.parts == {"parameters": 64 * 64 * 4, "activations": 3 * 100 * 64 * 4, "batch": 100 * 64 * 4}


def test_whole_of_3_5_large_is_beyond_every_device(tmp_path):
    """Which fine-tuning compares with the device's memory before it starts: 150 GiB, of 15 of parameters."""
    made = tiny.make_pipeline(tmp_path, "sd3").pipeline
    sizes = {"num_layers": 38, "num_attention_heads": 38, "attention_head_dim": 64, "caption_projection_dim": 2432}
    sizes |= {"qk_norm": "rms_norm", "sample_size": 128, "pos_embed_max_size": 192}
    configs = {**made.configs, "transformer": {**made.configs["transformer"], **sizes}}
    pipeline = build(configs, made.tokenizers, jnp.bfloat16, remat=True)
    shapes = pipeline.parameter_shapes()["transformer"]
    half = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), shapes)
    text = {
        "states": jax.ShapeDtypeStruct((1, 44, 80), jnp.bfloat16),
        "pooled": jax.ShapeDtypeStruct((1, 48), jnp.float32),
    }
    batch = {"x": jax.ShapeDtypeStruct((1, 64, 64, 16), jnp.float32), "text": text}
    position = jax.ShapeDtypeStruct((1024, 2432), jnp.bfloat16)

    def loss(net, position, batch):
        denoiser = pipeline.denoiser({"transformer": net, "position": position}, batch["text"])
        return jnp.square(denoiser(batch["x"], jnp.full(1, 3.0))).mean()

    whole = memory.of_training(loss, shapes, position, batch, optax.adamw(1e-5)).total / 2**30
    assert 140 < whole < 160
    assert 14 < memory.size_of(half) / 2**30 < 16


def test_operations_are_two_for_each_pair_in_products_convolutions_and_loops():
    a, b, shape = jnp.ones((3, 5)), jnp.ones((5, 7)), jax.ShapeDtypeStruct
    assert memory.operations(lambda a, b: a @ b, a, b) == 2 * 3 * 5 * 7
    assert memory.operations(lambda x: jnp.sin(x) + x, a) == 0
    looped = jax.jit(lambda a: jax.lax.scan(lambda x, _: (x @ jnp.ones((5, 5)), None), a, length=4)[0])
    assert memory.operations(looped, a) == 4 * 2 * 3 * 5 * 5
    image, kernel = shape((2, 8, 8, 6), jnp.float32), shape((3, 3, 2, 9), jnp.float32)

    def convolve(stride):
        numbers = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": 3}
        return lambda x, k: jax.lax.conv_general_dilated(x, k, (stride, stride), "SAME", **numbers)

    for stride, size in ((1, 8), (2, 4)):
        assert memory.operations(convolve(stride), image, kernel) == 2 * (2 * size * size * 9) * (3 * 3 * 2)
        both = jax.grad(lambda k, x, stride=stride: convolve(stride)(x, k).sum())
        assert memory.operations(both, kernel, image) > 0
