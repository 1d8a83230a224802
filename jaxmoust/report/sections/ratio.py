"""Accuracy by the number of synthetic images for each real one, as a section of a study's page.

A study of several sizes of base sets has this chart with its fitted law (equivalence.py); this is for one size.
"""

from collections.abc import Sequence

from jaxmoust.analysis import accuracy
from jaxmoust.report.arms import ArmSummary
from jaxmoust.report.charts import base, lines
from jaxmoust.report.page import Figure, Section

KIND = ("generator", "fine_tuning", "sampler", "weight")
LEAST = 3  # different numbers of synthetic images that make a line

ByRatio = dict[float, accuracy.Summary]


def sections(arms: Sequence[ArmSummary], baseline: str) -> list[Section]:
    """Returns the section, or none for a study that has not tried several numbers of synthetic images of one kind."""
    (reference,) = [arm for arm in arms if arm.info.name == baseline]
    alone = reference.over_seeds("top1")
    if len({arm.setting("n_base") for arm in arms}) != 1 or alone is None:
        return []
    kinds: dict[tuple[str, ...], ByRatio] = {}
    for arm in arms:
        sizes, top1 = set(arm.by_seed("n_synthetic").values()), arm.over_seeds("top1")
        if top1 and len(sizes) == 1 and sizes != {0}:  # what a filter leaves differs by seed
            only = "only" if set(arm.by_seed("share").values()) == {1} else ""
            *settings, weight = map(arm.setting, KIND)
            kind = (*settings, weight and f"weight {weight.removesuffix('.0')}", only)
            kinds.setdefault(kind, {})[sizes.pop() / int(arm.setting("n_base"))] = top1
    kinds = {kind: by_ratio for kind, by_ratio in kinds.items() if len(by_ratio) >= LEAST}
    if not kinds:
        return []
    words, series = [], []
    for name, (kind, by_ratio) in zip(_names(list(kinds)), kinds.items(), strict=True):
        series.append(_series(name, by_ratio if kind[-1] else {0.0: alone, **by_ratio}))
        best = max(by_ratio, key=lambda ratio: by_ratio[ratio].mean)
        at_best = f"at best {by_ratio[best].mean:.2f} % at {best:g} to 1"
        words.append(f"{name}: {at_best}, beside {alone.mean:.2f} % of {reference.title}.")
    chart = lines.by_ratio(series[: lines.MOST_SERIES], head="")
    markup = base.picture(chart, " ".join(["Accuracy by synthetic images for each real one.", *words]))
    caption = f"Means over seeds with their 95 % intervals; 0 is {reference.title}."
    return [Section("How many synthetic images", words, [Figure("Accuracy by ratio", caption, markup)])]


def _series(name: str, by_ratio: ByRatio) -> lines.Series:
    ends = {ratio: top1.interval or (None, None) for ratio, top1 in by_ratio.items()}
    return lines.Series(name, [(ratio, by_ratio[ratio].mean, *ends[ratio]) for ratio in sorted(by_ratio)])


def _names(kinds: Sequence[tuple[str, ...]]) -> list[str]:
    """What distinguishes the kinds: the generator, and what differs besides."""
    if len({kind[0] for kind in kinds}) == len(kinds):
        return [kind[0] for kind in kinds]
    differing = [i for i in range(len(kinds[0])) if i == 0 or len({kind[i] for kind in kinds}) > 1]
    return [", ".join(kind[i] for i in differing if kind[i]) for kind in kinds]
