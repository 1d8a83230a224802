"""The training curves of a page's runs, as sections of it: one for each metric, with a panel an arm."""

from jaxmoust.report.charts import curves
from jaxmoust.report.findings import base_words
from jaxmoust.report.page import Figure, Page, Section

# The metrics that are drawn over steps, in this order, by their names in a page's curves.
METRICS = {"top1": "Top-1", "loss": "Training loss"}


def sections(page: Page) -> list[Section]:
    """Returns a section for each metric of which some run has a curve."""
    of_metrics = []
    for metric, title in METRICS.items():
        of_arms = {
            arm: [[(step, values[metric]) for step, values in curve if metric in values] for curve in of_seeds.values()]
            for arm, of_seeds in page.curves.items()
        }
        if not any(len(curve) > 1 for of_seeds in of_arms.values() for curve in of_seeds):
            continue
        bases = {info.name: curves.mean_curve(of_arms.get(info.name, [])) for info in page.baselines}
        own = {arm.name: [curve for curve in of_arms.get(arm.name, []) if curve] for arm in page.arms}
        drawn = [arm for arm in page.arms if own[arm.name]]
        panels = curves.panels([(arm.title, own[arm.name], bases[page.baseline_of[arm.name]]) for arm in drawn], title)
        figures = [
            Figure(arm.title, curves.last_value(own[arm.name]), panel, arm.name)
            for arm, panel in zip(drawn, panels, strict=True)
        ]
        legend = f"Thick: the mean over seeds; thin: one seed; dashed: the mean of {base_words(page)}."
        note = (
            f"The number is the mean at the last step. Long curves are drawn as {curves.MAX_POINTS} means of "
            "neighbouring points; the first tenth of the steps may leave the frame."
        )
        title = f"{title} over steps"
        of_metrics.append(Section(title, (), figures, (), (note,), legend=legend, small=True, folded=True))
    return of_metrics
