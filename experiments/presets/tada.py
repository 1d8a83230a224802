"""TADA: variants of the images that are learnt late, and of no others.

Source: Nguyen et al. 2025 (2505.21574): images that are not learnt early in training, 30 to 40 % of them, get others.
Theirs: a generator that is not fine-tuned starts from each of these images, which a classifier has wrong early in its
    training on all of them.
Ours: 40 % of each class, those that a classifier of half the images is least sure of after a fifth of the steps (the
    other half is held out, so nothing is right because it is remembered); Stable Diffusion at a strength of 0.5; each
    draw of such an image is replaced by one of its variants with probability 0.5.
"""

TITLE = "TADA"


def get_recipe(parts, scale) -> dict:
    """The recipe's generators, sets and scores, and its arm."""
    late = dict(from_real=True, strengths=(0.5,), hard=dict(scores="learnt_early", part=0.4))
    return dict(
        generators={},
        sets=dict(tada={**parts.drawn(scale, "sd", title=TITLE), **late}),
        scores=dict(learnt_early=dict(config="configs/score/classifier.py", arm="real", folds=2, part=0.2)),
        arm=dict(sampler=dict(name="children", p=0.5)),
    )
