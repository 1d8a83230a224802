"""Laws of core/state.py."""

import jax
import jax.numpy as jnp

from jaxmoust.core.state import TrainState
from jaxmoust.core.tree import named_leaves


def test_train_state_is_a_pytree_that_also_holds_templates():
    state = TrainState(step=jnp.int32(3), params={"w": jnp.ones(2)}, stats={}, opt_state=(), ema=None)
    template = jax.eval_shape(lambda state: state, state)
    assert isinstance(template, TrainState)
    assert list(named_leaves(state)) == list(named_leaves(template)) == ["step", "params/w"]
    assert state.replace(step=state.step + 1).step == 4
