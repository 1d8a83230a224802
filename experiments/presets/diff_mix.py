"""Diff-Mix: real images translated towards other classes, with soft labels.

Source: Wang et al. 2024 (2403.19600), section 4; numbers of their repository, github.com/Zhicaiwww/Diff-Mix.
Theirs: a U-Net with adapters and a word for each class; each synthetic image starts from a real one of another class at
    a strength of 0.7, or of 0.3, 0.5, 0.7 and 0.9; its label is the class asked for by strength ** 0.8, the real
    image's by the rest; a draw of a real image is replaced with probability 0.1; five synthetic images a real one.
Ours: adapters without new words; four strengths; as many images as the scale's sets have.
"""

TITLE = "Diff-Mix"


def get_recipe(parts, scale) -> dict:
    """The recipe's generators and sets, and its arm."""
    drawn = parts.drawn(scale, "sd_lora", generator="lora", title=TITLE)
    strengths = (0.5, 1.0) if scale.quick else (0.3, 0.5, 0.7, 0.9)
    translated = dict(from_real=True, translate=True, label_power=0.8, strengths=strengths)
    return dict(
        generators=dict(lora=parts.generator(scale, "sd_lora")),
        sets=dict(diff_mix={**drawn, **translated}),
        arm=dict(sampler=dict(name="children", p=0.1)),
    )
