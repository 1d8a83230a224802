"""WideResNet-28-10 on CIFAR-100 (50,000 + 10,000 images, 32 x 32), alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/cifar100_wrn.py --workdir=runs/cifar100_wrn
     jaxmoust train --config=configs/classifier/cifar100_wrn.py:synthetic=runs/edm,share=0.5 --workdir=runs/mix
     (the verb `data prepare` puts tfds:cifar100 where TFDS looks for it)
Settings: Zagoruyko & Komodakis 2016 (1605.07146), section 3: Nesterov, batch 128, 200 epochs, rate 0.1, decay 5e-4,
    flips and crops out of 4 px of reflected border; the rate falls by a cosine instead of three steps, and no norm
    is decayed. They report 80.75 % without dropout, 81.15 % with 0.3.
Not run at this size.
"""

import ml_collections
import variants

WORDS = variants.WORDS


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or synthetic=DIR,share=0.5,name=edm mixes in the set of that name."""
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="tfds:cifar100")
    config.model = dict(name="wide_resnet", depth=28, widen=10, dtype="bfloat16")
    config.augment = dict(flip=True, crop_px=4)
    config.optim = dict(name="sgd", learning_rate=0.1, weight_decay=5e-4)
    config.train = dict(batch_size=128, num_steps=78_125, log_steps=100, eval_steps=7_812, checkpoint_steps=7_812)
    config.eval = dict(batch_size=1000)
    return variants.finish(config, arg, model=dict(depth=10, widen=1))
