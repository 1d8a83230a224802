"""How many bytes one accelerator needs for a step, read from shapes alone: nothing is computed and nothing allocated.

Programs are followed equation by equation as JAX traces them, which knows what a gradient keeps and what `remat` frees,
and not what a compiler does with it: XLA puts equations together and saves some, and copies and loses some. XLA's own
plans for the CPU, of small U-Nets without `remat`, were 1.0 to 1.4 times the estimate, so leave a third free. This
file knows no devices.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import optax
from jax.extend import core

# Results that are another view of their operand, or that are written where they are used.
_VIEWS = frozenset({"broadcast_in_dim", "expand_dims", "optimization_barrier", "reshape", "squeeze"})
# Equations whose inside runs beside what they return, again and again.
_LOOPS = frozenset({"scan", "while"})
# What a gradient may keep of each result of the loss: itself, two numbers of its derivative, and that by it, twice.
_PER_RESULT = 5


@dataclass(frozen=True)
class Need:
    """The bytes that are held at once, by what they hold."""

    parts: dict[str, float]

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        """In GiB, the largest first: "6.9 GiB: parameters 3.2, activations 2.1, ..."."""
        gib = {name: size / 2**30 for name, size in sorted(self.parts.items(), key=lambda item: -item[1]) if size}
        return f"{self.total / 2**30:.1f} GiB: " + ", ".join(f"{name} {size:.1f}" for name, size in gib.items())


def of_training(
    loss: Callable[[Any, Any, Any], jax.Array],
    params: Any,
    frozen: Any,
    batch: Any,
    tx: optax.GradientTransformation,
    average: bool = False,
    micro_batches: int = 1,
    at_most: bool = False,
) -> Need:
    """The memory of one device in a step of training.

    Args:
        loss: of (params, frozen, batch), a number. params: what is trained, as arrays or `jax.ShapeDtypeStruct`s.
        frozen: what the loss uses besides, latents and text states that were computed before among it.
        batch: the rows that go through the network at once on one device, with whatever else the loss wants of a step.
        average: whether an average of the parameters is kept. micro_batches: more than 1 adds up gradients.
        at_most: trace the loss alone, and not its gradient, which takes half of the time, and gives a bound from above.
    """
    size = size_of(params)
    if at_most:
        through = _PER_RESULT * _every(jax.make_jaxpr(loss)(params, frozen, batch).jaxpr) + size
    else:
        through = peak(jax.grad(loss), params, frozen, batch)
    return Need(
        {
            "parameters": size,
            "frozen": size_of(frozen),
            "optimizer": size_of(jax.eval_shape(tx.init, params)),
            "average": size * average,
            "gradients": size * (2 if micro_batches > 1 else 1),
            # After the last gradient is there, the update takes as much again.
            "activations": max(through - size, size),
            "batch": size_of(batch),
        }
    )


def of_sampling(draw: Callable[[Any, Any], Any], params: Any, batch: Any) -> Need:
    """The memory of one device that draws a batch: draw(params, batch), as arrays or `jax.ShapeDtypeStruct`s."""
    return Need({"parameters": size_of(params), "activations": peak(draw, params, batch), "batch": size_of(batch)})


def size_of(tree: Any) -> int:
    """The bytes of a tree of arrays or `jax.ShapeDtypeStruct`s."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def peak(fn: Callable, *args: Any) -> int:
    """The most bytes alive at once in fn(*args) besides its arguments, its results included."""
    return _peak(jax.make_jaxpr(fn)(*args).jaxpr)


def operations(fn: Callable, *args: Any) -> float:
    """The floating-point operations of the products of matrices and the convolutions in fn(*args), two for each pair.

    Of a branch each side counts; what runs for as long as a condition holds counts once.
    """
    return _operations(jax.make_jaxpr(fn)(*args).jaxpr)


def _operations(jaxpr: core.Jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        total += equation.params.get("length", 1) * sum(map(_operations, _inner(equation)))
        name, result = equation.primitive.name, math.prod(_shape(equation.outvars[0])) if equation.outvars else 0
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * result * math.prod(_shape(equation.invars[0])[i] for i in contracted)
        elif name == "conv_general_dilated":
            # The kernel's input channels are those of a group already; zeros that a stride puts in are no operations.
            _, kernel, _ = equation.params["dimension_numbers"]
            inside = math.prod(_shape(equation.invars[1])[i] for i in kernel[1:])
            zeros = math.prod(equation.params["lhs_dilation"])
            total += 2 * result * inside / zeros
    return total


def _shape(var: Any) -> tuple[int, ...]:
    return getattr(var.aval, "shape", ())


def _every(jaxpr: core.Jaxpr) -> float:
    """The bytes of every result of a program, and of the programs inside, each time that they run."""
    total = 0.0
    for equation in jaxpr.eqns:
        times = equation.params.get("length", 1) if equation.primitive.name != "while" else math.inf
        inside = sum(map(_every, _inner(equation)))
        total += (times * inside if inside else 0) + sum(_bytes(var.aval) for var in equation.outvars)
    return total


def _peak(jaxpr: core.Jaxpr) -> int:
    """Follows a program in its order; each value lives until its last use, the results until the end."""
    of: dict[core.Var, core.Var] = {}  # a view -> what it is a view of
    last = _last_uses(jaxpr, of)
    ends: dict[int, list[core.Var]] = {}
    for var, number in last.items():
        ends.setdefault(number, []).append(var)
    alive: dict[core.Var, int] = {}
    now = most = 0
    for number, equation in enumerate(jaxpr.eqns):
        inside = max((_peak(inner) for inner in _inner(equation)), default=0)
        results = {var: _bytes(var.aval) for var in equation.outvars if var not in of and var in last}
        returned = sum(results.values())
        most = max(most, now + (inside + returned if equation.primitive.name in _LOOPS else max(inside, returned)))
        alive |= results
        now += returned
        now -= sum(alive.pop(var, 0) for var in ends.get(number, ()))
    return max(most, now)


def _last_uses(jaxpr: core.Jaxpr, of: dict[core.Var, core.Var]) -> dict[core.Var, int]:
    """The number of the equation that uses each value last, itself or a view of it; views are written into `of`."""
    last: dict[core.Var, int] = {}
    for number, equation in enumerate(jaxpr.eqns):
        used = [of.get(var, var) for var in equation.invars if isinstance(var, core.Var)]
        if _is_view(equation) and used:
            of[equation.outvars[0]] = used[0]
        last |= dict.fromkeys([*used, *(var for var in equation.outvars if var not in of)], number)
    results = [of.get(var, var) for var in jaxpr.outvars if isinstance(var, core.Var)]
    return last | dict.fromkeys(results, len(jaxpr.eqns))


def _is_view(equation: core.JaxprEqn) -> bool:
    """Whether a result costs nothing: another shape, or more digits of what stays as it is."""
    if equation.primitive.name != "convert_element_type":
        return equation.primitive.name in _VIEWS and len(equation.outvars) == 1
    return _bytes(equation.outvars[0].aval) >= _bytes(equation.invars[0].aval)


def _inner(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    for value in equation.params.values():
        for inner in value if isinstance(value, tuple | list) else (value,):
            if isinstance(inner, core.ClosedJaxpr | core.Jaxpr):
                yield inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner


def _bytes(leaf: Any) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize if hasattr(leaf, "dtype") else 0
