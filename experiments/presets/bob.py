"""BOB: a generator fine-tuned on captions, asked for the contexts of all images with the class put in.

Source: Yang, Wu, Deng, Tureci and Russakovsky, "Beyond Objects: Contextual Synthetic Data Generation for Fine-Grained
    Classification", CVPR 2026, arXiv 2510.24078.
Theirs: captions of a few real images a class by a vision-language model, kept in fine-tuning; contexts shuffled over
    classes in sampling; 100 images a class beside 5 real ones.
Ours: LoRA on captions that are given; contexts of all images, the class's own among them; half of each batch synthetic.
Needs: a caption of each training image (data.captions).
"""

TITLE = "BOB"


def get_recipe(parts, scale) -> dict:
    """The recipe's generators and sets, and its arm."""
    own, shuffled = dict(template="", contexts="own"), dict(template="", contexts="shuffle")
    drawn = parts.drawn(scale, "sd_lora", generator="captioned", title=TITLE)
    return dict(
        generators=dict(captioned=parts.generator(scale, "sd_lora", prompts=own)),
        sets=dict(bob={**drawn, "prompts": shuffled}),
        arm=dict(sampler=parts.share(bob=0.5)),
    )
