"""DataDream: adapters of the U-Net and the text encoder, fine-tuned on few real images, asked for by class name.

Source: Kim et al. 2024 (2407.10910), section 3; numbers of their repository, github.com/ExplainableML/DataDream.
Theirs: LoRA on the attention of Stable Diffusion 2.1's U-Net and of its text encoder, for the data set (DataDream-dset)
    or for each class; 500 images a class at guidance 2; the loss of real images weighs 0.8, of synthetic ones 0.2.
Ours: adapters of each class, of the U-Net alone; all together take as many steps as the scale's adapters of the data
    set, of ten classes; the same weights.
"""

TITLE = "DataDream"


def get_recipe(parts, scale) -> dict:
    """The recipe's generators and sets, and its arm."""
    steps = parts.of(scale, digits=20, fashion=60, cifar10=1500, imagenet100=150, photographs=1500)
    train = {} if scale.quick else dict(train=dict(num_steps=steps))
    return dict(
        generators=dict(datadream=parts.generator(scale, "sd_lora", method=dict(per="class"), **train)),
        sets=dict(datadream=parts.drawn(scale, "sd_lora", generator="datadream", title=TITLE)),
        arm=dict(sampler=parts.share(datadream=0.5), method=dict(lambda_real=1.6, lambda_syn=0.4)),
    )
