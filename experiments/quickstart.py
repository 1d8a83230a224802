"""Do generated images help a classifier of 100 digits: of a generator trained on those 100, or of an external one?

Ablation A of the study on a small scale: the external generator, a tiny Stable Diffusion of typeset digits, is used
as it is, with adapters fine-tuned on the 100 digits, and with its whole U-Net fine-tuned on them.

Run: jaxmoust study --config=experiments/quickstart.py --workdir=runs/quickstart   (or `make quickstart`)
Cost: 10 min 59 s, after an installation of 1 min 13 s, on 2 CPU cores (x86_64, jax 0.10.2), at commit d4747ee. A
    further seed takes about 85 s, so that 12 minutes hold three, and 15 five.
Result (Top-1 on 797 test digits, 3 seeds, 95 % interval; * worse than real only, the others are undecided):
    real 93.64 [92.86, 94.43], duplicated 93.52 [93.34, 93.70], augmented 94.06 [91.94, 96.18];
    edm_only 89.75 [82.01, 97.50], edm_mixed 93.56 [92.02, 95.10], ddpm_mixed 93.02 [91.30, 94.73];
    external, alone: as it is 53.79 [44.26, 63.31] *, LoRA 77.54 [63.75, 91.33], fine-tuned 81.47 [73.13, 89.81];
    external, mixed: as it is 93.94 [93.76, 94.12], LoRA 93.77 [91.86, 95.67], fine-tuned 93.64 [91.43, 95.85].
"""

import ml_collections
import parts

NUM_IMAGES = 1000  # of every synthetic set
WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" runs every part for seconds; its numbers mean nothing."""
    scale = parts.read(arg)
    scale.seeds, scale.n_base = (0, 1, 2), 100
    config = parts.study(
        scale,
        "quickstart",
        "With 100 real digits (10 a class), do images help a classifier that come from a generator trained on those "
        "same 100, or from one of typeset digits, as it is or fine-tuned?",
    )
    config.generators = {name: parts.generator(scale, name) for name in ("edm", "ddpm", "sd_lora", "sd_full")}
    config.sets = {name: parts.drawn(scale, name) for name in parts.WORDS}
    config.domains = {name: parts.diagnostic(scale, "domain", name) for name in ("edm", *parts.EXTERNAL)}
    config.measures = {name: parts.diagnostic(scale, "measure", name) for name in ("ddpm", "edm", *parts.EXTERNAL)}
    config.arms = (
        *parts.controls(scale, NUM_IMAGES),
        parts.only("edm", what="the EDM"),
        parts.arm("edm_mixed", "Real + EDM", "Half of each batch real, half EDM.", ("edm",), parts.share(edm=0.5)),
        parts.arm("ddpm_mixed", "Real + DDPM", "Half of each batch real, half DDPM.", ("ddpm",), parts.share(ddpm=0.5)),
        *(make for name in parts.EXTERNAL for make in (parts.only(name), parts.mixed(name))),
    )
    return config
