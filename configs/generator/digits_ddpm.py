"""DDPM on a base set of scikit-learn's digits, 8 x 8 grey (Ho et al. 2020, 2006.11239).

Run: jaxmoust fit --config=configs/generator/digits_ddpm.py --workdir=runs/ddpm
"""

import digits_edm
import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds, as a smoke test."""
    config = digits_edm.get_config(arg)
    config.method = dict(name="ddpm")
    return config
