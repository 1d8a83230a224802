"""Real-Fake: an adapted generator asked for captions at low guidance, so that its images match the real distribution.

Source: Yuan et al. 2024 (2310.10402), sections 4 and 5.
Theirs: Stable Diffusion 1.5 with LoRA on captions by BLIP-2, a loss on the distance of features' means, and guidance by
    features of images of the class; trained on synthetic images alone, and beside real ones.
Ours: LoRA on captions and guidance 2, without the two terms on features; beside real images, half of each batch.
Needs: a caption of each training image (data.captions).
"""

TITLE = "Real-Fake"


def get_recipe(parts, scale) -> dict:
    """The recipe's generators and sets, and its arm."""
    drawn = parts.drawn(scale, "sd_lora", generator="captioned", title=TITLE)
    return dict(
        generators=dict(captioned=parts.generator(scale, "sd_lora", prompts=OWN)),
        sets=dict(real_fake={**drawn, "prompts": OWN}),
        arm=dict(sampler=parts.share(real_fake=0.5)),
    )


OWN = dict(template="", contexts="own")
