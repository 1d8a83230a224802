"""Laws of core/optim.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmoust.core import optim
from jaxmoust.core.optim import Recipe, layer_rates
from jaxmoust.core.tree import named_leaves

PARAMS = {
    "conv": {"kernel": jnp.full((3, 3, 2, 2), 0.5), "bias": jnp.ones(2)},
    "norm": {"scale": jnp.ones(2)},
    "embed": {"embedding": jnp.ones((4, 2))},
    "odd": {"kernel": jnp.ones(2)},
}


def test_warmup_cosine_hits_its_end_points():
    schedule = optim.warmup_cosine(0.4, num_steps=100, warmup_steps=20, end_factor=0.1)
    assert schedule(0) == pytest.approx(0.4 / 21)  # the first update is not lost
    assert schedule(20) == pytest.approx(0.4)
    assert schedule(60) == pytest.approx(0.4 * (0.1 + 0.9 / 2))  # half way down the cosine
    assert schedule(100) == pytest.approx(0.04) == schedule(1000)


def test_warmup_cosine_rises_then_falls_without_a_jump():
    values = np.asarray(jax.vmap(optim.warmup_cosine(1.0, 50, 10))(jnp.arange(51)))
    assert np.all(np.diff(values[:11]) > 0) and np.all(np.diff(values[10:]) < 0)
    np.testing.assert_allclose(np.diff(values[:11]), 1 / 11, rtol=1e-5)
    assert np.abs(np.diff(values)).max() < 0.1


def test_warmup_cosine_without_warmup_starts_at_the_peak():
    assert optim.warmup_cosine(0.3, 10)(jnp.int32(0)) == pytest.approx(0.3)


def test_decay_mask_marks_kernels_of_rank_two_and_more():
    assert optim.decay_mask(PARAMS) == {
        "conv": {"kernel": True, "bias": False},
        "norm": {"scale": False},
        "embed": {"embedding": False},
        "odd": {"kernel": False},
    }


def _updates(tx, grads, num_steps=1):
    params, state, moves = PARAMS, tx.init(PARAMS), []
    with jax.numpy_dtype_promotion("standard"):  # optax itself raises a float to an int32 power
        update = jax.jit(tx.update)
        for _ in range(num_steps):
            move, state = update(grads, state, params)
            params = optax.apply_updates(params, move)
            moves.append(move)
    return moves


ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
ONES = jax.tree.map(jnp.ones_like, PARAMS)


def test_decay_mask_marks_adapters_and_learnt_words():
    pair = {"A": np.ones((3, 2)), "B": np.ones((2, 3))}
    mask = optim.decay_mask(
        {"lora": {"unet/attn1/to_q": pair}, "tokens": np.ones((1, 3)), "embedding": np.ones((4, 3))}
    )
    assert mask == {"lora": {"unet/attn1/to_q": {"A": True, "B": True}}, "tokens": True, "embedding": False}


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_weight_decay_moves_the_masked_leaves_alone(name):
    (move,) = _updates(optim.make_optimizer(name, lambda step: 0.1, weight_decay=0.2, momentum=0.0), ZEROS)
    np.testing.assert_allclose(move["conv"]["kernel"], -0.1 * 0.2 * 0.5, rtol=1e-6)
    for rest in (move["conv"]["bias"], move["norm"]["scale"], move["embed"]["embedding"], move["odd"]["kernel"]):
        np.testing.assert_array_equal(rest, 0)


def test_sgd_is_nesterov_with_momentum():
    moves = _updates(optim.make_optimizer("sgd", lambda step: 1.0, momentum=0.9), ONES, num_steps=3)
    # m_t = 0.9 m_{t-1} + g and the move is -(g + 0.9 m_t): 1.9, 2.71, 3.439.
    for move, expected in zip(moves, [-1.9, -2.71, -3.439], strict=True):
        np.testing.assert_allclose(move["norm"]["scale"], expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_first_move_is_the_rate(name):
    (move,) = _updates(optim.make_optimizer(name, lambda step: 0.01), jax.tree.map(lambda g: 7 * g, ONES))
    np.testing.assert_allclose(move["norm"]["scale"], -0.01, rtol=1e-5)


def test_clip_limits_the_global_norm_of_the_gradient():
    tx = optim.make_optimizer("sgd", lambda step: 1.0, momentum=0.0, clip_norm=0.5)
    (move,) = _updates(tx, ONES)
    np.testing.assert_allclose(optax.tree.norm(move), 0.5, rtol=1e-5)
    small = jax.tree.map(lambda g: 0.01 * g, ONES)
    (move,) = _updates(tx, small)
    np.testing.assert_allclose(move["norm"]["scale"], -0.01, rtol=1e-6)


def test_optimizer_follows_its_schedule():
    moves = _updates(optim.make_optimizer("sgd", lambda step: 0.5**step, momentum=0.0), ONES, num_steps=3)
    np.testing.assert_allclose([move["norm"]["scale"][0] for move in moves], [-1, -0.5, -0.25])


def test_ema_gap_halves_after_half_life_images():
    batch_size, half_life = 50, 1000
    ema, new = {"w": jnp.zeros(3)}, {"w": jnp.ones(3)}
    for step in range(half_life // batch_size):
        ema = optim.ema_update(ema, new, optim.ema_decay(step, batch_size, half_life, rampup=None))
    np.testing.assert_allclose(ema["w"], 0.5, rtol=1e-5)


def test_ema_starts_as_the_new_value_and_ramps_up_to_its_half_life():
    # A first average of infinite-like initial weights must vanish exactly.
    ema = optim.ema_update({"w": jnp.full(2, 1e6)}, {"w": jnp.full(2, 0.1)}, optim.ema_decay(0, 64, 5000.0))
    np.testing.assert_array_equal(ema["w"], jnp.full(2, 0.1))
    decays = np.array([optim.ema_decay(step, 64, 5000.0) for step in (1, 10, 100, 1562, 1563, 10_000)])
    assert np.all(np.diff(decays[:4]) > 0)
    # Half life 5 % of the images seen: 0.5^(64 / (0.05 * 64 * 10)) = 0.25; full after 5000 / 0.05 / 64 = 1562.5.
    assert decays[1] == pytest.approx(0.25)
    np.testing.assert_allclose(decays[4:], 0.5 ** (64 / 5000), rtol=1e-6)


def test_ema_decay_accepts_the_traced_step():
    assert jax.jit(lambda step: optim.ema_decay(step, 64, 5000.0))(jnp.int32(10)) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "call",
    [
        lambda: optim.warmup_cosine(1.0, 10, 10),
        lambda: optim.warmup_cosine(1.0, 10, -1),
        lambda: optim.warmup_cosine(1.0, 10, 0, end_factor=2.0),
        lambda: optim.make_optimizer("lion", lambda step: 1.0),
        lambda: optim.make_optimizer("adam", lambda step: 1.0, weight_decay=0.1),
        lambda: optim.make_optimizer("sgd", lambda step: 1.0, weight_decay=-0.1),
        lambda: optim.ema_decay(0, 64, 0.0),
    ],
)
def test_impossible_settings_are_refused(call):
    with pytest.raises(ValueError, match="got "):
        call()


def test_rates_fall_by_layers_and_the_head_has_the_whole_one():
    """A transformer's stacked blocks, and blocks that are counted by stages."""
    stack = {"head": {"kernel": jnp.ones(2)}, "backbone": {"blocks": {"qkv": {"kernel": jnp.ones((3, 2, 2))}}}}
    stack["backbone"] |= {
        "norm": {"scale": jnp.ones(2)},
        "pos_embed": jnp.ones(2),
        "patch_embed": {"bias": jnp.ones(1)},
    }
    rates = named_leaves(layer_rates(stack, 0.5))
    first = {name: float(leaf.ravel()[0]) for name, leaf in rates.items()}
    assert first["head/kernel"] == 1 and first["backbone/norm/scale"] == 0.5
    assert rates["backbone/blocks/qkv/kernel"][:, 0, 0].tolist() == [0.125, 0.25, 0.5]
    assert first["backbone/pos_embed"] == first["backbone/patch_embed/bias"] == 0.0625
    counted = {f"stage{s}_block{b}": {"conv0": jnp.ones(1)} for s in (0, 10, 2) for b in (0, 1)}
    rates = named_leaves(layer_rates({**counted, "stem_conv": jnp.ones(1), "head": jnp.ones(1)}, 0.5))
    assert [float(rates[f"stage{s}_block{b}/conv0"][0]) for s in (0, 2, 10) for b in (0, 1)] == [
        2.0**-d for d in (6, 5, 4, 3, 2, 1)
    ]
    assert float(rates["stem_conv"][0]) == 2.0**-7 and float(rates["head"][0]) == 1


def test_decay_by_layers_slows_what_adamw_does_and_one_changes_nothing():
    params = {"head": {"kernel": jnp.ones((2, 2))}, "blocks": {"mlp": {"kernel": jnp.ones((2, 2, 2))}}}
    grads = jax.tree.map(lambda x: 0.1 * x, params)

    def step(**how):
        tx = Recipe(8, 10, "adamw", 0.1, weight_decay=0.1, **how).tx
        with jax.numpy_dtype_promotion("standard"):  # which Optax's Adam needs
            return tx.update(grads, tx.init(params), params)[0]

    plain, slow = step(), step(layer_decay=0.5)
    jax.tree.map(np.testing.assert_array_equal, step(layer_decay=1.0), plain)
    np.testing.assert_allclose(
        slow["blocks"]["mlp"]["kernel"][:, 0, 0], plain["blocks"]["mlp"]["kernel"][:, 0, 0] * jnp.array([0.25, 0.5])
    )
    np.testing.assert_array_equal(slow["head"]["kernel"], plain["head"]["kernel"])
    with pytest.raises(ValueError, match=r"optim\.layer_decay 0\.0: expected"):
        Recipe(8, 10, layer_decay=0.0)
