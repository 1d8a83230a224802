"""Adapters of the embedded tiny Stable Diffusion, trained on a base set of scikit-learn's digits, 8 x 8 grey.

The pipeline knows typeset digits of 32 px; what it learns here is handwriting. Attention sits at 4 x 4 places of this
small U-Net, so the feed-forward layers and those of the noise level are adapted with it.

Run: jaxmoust fit --config=configs/generator/digits_tiny_sd_lora.py --workdir=runs/tiny_sd_lora
Cost: 68 s on 2 CPU cores (x86_64, jax 0.10.2, other jobs on them).
Result: loss at fixed noise 0.212 on the 100 digits and 0.241 on others, by 145,920 numbers; with attention alone 0.261
    and 0.282 (at a rate of 5e-3; 65,536 numbers), the whole U-Net 0.172 and 0.207 (digits_tiny_sd_full.py).
"""

import ml_collections

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds, to see that all parts meet."""
    quick = arg == "quick"
    config = ml_collections.ConfigDict()
    config.task = "finetune"
    config.pipeline = dict(path="tiny_sd")
    config.data = dict(source="digits", n_base=100)
    config.prompts = dict(template="a photo of the digit {}, light on dark")
    config.method = dict(
        image_px=32,
        rank=2 if quick else 16,
        alpha=2.0 if quick else 16.0,
        targets=("to_q", "to_k", "to_v", "to_out_0", "proj", "net_2", "time_emb_proj"),
        precompute=True,
    )
    config.optim = dict(name="adamw", learning_rate=3e-3, weight_decay=0.01, ema_half_life_images=5_000.0)
    config.train = dict(
        batch_size=16 if quick else 64,
        num_steps=4 if quick else 200,
        log_steps=2 if quick else 100,
        checkpoint_steps=0 if quick else 200,
    )
    config.eval = dict(batch_size=64)
    config.grid = dict(per_class=0 if quick else 4, sampler="dpmpp_2m", num_steps=15, per_device_batch=20)
    return config
