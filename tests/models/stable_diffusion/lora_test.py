"""models/stable_diffusion/lora.py: what adapters do to parameters and to answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_stable_diffusion as tiny
from flax import linen as nn

from jaxmoust.core.tree import named_leaves
from jaxmoust.models import stable_diffusion
from jaxmoust.models.stable_diffusion import lora
from jaxmoust.models.stable_diffusion.layers import run


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> stable_diffusion.Loaded:
    return tiny.write_pipeline(tmp_path_factory.mktemp("pipeline") / "1", 1)


@pytest.fixture(scope="module")
def adapters(loaded):
    """Adapters of the U-Net and of the text encoder, both sides random."""
    made = lora.init(jax.random.key(0), loaded.params, 4, (*lora.ATTENTION, *tiny.TEXT_ATTENTION))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32) / 4, made)


def added(params, adapters, scale=1.0):
    """What a plain pipeline has with the adapters in it."""
    return lora.merged(lora.attach(params, adapters, scale))


def test_fresh_adapters_change_nothing_and_are_of_the_attentions_alone(loaded):
    fresh = lora.init(jax.random.key(0), loaded.params, 4)
    # Two attentions, of four matrices each, in each of four spatial transformers: 1 down, 1 middle, 2 up.
    assert len(fresh) == 32 and all("/attn1/" in name or "/attn2/" in name for name in fresh)
    merged = added(loaded.params, fresh, 2.0)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, merged, loaded.params)))
    a = np.concatenate([np.ravel(pair["A"]) for pair in fresh.values()])
    assert a.std() == pytest.approx(1 / 4, rel=0.05) and {pair["A"].shape[1] for pair in fresh.values()} == {4}


def test_merging_adds_the_product_to_the_adapted_matrices_alone(loaded, adapters):
    before, after = named_leaves(loaded.params), named_leaves(added(loaded.params, adapters, 0.5))
    for name, leaf in after.items():
        if (pair := adapters.get(name.removesuffix("/kernel"))) and name.endswith("/kernel"):
            np.testing.assert_allclose(leaf, before[name] + 0.5 * pair["A"] @ pair["B"], atol=1e-5)
        else:
            assert leaf is before[name]


def test_gradients_reach_both_sides(loaded, adapters):
    name = next(iter(adapters))

    def loss(adapters):
        return jnp.sum(named_leaves(added(loaded.params, adapters, 0.5))[f"{name}/kernel"])

    grads = jax.grad(loss)(adapters)
    np.testing.assert_allclose(grads[name]["A"], 0.5 * np.broadcast_to(adapters[name]["B"].sum(1), (32, 4)), rtol=1e-4)
    others = [pair["A"] for other, pair in grads.items() if other != name]
    assert others and not any(np.any(x) for x in others)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_merged_matrices_keep_their_type(loaded, adapters, dtype):
    half = jax.tree.map(lambda x: x.astype(dtype), loaded.params)
    assert {x.dtype for x in jax.tree.leaves(added(half, adapters, 1.0))} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(
    ("rank", "names", "said"),
    [(0, lora.ATTENTION, "expected 1 to 32"), (33, lora.ATTENTION, "expected 1 to 32"), (4, ("to_x",), "to_x")],
)
def test_impossible_ranks_and_matrices_are_refused(loaded, rank, names, said):
    with pytest.raises(ValueError, match=said):
        lora.init(jax.random.key(0), loaded.params, rank, names)
    with pytest.raises(ValueError, match="which these parameters lack"):
        lora.attach(loaded.params["unet"], {"absent": {"A": np.ones((1, 1)), "B": np.ones((1, 1))}}, 1.0)


class Layers(nn.Module):
    """A dense layer after a strided convolution."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(6, name="dense")(nn.Conv(5, (3, 3), strides=2, padding=((0, 1), (0, 1)), name="conv")(x))


def test_attached_adapters_answer_as_those_that_are_added():
    """Of both kinds of layers, two on one matrix, and of DoRA: the same sums in another order."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 8, 8, 4)).astype(np.float32)
    params = Layers().init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), params)
    shapes = {name: node["kernel"].shape for name, node in params.items()}
    sides = {n: {"A": (*s[:-1], 2), "B": (2, s[-1]), "magnitude": s[-1:]} for n, s in shapes.items()}
    dora = {
        n: {side: rng.uniform(0.5, 1, s).astype(np.float32) for side, s in pair.items()} for n, pair in sides.items()
    }
    plain = {name: {side: pair[side] for side in "AB"} for name, pair in dora.items()}
    once = lora.attach(params, plain, 0.3)
    np.testing.assert_allclose(lora.attached(once)["dense"]["B"], 0.3 * plain["dense"]["B"])
    for changed in (once, lora.attach(once, dora, 0.5)):
        inside, whole = (run(Layers(), p, x) for p in (changed, lora.merged(changed)))
        assert np.std(inside - run(Layers(), params, x)) > 0.5
        np.testing.assert_allclose(inside, whole, atol=1e-4)
    with pytest.raises(ValueError, match="DoRA"):
        lora.attached(changed)


def test_small_adapter_survives_half_precision_where_one_that_was_added_does_not():
    """The part of a small change that is left in bfloat16, of a kernel that a file in bfloat16 gave."""
    rng = np.random.default_rng(0)
    kernel = (rng.standard_normal((32, 32)) / 6).astype(jnp.bfloat16).astype(np.float32)
    x = rng.standard_normal((4000, 32)).astype(np.float32)
    pair = {"A": rng.standard_normal((32, 2)).astype(np.float32), "B": rng.standard_normal((2, 32)).astype(np.float32)}
    plain, layer = {"layer": {"kernel": kernel}}, nn.Dense(32, use_bias=False, dtype=jnp.bfloat16)
    inside = lora.attach(plain, {"layer": pair}, 1e-4)

    def left(params):
        change = run(layer, params["layer"], x).astype(np.float32) - run(layer, kernel_alone, x).astype(np.float32)
        wanted = 1e-4 * x @ pair["A"] @ pair["B"]
        return float(np.sum(change * wanted) / np.sum(wanted**2))

    kernel_alone = plain["layer"]
    assert left(inside) == pytest.approx(1, abs=0.1)  # the answer is rounded to 8 bits, once
    assert left(lora.merged(inside)) < 0.5
