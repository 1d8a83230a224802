"""A small ResNet on a base set of scikit-learn's digits, 8 x 8 grey, alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/digits_resnet.py --workdir=runs/real
     jaxmoust train --config=configs/classifier/digits_resnet.py:synthetic=runs/edm_set,share=0.5 --workdir=runs/mixed
"""

import ml_collections
import variants

WORDS = variants.WORDS


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or synthetic=DIR,share=0.5,name=edm mixes in the set of that name."""
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="digits", n_base=100)
    config.model = dict(name="resnet", block="basic", stage_sizes=(1, 1), width=24, stem="cifar")
    config.augment = dict(translate_px=1.0, fill="constant")
    config.method = dict(smoothing=0.1)
    config.optim = dict(name="adamw", learning_rate=2e-3, warmup_steps=50, weight_decay=0.05)
    config.train = dict(batch_size=64, num_steps=500, log_steps=50, eval_steps=100)
    config.eval = dict(batch_size=256)
    quick = dict(model=dict(stage_sizes=(1,), width=4), train=dict(num_steps=10, log_steps=5))
    return variants.finish(config, arg, data=dict(n_base=100), eval=dict(batch_size=256), **quick)
