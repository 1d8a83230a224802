"""The noise levels of a pipeline's scheduler, by the class and the settings of its scheduler_config.json.

The class says how timesteps are spaced, and where a setting respaces the levels between the first and the last of them.
The solver is chosen apart from them. A class or a setting that is not known here is refused by its name.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxmoust.core.diffusion import noise

# How torch's schedulers space: DDPM's, at timesteps; k-diffusion's, between them; those that leave the last of N + 1
# out; and those of consistency models.
_DDPM = ("DDIMScheduler", "DDIMParallelScheduler", "DDPMScheduler", "DDPMParallelScheduler", "PNDMScheduler")
_BETWEEN = tuple(
    f"{name}Scheduler"
    for name in (
        "EulerDiscrete",
        "EulerAncestralDiscrete",
        "LMSDiscrete",
        "HeunDiscrete",
        "KDPM2Discrete",
        "KDPM2AncestralDiscrete",
        "DPMSolverSDE",
    )
)
_ONE_MORE = tuple(
    f"{name}Scheduler"
    for name in ("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep", "UniPCMultistep", "SASolver")
)
_CONSISTENCY = ("LCMScheduler", "TCDScheduler")
_KNOWN = _DDPM + _BETWEEN + _ONE_MORE + _CONSISTENCY

Levels = Float[np.ndarray, " N"]


def _beta(high: float, low: float, num: int) -> Levels:
    """Lee et al. 2024 (2407.12173): the quantiles of Beta(0.6, 0.6), evenly."""
    from scipy import stats  # slow to import, and asked for by this spacing alone

    return low + (high - low) * stats.beta.ppf(1 - np.linspace(0, 1, num), 0.6, 0.6)


# What spaces N levels anew, from the highest to the lowest.
_RESPACED: dict[str, Callable[[float, float, int], Levels]] = {
    "use_karras_sigmas": lambda high, low, num: noise.karras_sigmas(num, low, high)[:-1],
    "use_exponential_sigmas": lambda high, low, num: np.geomspace(high, low, num),
    "use_lu_lambdas": lambda high, low, num: np.geomspace(high, low, num),
    "use_beta_sigmas": _beta,
}
# Settings that change levels and are honoured where they are as here.
_ALLOWED = {
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "use_flow_sigmas": (False,),
    "use_dynamic_shifting": (False,),
}


def check(scheduler: Mapping[str, Any], table: Levels) -> None:
    """Refuses a scheduler whose noise levels are not known here. Raises: ValueError."""
    kind = _kind(scheduler)
    if kind not in _KNOWN:
        raise ValueError(
            f"scheduler: {kind!r:.80} has noise levels of its own. Allowed are {', '.join(_KNOWN)}: give the "
            "pipeline's scheduler_config.json the class and the settings of the one that it was trained with."
        )
    for name, allowed in _ALLOWED.items():
        if (value := scheduler.get(name)) not in (None, *allowed):
            raise ValueError(f"scheduler: {name} is {value!r:.80}, expected {allowed[0]!r}.")
    clipped = scheduler.get("lambda_min_clipped")
    if type(clipped) is float and clipped > -math.log(table[-1]):
        raise ValueError(f"scheduler: lambda_min_clipped is {clipped}, which leaves levels out, expected -Infinity.")
    for name in ("sigma_min", "sigma_max"):
        if (value := scheduler.get(name)) is not None and not (type(value) in (int, float) and value > 0):
            raise ValueError(f"scheduler: {name} is {value!r:.80}, expected numbers above 0.")
    if type(offset := scheduler.get("steps_offset", 0)) is not int or offset < 0:
        raise ValueError(f"scheduler: steps_offset is {offset!r:.80}, expected whole numbers from 0, such as 1.")
    if len(chosen := [name for name in _RESPACED if scheduler.get(name)]) > 1:
        raise ValueError(f"scheduler: {' and '.join(chosen)} are set, expected one of them.")


def levels(scheduler: Mapping[str, Any], table: Levels, num_steps: int, offset: int = 1) -> Float[np.ndarray, " N+1"]:
    """The descending noise levels of sampling in N steps, float32, and then 0.

    The last level is always 0. Torch's DEIS and SA-Solver, DDIM, PNDM, LCM and TCD with `set_alpha_to_one` false, and
    others with `final_sigmas_type` "sigma_min", end at the level of timestep 0 (0.03 of Stable Diffusion's), which
    leaves that much noise in the latents. PNDM's `skip_prk_steps` changes no level: where it is false, torch asks the
    network four times in each of the first three steps (Runge-Kutta), which is the solver's affair.

    Args:
        table: of each timestep, ascending.
        offset: as of `timesteps`.
    Raises: ValueError: more steps than there are to take.
    Source: Lin et al. 2023 (2305.08891), table 2, which names the spacings.
    """
    steps = timesteps(scheduler, num_steps, len(table), offset)
    walked = np.interp(steps, np.arange(len(table)), table)
    chosen = next((name for name in _RESPACED if scheduler.get(name)), None)
    if chosen and _kind(scheduler) in _BETWEEN + _ONE_MORE and num_steps > 1:
        ends = table[[-1, 0]] if _kind(scheduler) in _ONE_MORE else walked[[0, -1]]
        high, low = (scheduler.get(n) or end for n, end in zip(("sigma_max", "sigma_min"), ends, strict=True))
        walked = _RESPACED[chosen](float(high), float(low), num_steps)
    walked = np.append(walked, 0.0).astype(np.float32)
    if not np.all(np.diff(walked) < 0):
        raise ValueError(f"{num_steps} steps: the scheduler's levels do not fall at each. Take fewer.")
    return walked


def timesteps(
    scheduler: Mapping[str, Any], num_steps: int, num: int = 1000, offset: int = 1
) -> Float[np.ndarray, " N"]:
    """The timesteps [N] of `levels`, before these are spaced anew; between whole ones for some classes.

    Args:
        num: of the schedule.
        offset: leading ones are moved on by so many, where there is room.
    Raises: ValueError: more steps than the schedule has, or an unknown spacing.
    """
    kind = _kind(scheduler)
    usual = "leading" if kind in _DDPM else "linspace"
    spacing = usual if "Singlestep" in kind else scheduler.get("timestep_spacing", usual)
    most = scheduler.get("original_inference_steps", 50) if kind in _CONSISTENCY else num
    if type(most) is not int or not 1 <= num_steps <= min(most, num):
        raise ValueError(f"num_steps {num_steps}: expected 1 to {most}, the timesteps of the pipeline's schedule.")
    if kind in _CONSISTENCY:
        origin = np.arange(most, 0, -1) * (num // most) - 1
        return origin[np.linspace(0, most, num_steps, endpoint=False).astype(np.int64)]
    more = num_steps + (kind in _ONE_MORE)
    if spacing == "leading":
        leading = (np.arange(more) * (num // more))[::-1][:num_steps]
        return leading + min(offset, num - 1 - leading[0])
    if spacing == "linspace":
        steps = np.linspace(0, num - 1, more)[::-1][:num_steps]
        return steps if kind in _BETWEEN else steps.round()
    if spacing == "trailing":
        return (np.arange(num, 0, -num / num_steps).round() - 1).astype(np.int64)
    raise ValueError(f"scheduler: timestep_spacing is {spacing!r}, expected 'leading', 'linspace' or 'trailing'.")


def _kind(scheduler: Mapping[str, Any]) -> str:
    return str(scheduler.get("_class_name", "DDIMScheduler")).removeprefix("Flax")
