"""A small ViT on a base set of scikit-learn's digits, 8 x 8 grey, alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/digits_vit.py --workdir=runs/digits_vit
     jaxmoust train --config=configs/classifier/digits_vit.py:synthetic=runs/edm_set,share=0.5 --workdir=runs/mixed
     (--config.method.pretrained=runs/other starts from the classifier of another run of this network)
Settings: digits_resnet's but for the network, its rate and clipped gradients; 16 patches of 2 x 2 px.
Cost: some 15 s on 2 CPU cores (x86_64, jax 0.10.2) with other jobs on them.
Result: Top-1 62.63 [57.54, 67.73] with 100 real digits, 5 seeds; 73.00 [69.56, 76.44] where it began as one that had
    learnt typeset digits (experiments/pretrained_vit.py).
"""

import digits_resnet
import ml_collections

WORDS = digits_resnet.WORDS


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or synthetic=DIR,share=0.5,name=edm mixes in the set of that name."""
    config = digits_resnet.get_config(arg)
    size = dict(width=16, depth=1, num_heads=2) if "quick" in arg.split(",") else dict(width=48, depth=3, num_heads=4)
    config.model = dict(name="vit", patch_px=2, pool="token", **size)
    config.optim.update(learning_rate=1e-3, clip_norm=1.0)
    return config
