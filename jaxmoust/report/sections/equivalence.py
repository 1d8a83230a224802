"""What a study's rows say about the worth of synthetic images, as a section of its page: words, charts, tables.

Plain data: the page decides how to set it. A study without several sizes of real images alone has no such section.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy

from jaxmoust.analysis.equivalence import fit as equivalence
from jaxmoust.analysis.equivalence import results_csv
from jaxmoust.analysis.equivalence.answer import (
    comparison_words,
    format_estimate,
    format_number,
    loss_sentence,
    rate_sentence,
    subsample,
)
from jaxmoust.analysis.equivalence.fit import Equivalence
from jaxmoust.analysis.equivalence.learning_curve import Cells, interval, noise_of
from jaxmoust.report.charts import base, lines
from jaxmoust.report.page import Cell, Figure, Section, Table

TITLE = "What synthetic images are worth"
NUM_STEPS = 40  # points of a drawn line
ENDS = (0.025, 0.975)  # quantiles of a 95 % band


def sections(rows: Sequence[Mapping[str, Any]], real: Sequence[str] = results_csv.REAL) -> list[Section]:
    """Returns a section for each kind of mixed runs (generator, fine-tuning, sampler) of a study.

    Empty for a study whose real-only arms have fewer than two sizes: such a study did not ask the question. A kind that
    cannot be fitted has a section whose words say what is missing, beside the accuracies that are known.

    Args:
        rows: of results.csv. real: arms that are real images alone, as in `result_rows.choose`.
    """
    if results_csv.num_real_sizes(rows, real) < 2:
        return []
    return [_section(rows, real, settings) for settings in results_csv.kinds(rows)]


def _section(rows: Sequence[Mapping[str, Any]], real: Sequence[str], settings: Mapping[str, str]) -> Section:
    title, figures, notes = TITLE + _kind(settings), list[Figure](), tuple[str, ...]()
    try:
        chosen = results_csv.choose(rows, real, **settings)
        figures, notes = [by_ratio(chosen.real, chosen.mixed)], chosen.notes
        return section(equivalence.fit(chosen.real, chosen.mixed), title, notes)
    except ValueError as e:
        lost = loss_sentence(e.points, e.curve) if isinstance(e, equivalence.AllCensored) else ""
        words = [f"The worth of these synthetic images cannot be estimated: {e}.", *filter(None, [lost])]
        answer = f"What these synthetic images are worth cannot be estimated from these runs. {lost}".rstrip()
        return Section(title, words, figures, notes=notes, answer=answer)


def section(fit: Equivalence, title: str = TITLE, notes: Sequence[str] = ()) -> Section:
    """Returns the section of one fit."""
    worth = [rate_sentence(fit), *filter(None, [loss_sentence(fit.points, fit.curve)])]
    return Section(
        title,
        [*worth, comparison_words(fit)],
        [learning_curve(fit), exchange(fit), by_ratio(fit.curve.cells, fit.mixed)],
        [_rates(fit), _cells(fit)],
        [*notes, *fit.notes],
        " ".join(worth),
    )


def learning_curve(fit: Equivalence) -> Figure:
    """Draws the curve with its band, and every mixture on it."""
    curve = fit.curve
    n = np.geomspace(curve.n_min, curve.n_max, NUM_STEPS)
    errors = curve.error_at(n)
    fitted = _band({"n": n, "error": errors[0]}, errors)
    ends = [interval(means) or (None, None) for means in curve.means.T]
    measured = [
        {"n": int(size), "error": float(error), "low": low, "high": high}
        for size, error, (low, high) in zip(curve.cells.n_base, curve.means[0], ends, strict=True)
    ]
    mixtures = [{"n_base": p.n_base, "error": p.error, "n_eq": p.n_eq, "bound": p.censored} for p in fit.points]
    worth = [p.n_eq for p in fit.points]
    words = (
        f"Error of real images alone, falling from {errors[0, 0]:.1f} % at {curve.n_min:,} to {errors[0, -1]:.1f} % "
        f"at {curve.n_max:,}; {len(worth)} mixtures on it, worth between {min(worth):,.0f} and {max(worth):,.0f} real "
        "images"
    )
    caption = (
        "Squares: real images alone, and the curve fitted to them with its 95 % band. A mixture is a line from a dot "
        "at the size of its real part to the number of real images that reach the same error; a triangle is a bound."
    )
    markup = base.picture(lines.learning_curve(fitted, measured, mixtures), words)
    return Figure("The learning curve of real images", caption, markup)


def exchange(fit: Equivalence, law: str = "study") -> Figure:
    """Draws how many synthetic images are worth how many real ones, a panel for each of up to six n_base."""
    rows: list[dict[str, Any]] = []
    rates = {}
    for n_base in subsample(sorted(set(fit.mixed.n_base.tolist())), lines.MOST_SERIES):
        name, own = f"{n_base:,} real images", [p for p in fit.points if p.n_base == n_base]
        n_syn = np.geomspace(min(p.n_synthetic for p in own), max(p.n_synthetic for p in own), NUM_STEPS)
        gains = np.stack([fit.fits[law].n_real_plus(n_base, m) for m in n_syn], axis=1) / n_base
        # Past the largest real set the law is not drawn: nothing was measured there.
        room = fit.curve.n_max / n_base - 1
        shown = gains[0] <= room
        law_rows = _band({"gain": gains[0, shown], "ratio": n_syn[shown] / n_base}, np.minimum(gains[:, shown], room))
        for p in own:
            worth, *ends = (n / n_base - 1 for n in (p.n_eq, *(p.interval or ())))
            worst, best = ends if ends and not p.censored else (None, None)
            mixture = {"worth": worth, "worst": worst, "best": best, "bound": p.censored}
            law_rows.append({"ratio": p.n_synthetic / n_base, **mixture})
        rows += [{"name": name, **row} for row in law_rows]
        rates[name] = f"{name}: {format_estimate(fit.marginal_rate(n_base, law))} for the first"
    words = "Synthetic images worth one more real one. " + "; ".join(rates.values())
    caption = (
        "Marks: measured mixtures, with the 95 % interval of what they are worth on the fitted curve; line and band: "
        "the study's law. Left of the dashed line a mixture does worse than the curve says of its real images alone. "
        "A triangle is a bound: it lies past the largest or the smallest real set."
    )
    return Figure(
        "What mixtures are worth, and the law", caption, base.picture(lines.exchange(rows, list(rates)), words)
    )


def by_ratio(real: Cells, mixed: Cells) -> Figure:
    """Draws accuracy over the ratio of synthetic to real images, a line for each of up to six n_base."""
    series = ratio_series(real, mixed)
    sentences = []
    for one in series:
        best = max(one.points, key=lambda point: point[1])
        alone = f"{one.points[0][1]:.1f} % alone, " if one.points[0][0] == 0 else ""
        sentences.append(f"{one.name} real images: {alone}at best {best[1]:.1f} % at {best[0]:g}")
    bands = " with their 95 % bands" if any(point[2] is not None for one in series for point in one.points) else ""
    caption = f"Means over seeds{bands}, a line for each number of real images; 0 is real images alone."
    words = "Accuracy by synthetic images for each real one. " + "; ".join(sentences)
    return Figure("Accuracy by ratio", caption, base.picture(lines.by_ratio(series), words))


def ratio_series(real: Cells, mixed: Cells) -> list[lines.Series]:
    """Returns accuracy by ratio for each of up to six n_base.

    The bands are Student's t with the spread of seeds estimated from all cells together, which needs no fit of a curve.
    """
    noise = noise_of([real, mixed])
    series = []
    for n_base in subsample(sorted(set(mixed.n_base.tolist())), lines.MOST_SERIES):
        cells = [(0.0, real, i) for i in np.flatnonzero(real.n_base == n_base)]
        cells += [(float(mixed.n_synthetic[i] / n_base), mixed, i) for i in np.flatnonzero(mixed.n_base == n_base)]
        points: list[tuple[float, float, float | None, float | None]] = []
        for ratio, of, i in cells:
            mean = 100 - float(of.mean[i])
            if noise.dof:
                half = float(scipy.stats.t.isf(ENDS[0], noise.dof) * noise.sd_of_means(of)[i])
                points.append((ratio, mean, mean - half, mean + half))
            else:
                points.append((ratio, mean, None, None))
        series.append(lines.Series(f"{n_base:,}", points))
    return series


def _band(line: Mapping[str, np.ndarray], draws: np.ndarray) -> list[dict[str, Any]]:
    """Rows of a line with the ends of its band, None of a single draw."""
    low, high = np.quantile(draws[1:], ENDS, axis=0).tolist() if len(draws) > 1 else [[None] * draws.shape[1]] * 2
    columns = {**{name: values.tolist() for name, values in line.items()}, "low": low, "high": high}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _kind(settings: Mapping[str, str]) -> str:
    parts = [settings.get("generator", "")]
    parts += [f"fine-tuned: {tuned}"] if (tuned := settings.get("fine_tuning", "")) not in ("", "none") else []
    parts += [f"sampler {sampler}"] if (sampler := settings.get("sampler", "")) else []
    return f" ({', '.join(s for s in parts if s)})" if any(parts) else ""


def _rates(fit: Equivalence) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for n in sorted(set(fit.mixed.n_base.tolist())):
        rates = (fit.marginal_rate(n), fit.average_rate(n, n))
        rows.append((n, *((rate.value, format_estimate(rate)) for rate in rates), fit.most_synthetic(n)))
    columns = ("Real images", "Synthetic worth the next one", "Synthetic for each of as many again", "Most tried")
    return Table("Exchange rates", columns, rows)


def _cells(fit: Equivalence) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for p in fit.points:
        ends = f" [{', '.join(_end(n, fit) for n in p.interval)}]" if p.interval and not p.censored else ""
        top1, worth = (100 - p.error, f"{100 - p.error:.2f}"), f"{p.censored} {p.n_eq:,.0f}{ends}".strip()
        gain = p.n_eq - p.n_base
        signed = f"{p.censored} {gain:+,.0f}{', worse' if p.lost else ''}".strip()
        rows.append((p.n_base, p.n_synthetic, top1, p.num_seeds, (p.n_eq, worth), (gain, signed)))
    columns = ("Real", "Synthetic", "Top-1", "Seeds", "Worth in real images", "More (+) or fewer (-) than its own")
    return Table("Mixtures", columns, rows)


def _end(n: float, fit: Equivalence) -> str:
    """An end of an interval of n_eq, which stops where the curve does."""
    return f"{format_number(n)}{' or more' if n >= fit.curve.n_max else ' or less' if n <= fit.curve.n_min else ''}"
