"""EDM on BloodMNIST, 28 x 28 colour, 8 kinds of blood cell (Karras et al. 2022, 2206.00364; Yang et al. 2023).

Its 11,959 training images are about as many as AFHQv2's 15,000, so learning rate, dropout, augmentation and average are
those that Karras et al. give for that set (appendix F.3): Adam at 2e-4, dropout 0.25, non-leaky augmentation with
probability 0.15, a half-life of 0.5 million images, batches of 256. The network is their DDPM++ for CIFAR-10, 55.7 M
parameters, with self-attention at 14 px. The length is a choice: 25.6 million images, 2,100 epochs.

Run: jaxmoust fit --config=configs/generator/bloodmnist_edm.py --workdir=runs/blood --config.data.path=bloodmnist.npz
"""

import ml_collections
import variants

WORDS = ("quick",)  # of arg; others are refused


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Args: arg: "quick" trains a small network for seconds, as a smoke test."""
    config = ml_collections.ConfigDict()
    config.task = "diffuse"
    config.data = dict(source="medmnist", image_px=28, channels=3)
    config.model = dict(name="ddpmpp_cifar10", attention_px=(14,), dropout=0.25)
    config.method = dict(name="edm")
    config.augment = dict(nonleaky=0.15)
    config.optim = dict(name="adam", learning_rate=2e-4, warmup_steps=5000, decay=False, ema_half_life_images=500_000.0)
    config.train = dict(batch_size=256, num_steps=100_000, log_steps=100, eval_steps=5000, checkpoint_steps=5000)
    config.eval = dict(batch_size=256)
    if arg == "quick":
        network = dict(base_channels=8, channel_multipliers=(1, 2), num_blocks=1)
        variants.quick(config, data=dict(n_base=96), model=network, eval=dict(batch_size=16))
    return config
