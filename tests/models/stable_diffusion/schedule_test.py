"""models/stable_diffusion/schedule.py: the levels of torch's schedulers, or a refusal by name.

What torch walks lies in fixtures/schedules.json, by make_schedules.py beside it.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxmoust.models.stable_diffusion.folder import noise_table
from jaxmoust.models.stable_diffusion.kinds import StableDiffusion, StableDiffusionXL
from jaxmoust.models.stable_diffusion.schedule import levels, timesteps

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
        ({"steps_offset": -1}, "steps_offset is -1, expected whole numbers from 0"),
        ({"steps_offset": "1"}, "steps_offset is '1', expected"),
        ({"sigma_max": "x"}, "sigma_max is 'x', expected numbers above 0"),
        ({"use_karras_sigmas": True, "use_beta_sigmas": True}, "use_karras_sigmas and use_beta_sigmas are set"),
        ({"rescale_betas_zero_snr": True}, "which needs prediction_type 'v_prediction'"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid'"),
    ],
)
def test_walks_that_are_not_known_are_refused_by_name(settings, said):
    with pytest.raises(ValueError, match=said):
        noise_table({**BETAS, **settings})


# The walks of N = 10 of torch's schedulers (diffusers 0.39) by class and steps_offset, spaced leading.
LEADING = [
    ("EulerDiscreteScheduler", 0, range(900, -1, -100), [8.3466, 5.11103, 0.3439318, 0.02916753]),
    ("EulerDiscreteScheduler", 3, range(903, 0, -100), [8.479757, 5.181661, 0.350693, 0.05861427]),
    ("DDIMScheduler", 0, range(900, -1, -100), [8.3466, 5.11103, 0.3439318, 0.02916753]),
    ("DDIMScheduler", 5, range(905, 0, -100), [8.570035, 5.229457, 0.3551922, 0.0720165]),
    ("DPMSolverMultistepScheduler", 0, range(900, 0, -90), [8.3466, 5.351487, 0.5246534, 0.3212535]),
    ("UniPCMultistepScheduler", 1, range(901, 90, -90), [8.390687, 5.376337, 0.5269758, 0.3235332]),
]


@pytest.mark.parametrize(("kind", "offset", "walked", "ends"), LEADING)
def test_leading_steps_are_moved_on_by_their_offset(kind, offset, walked, ends):
    config = {**BETAS, "_class_name": kind, "timestep_spacing": "leading"}
    assert timesteps(config, 10, offset=offset).tolist() == [*walked]
    found = levels(config, noise_table(config)[0], 10, offset)
    np.testing.assert_allclose(found[[0, 1, -3, -2]], ends, rtol=1e-4)  # torch's tables are float32


@pytest.mark.parametrize(("said", "of_xl"), [({}, 900), ({"steps_offset": 0}, 900), ({"steps_offset": 1}, 901)])
def test_offset_of_a_file_counts_for_xl_alone(said, of_xl):
    """Torch's pipelines of 1.x and 2.x take 1, whatever the file says."""
    scheduler = {**BETAS, "_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading", **said}
    table, _ = noise_table(scheduler)
    for kind, first in ((StableDiffusion, 901), (StableDiffusionXL, of_xl)):
        assert kind({}, {}, {"scheduler": scheduler}).sigmas(10)[0] == np.float32(table[first])


def test_steps_between_which_torch_goes_by_runge_kutta_are_the_same():
    """Every fourth of the first twelve evaluations of torch's PNDM starts a step; N = 10."""
    walked = [901, 851, 851, 801, 801, 751, 751, 701, 701, 651, 651, 601, 601, 501, 401, 301, 201, 101, 1]
    config = {**BETAS, "_class_name": "PNDMScheduler", "skip_prk_steps": False, "steps_offset": 1}
    assert timesteps(config, 10).tolist() == walked[:12:4] + walked[12:]


def test_steps_that_do_not_fall_are_refused():
    table, _ = noise_table(BETAS)
    with pytest.raises(ValueError, match="do not fall at each"):
        levels({**BETAS, "_class_name": "DPMSolverMultistepScheduler", "timestep_spacing": "leading"}, table, 1000)
    with pytest.raises(ValueError, match="num_steps 51: expected 1 to 50"):
        levels({**BETAS, "_class_name": "LCMScheduler"}, table, 51)
    assert len(levels({**BETAS, "_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, table, 1)) == 2
