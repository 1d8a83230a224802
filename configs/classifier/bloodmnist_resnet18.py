"""ResNet-18 on BloodMNIST (11,959 + 3,421 images of blood cells, 28 x 28), alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/bloodmnist_resnet18.py --workdir=runs/bloodmnist_resnet18
     jaxmoust train --config=configs/classifier/bloodmnist_resnet18.py:synthetic=runs/edm,share=0.5 --workdir=runs/mix
     (with --config.data.path=bloodmnist.npz, the file of MedMNIST)
Settings: Yang et al. 2023 (MedMNIST v2, 2110.14795): Adam, batch 128, 100 epochs, rate 1e-3, no augmentation; the rate
    falls by a cosine instead of two steps. They report 95.8 % at 28 px.
Not run at this size.
"""

import ml_collections
import variants

WORDS = variants.WORDS


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or synthetic=DIR,share=0.5,name=edm mixes in the set of that name."""
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="medmnist")
    config.model = dict(name="resnet", block="basic", stage_sizes=(2, 2, 2, 2), width=64, stem="cifar")
    config.optim = dict(name="adam")
    config.train = dict(batch_size=128, num_steps=9_343, log_steps=100, eval_steps=1_868, checkpoint_steps=1_868)
    config.eval = dict(batch_size=1000)
    return variants.finish(config, arg, model=dict(stage_sizes=(1,), width=4))
