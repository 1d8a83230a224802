"""Adapters of Stable Diffusion 3 medium (LoRA, 2106.09685), trained on CIFAR-10's images, from 32 px to 512.

Run: jaxmoust fit --config=configs/generator/sd3_medium_lora.py --workdir=runs/sd3_medium_lora
     (CIFAR-10 as `jaxmoust data prepare` leaves it; the pipeline is
     gated: log in by HF_TOKEN, or give a folder: --config.pipeline.path=DIR)
Recipe: the LoRA example published with diffusers (examples/dreambooth/README_sd3.md): AdamW at a constant 4e-4,
    batches of 4 (1, accumulated), 512 px, logit-normal times; its script's defaults: rank and alpha 4, the attention's
    matrices of image and text, T5 of 77 tokens, weight decay 1e-4, gradients clipped at norm 1. There 500 steps on a
    handful of images; here 15,000, as sd15_lora.py. The loss is the velocity's, which the script calls
    --precondition_outputs=0. One caption in ten is empty, as guidance wants (Ho & Salimans 2022, 2207.12598). Frozen
    parameters are bfloat16, and the insides of blocks are computed again on the way back (remat): 5 GiB for one image
    on a device.
Not run at this size.
"""

import ml_collections
import sd15_lora

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains for seconds; --config.pipeline.path names a small pipeline of this kind."""
    quick = arg == "quick"
    config = sd15_lora.get_config(arg)
    how = dict(text_length=77, remat=True, param_dtype="float32" if quick else "bfloat16")
    config.pipeline.update(path="stabilityai/stable-diffusion-3-medium-diffusers", variant="", **how)
    joint = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    config.method.update(targets=("to_q", "to_k", "to_v", "to_out_0", *joint))
    config.optim.update(learning_rate=4e-4, weight_decay=1e-4)
    if not quick:
        config.method.image_px = 512
        config.train.batch_size = config.eval.batch_size = 4
    return config
