"""DisCL: a curriculum from images that are all the generator's to real ones, over levels of guidance by real images.

Source: Liang et al. 2025 (2410.13674).
Theirs: a pre-trained generator from noise and from real images at several levels; training begins where synthetic
    images are furthest from real ones, for hard samples, and ends on real images alone.
Ours: levels are strengths of 1, 0.7, 0.5 and 0.3, for all images; the sampler `levels`, real images alone for the last
    half.
"""

TITLE = "DisCL"


def get_recipe(parts, scale) -> dict:
    """The recipe's generators and sets, and its arm."""
    levels = (1.0, 0.5) if scale.quick else (1.0, 0.7, 0.5, 0.3)
    names = {f"discl_{round(100 * level)}": level for level in levels}
    num_images = scale.num_images // len(levels)
    sets = {
        name: {
            **parts.drawn(scale, "sd", num_images, title=f"{TITLE}, strength {level:g}"),
            **dict(from_real=True, strengths=(level,)),
        }
        for name, level in names.items()
    }
    return dict(generators={}, sets=sets, arm=dict(sampler=dict(name="levels", order=tuple(names), real_part=0.5)))
