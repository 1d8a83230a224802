"""What the words after a generator's path change: "quick" and "small"."""

import ml_collections

QUICK = dict(
    data=dict(n_base=100),
    optim=dict(warmup_steps=0),
    train=dict(batch_size=16, num_steps=4, log_steps=2, eval_steps=0, checkpoint_steps=0),
)


def quick(config: ml_collections.ConfigDict, **besides: dict) -> None:
    """Makes a training one of seconds, as a smoke test.

    Args: besides: by section, what changes besides QUICK, such as the size of the network.
    """
    for section, changes in (*QUICK.items(), *besides.items()):
        config[section].update(changes)
    if "grid" in config:
        config.grid.per_class = 0


def small(config: ml_collections.ConfigDict, attention_px: int) -> None:
    """Makes a generator of some 30 px one for about 1,000 images on 2 CPU cores: 0.64 M parameters, 1,800 steps."""
    config.model = dict(
        name="unet",
        base_channels=16,
        channel_multipliers=(1, 2, 4),
        num_blocks=1,
        attention_px=(attention_px,),
        middle_attention=False,
        resample="pool",
        dropout=0.1,
    )
    config.optim.update(learning_rate=2e-3, warmup_steps=100, decay=True, ema_half_life_images=100_000.0)
    config.train.update(batch_size=64, num_steps=1800, eval_steps=0, checkpoint_steps=600)
    config.eval.batch_size = 128
