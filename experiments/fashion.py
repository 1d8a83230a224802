"""With 1,000 images of Fashion-MNIST, do those of a DDPM or an EDM trained on them help a ResNet, or a ViT?

The controls, synthetic only, and half and half, for as many steps of as many images. Each seed draws its own 5,000
images from either generator: 15,000 of each in all.

Run: jaxmoust study --config=experiments/fashion.py --workdir=runs/fashion_resnet
     jaxmoust study --config=experiments/fashion.py:vit --workdir=runs/fashion_vit
     (the second finds the generators and sets of the first; the files come with Debian's package
     dataset-fashion-mnist, or lie in --config.data.path=DIR)
Cost on 2 CPU cores (x86_64, jax 0.10.2), with other jobs on them: fitting the EDM 1,137 s and the DDPM 884 s, each set
    of 5,000 images 145 to 203 s, each of 15 ResNets 40 to 60 s, each of 15 ViTs 179 to 666 s (alone: about 180 s).
Result, Top-1 on the 10,000 test images, mean of 3 seeds [95 % interval], points over real only: of the ResNet, with its
    controls, in domain_gap.py, which is the same runs. Of the ViT, without the controls, which this file did not have
    then:
    Real only    73.72 [72.40, 75.03]
    EDM only     69.89 [68.05, 71.73]  -3.83 [-4.68, -2.98]
    Real + EDM   72.92 [71.90, 73.95]  -0.79 [-1.17, -0.41]
    DDPM only    70.17 [68.88, 71.46]  -3.54 [-5.43, -1.66]
    Real + DDPM  72.73 [71.53, 73.93]  -0.99 [-1.67, -0.31]
    (the differences' intervals by degrees of freedom that are too many for three seeds: read them as too short)
In words: images of generators this small (0.64 M parameters, 1,800 steps) are clothes that a person names, and a
    classifier of them alone gets within 4 to 5 points of one of real images; mixed in, at equal steps, none gains, and
    the ViT seems to lose a point. The ResNet at a learning rate of 0.1 in place of 0.4 reaches 80.5 on real images, and
    its differences are about as large.
"""

import ml_collections
import parts

WORDS = ("quick", "vit")  # of arg; others are refused
GENERATORS = ("edm", "ddpm")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "vit": a ViT in place of the ResNet; "quick": every part for seconds; or both, by ","."""
    words = arg.split(",")
    network = "ViT" if "vit" in words else "ResNet"
    scale = parts.read("fashion,quick" if "quick" in words else "fashion")
    scale.classifier = f"configs/classifier/fashion_{network.lower()}.py:small"
    config = parts.study(
        scale,
        network.lower(),
        f"With {scale.n_base:,} images of Fashion-MNIST, do images of a DDPM or an EDM trained on them help a "
        f"{network} trained on the same?",
    )
    config.name = f"fashion_{network.lower()}"
    config.generators = {name: parts.generator(scale, name) for name in GENERATORS}
    config.sets = {name: parts.drawn(scale, name) for name in GENERATORS}
    config.arms = (
        *parts.controls(scale),
        *(parts.only(name) for name in GENERATORS),
        *(parts.mixed(name) for name in GENERATORS),
    )
    return config
