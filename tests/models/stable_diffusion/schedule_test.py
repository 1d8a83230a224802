"""models/stable_diffusion/schedule.py: the levels of torch's schedulers, or a refusal by name.

What torch walks lies in fixtures/schedules.json, by make_schedules.py beside it.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxmoust.models.stable_diffusion.folder import noise_table
from jaxmoust.models.stable_diffusion.schedule import levels

CASES = json.loads((Path(__file__).parent / "fixtures" / "schedules.json").read_text())
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def names():
    plain = ("_class_name", "skip_prk_steps", *BETAS)
    said = [[f"{k}={v}" for k, v in case["config"].items() if k not in plain] for case in CASES]
    return [" ".join([c["config"]["_class_name"], *more]) for c, more in zip(CASES, said, strict=True)]


@pytest.mark.parametrize("case", CASES, ids=names())
def test_levels_are_those_that_torch_walks(case):
    table, _ = noise_table(case["config"])
    for num_steps, walked in case["levels"].items():
        found = levels(case["config"], table, int(num_steps))
        assert found[-1] == 0 and found.dtype == np.float32
        # Torch's tables are float32: where nearly all of an image is gone, their last digits are too.
        np.testing.assert_allclose(found[:-1], walked, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "'FlowMatchEulerDiscreteScheduler' has noise levels of"),
        ({"_class_name": "EDMEulerScheduler"}, "'EDMEulerScheduler' has"),
        ({"_class_name": ["x"]}, "has noise levels of its own"),
        ({"use_flow_sigmas": True}, "use_flow_sigmas is True, expected False"),
        ({"interpolation_type": "log_linear"}, "interpolation_type is 'log_linear', expected 'linear'"),
        ({"timestep_type": "continuous"}, "timestep_type is 'continuous'"),
        ({"lambda_min_clipped": -2.0}, r"lambda_min_clipped is -2\.0"),
        ({"sigma_max": "x"}, "sigma_max is 'x', expected numbers above 0"),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, "use_karras_sigmas and use_beta_sigmas are set"),
        ({"rescale_betas_zero_snr": True}, "which needs prediction_type 'v_prediction'"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid'"),
    ],
)
def test_walks_that_are_not_known_are_refused_by_name(settings, said):
    with pytest.raises(ValueError, match=said):
        noise_table({**BETAS, **settings})


def test_steps_that_do_not_fall_are_refused():
    table, _ = noise_table(BETAS)
    with pytest.raises(ValueError, match="do not fall at each"):
        levels({**BETAS, "_class_name": "DPMSolverMultistepScheduler", "timestep_spacing": "leading"}, table, 1000)
    with pytest.raises(ValueError, match="num_steps 51: expected 1 to 50"):
        levels({**BETAS, "_class_name": "LCMScheduler"}, table, 51)
    assert len(levels({**BETAS, "_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, table, 1)) == 2
