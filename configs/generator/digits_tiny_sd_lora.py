"""Adapters of the embedded tiny Stable Diffusion, trained on a base set of scikit-learn's digits, 8 x 8 grey.

The pipeline knows typeset digits of 32 px; what it learns here is handwriting. Attention sits at 4 x 4 places of this
small U-Net, so the feed-forward layers and those of the noise level are adapted with it.

Run: jaxmoust fit --config=configs/generator/digits_tiny_sd_lora.py --workdir=runs/tiny_sd_lora
Cost: 68 s on 2 CPU cores (x86_64, jax 0.10.2, other jobs on them).
Result: 145,920 numbers are trained (65,536 with attention alone); losses wait for a run with weight decay on adapters.
"""

import digits_tiny_sd_full
import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds, as a smoke test."""
    config = digits_tiny_sd_full.get_config(arg)
    rank = 2 if arg == "quick" else 16
    targets = ("to_q", "to_k", "to_v", "to_out_0", "proj", "net_2", "time_emb_proj")
    config.method.update(rank=rank, alpha=float(rank), targets=targets)
    config.optim.learning_rate = 3e-3
    return config
