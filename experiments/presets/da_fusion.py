"""DA-Fusion: one new word for each class, and real images replaced by variants of themselves.

Source: Trabucco et al. 2023 (2302.07944), section 4.
Theirs: textual inversion of a word for each class; variants of each real image at strengths of 0.25, 0.5, 0.75 and 1,
    ten in all; each draw of a real image is replaced by one of its variants with probability 0.5.
Ours: the same, with as many variants as the scale's sets have images; words start as the names of their classes.
"""

TITLE = "DA-Fusion"


def get_recipe(parts, scale) -> dict:
    """The recipe's generators and sets, and its arm."""
    words = dict(train_unet=False, learn_tokens=1)
    drawn = parts.drawn(scale, "sd_full", generator="da_fusion", title=TITLE)
    prompts = dict(prompts=dict(template="a photo of a {}"))
    strengths = dict(from_real=True, strengths=(0.5, 1.0) if scale.quick else (0.25, 0.5, 0.75, 1.0))
    return dict(
        generators=dict(da_fusion=parts.generator(scale, "sd_full", method=words, **prompts)),
        sets=dict(da_fusion={**drawn, **prompts, **strengths}),
        arm=dict(sampler=dict(name="children", p=0.5)),
    )
