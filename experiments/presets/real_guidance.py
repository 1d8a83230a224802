"""Real Guidance: a pre-trained generator starts from the few real images, half way back to noise.

Source: He et al. 2023 (2210.07574); strength as in DA-Fusion's comparison, github.com/brandontrabucco/da-fusion.
Theirs: images of a text-to-image generator that is not fine-tuned, started from noised real images; both kinds mixed.
Ours: Stable Diffusion in the place of GLIDE, one strength of 0.5 in the place of one for each number of shots, half of
    each batch synthetic; the classifier is trained whole, where theirs is a head on CLIP.
"""

TITLE = "Real Guidance"


def get_recipe(parts, scale) -> dict:
    """The recipe's generators and sets, and its arm."""
    half = dict(from_real=True, strengths=(0.5,))
    return dict(
        generators={},
        sets=dict(real_guidance={**parts.drawn(scale, "sd", title=TITLE), **half}),
        arm=dict(sampler=parts.share(real_guidance=0.5)),
    )
