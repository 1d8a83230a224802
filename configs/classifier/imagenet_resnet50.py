"""ResNet-50 on ImageNet (1,281,167 + 50,000 images) at 224 px, alone or mixed with a synthetic set.

Run: jaxmoust train --config=configs/classifier/imagenet_resnet50.py --workdir=runs/imagenet_resnet50
     jaxmoust train --config=configs/classifier/imagenet_resnet50.py:synthetic=runs/edm,share=0.5 --workdir=runs/mix
     (with --config.data.path=DIR, which holds train/CLASS/*.JPEG, and validation by class folder)
Settings: Goyal et al. 2017 (1706.02677), section 5.1: Nesterov, 90 epochs, 5 of them warm-up, rate 0.1 for every 256
    images of a batch, decay 1e-4 but of no norm, random-resized-crop and flips; the rate falls by a cosine and labels
    are smoothed by 0.1 (He et al. 2019, 1812.01187). Goyal et al. report 76.4 %; the study's peers 76.1 to 76.4 %
    (Sariyildiz et al. 2023, Azizi et al. 2023).
Not run at this size.
"""

import ml_collections
import variants

WORDS = variants.WORDS


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; or synthetic=DIR,share=0.5,name=edm mixes in the set of that name."""
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="folder", image_px=224, channels=3, random_crop=0.08, test_crop=0.875)
    config.model = dict(name="resnet", block="bottleneck", stage_sizes=(3, 4, 6, 3), width=64, dtype="bfloat16")
    config.augment = dict(flip=True)
    config.method = dict(smoothing=0.1)
    config.optim = dict(name="sgd", learning_rate=0.4, warmup_steps=6_255, weight_decay=1e-4)
    config.train = dict(batch_size=1024, num_steps=112_590, log_steps=100, eval_steps=6_255, checkpoint_steps=6_255)
    config.eval = dict(batch_size=1000)
    return variants.finish(config, arg, data=dict(image_px=64), model=dict(stage_sizes=(1,), width=4))
