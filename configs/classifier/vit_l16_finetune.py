"""A pre-trained ViT-L/16 fine-tuned on CIFAR-10 at 224 px: what synthetic images add to a strong model.

Run: jaxmoust train --config=configs/classifier/vit_l16_finetune.py --workdir=runs/vit_l16
     jaxmoust train --config=configs/classifier/vit_l16_finetune.py:synthetic=runs/edm,share=0.5 --workdir=runs/mixed
     (with --config.method.pretrained=FILE, or pretrained=FILE in the argument: an augreg .npz of ImageNet-21k, or
     Hugging Face's or timm's .safetensors of such a ViT; the head is replaced)
Settings: Dosovitskiy et al. 2021 (2010.11929), table 4, for CIFAR: SGD with momentum 0.9, batch 512, 10,000 steps, 500
    of them warm-up, no decay, gradients clipped at norm 1, rate 0.01 out of their 0.001 to 0.03; here at 224 instead of
    384 px, and with Nesterov's momentum. A batch goes through the network in four parts, to bound memory.
Not run at this size.
"""

import ml_collections
import variants

WORDS = (*variants.WORDS, "pretrained=")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick"; pretrained=FILE; synthetic=DIR,share=0.5,name=edm mixes in the set of that name; by ","."""
    config = ml_collections.ConfigDict()
    config.task = "classify"
    config.data = dict(source="tfds:cifar10", image_px=224, channels=3, random_crop=0.05)
    config.model = dict(
        name="vit", width=1024, depth=24, num_heads=16, activation="gelu_tanh", remat=True, dtype="bfloat16"
    )
    config.augment = dict(flip=True)
    config.method = dict(pretrained=dict(word.partition("=")[::2] for word in arg.split(",")).get("pretrained", ""))
    config.optim = dict(name="sgd", learning_rate=0.01, warmup_steps=500, clip_norm=1.0, micro_batches=4)
    config.train = dict(batch_size=512, num_steps=10_000, log_steps=100, eval_steps=1_000, checkpoint_steps=1_000)
    config.eval = dict(batch_size=1000)
    network = dict(width=16, depth=2, num_heads=2)
    return variants.finish(config, arg, data=dict(image_px=32), model=network, optim=dict(micro_batches=1))
