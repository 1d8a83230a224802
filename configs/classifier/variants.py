"""What the words after a classifier's path change: "quick", and synthetic=DIR,share=0.5,name=edm."""

import ml_collections

WORDS = ("quick", "synthetic=", "share=", "name=")  # of arg; others are refused
QUICK = dict(
    data=dict(n_base=200),
    model=dict(dtype="float32"),
    optim=dict(warmup_steps=0),
    train=dict(batch_size=32, num_steps=4, log_steps=2, eval_steps=0, checkpoint_steps=0),
    eval=dict(batch_size=100),
)


def finish(config: ml_collections.ConfigDict, arg: str, **quick: dict) -> ml_collections.ConfigDict:
    """Returns a classifier's configuration as the words of its path want it.

    Args:
        config: what it is without words.
        arg: "quick" trains for seconds, as a smoke test; synthetic=DIR mixes in the set of that folder,
            called by name ("edm"), which gives its share (a half) of every batch.
        quick: by section, what "quick" changes besides QUICK, such as the size of the network.
    """
    words = dict(word.partition("=")[::2] for word in arg.split(",") if word)
    if "quick" in words:
        for section, changes in (*QUICK.items(), *quick.items()):
            config[section].update(changes)
    if "synthetic" in words:
        share = float(words.get("share", 0.5))
        config.data.synthetic = (words["synthetic"],)
        config.sampler = dict(name="share", shares={"real": 1.0 - share, words.get("name", "edm"): share})
    return config
