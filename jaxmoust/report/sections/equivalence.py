"""What a study's rows say about the worth of synthetic images, as a section of its page: words, charts, tables.

Plain data: the page decides how to set it. A study without several sizes of real images alone has no such section.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from jaxmoust.analysis.equivalence import fit as equivalence
from jaxmoust.analysis.equivalence import results_csv
from jaxmoust.analysis.equivalence.answer import comparison_words, figure, picked, rate_sentence, told
from jaxmoust.analysis.equivalence.fit import Equivalence
from jaxmoust.analysis.equivalence.learning_curve import Cells, interval, noise_of
from jaxmoust.report.charts import equivalence as drawn
from jaxmoust.report.page import Figure, Section, Table

NUM_STEPS = 40  # points of a drawn line


def sections(rows: Sequence[Mapping[str, Any]], real: Sequence[str] = results_csv.REAL) -> list[Section]:
    """Returns a section for each kind of mixed runs (generator, fine-tuning, sampler) of a study.

    Empty for a study whose real-only arms have fewer than two sizes: such a study did not ask the question. A kind that
    cannot be fitted has a section whose words say what is missing, beside the accuracies that are known.

    Args:
        rows: of results.csv. real: arms that are real images alone, as in `result_rows.choose`.
    """
    if results_csv.num_real_sizes(rows, real) < 2:
        return []
    found = []
    for settings in results_csv.kinds(rows):
        title = "What synthetic images are worth" + _kind(settings)
        figures, notes = [], ()
        try:
            chosen = results_csv.choose(rows, real, **settings)
            figures, notes = [by_ratio(chosen.real, chosen.mixed)], chosen.notes
            fit = equivalence.fit(chosen.real, chosen.mixed)
        except ValueError as e:
            found.append(
                Section(
                    title,
                    [f"The worth of these synthetic images cannot be told: {e}."],
                    figures,
                    notes=notes,
                    answer="What these synthetic images are worth cannot be told from these runs.",
                )
            )
            continue
        found.append(section(fit, title, chosen.notes))
    return found


def section(fit: Equivalence, title: str = "What synthetic images are worth", notes: Sequence[str] = ()) -> Section:
    """Returns the section of one fit."""
    return Section(
        title,
        [rate_sentence(fit), comparison_words(fit)],
        [learning_curve(fit), exchange(fit), by_ratio(fit.curve.cells, fit.mixed)],
        [_rates(fit), _cells(fit)],
        [*notes, *fit.notes],
        rate_sentence(fit),
    )


def learning_curve(fit: Equivalence) -> Figure:
    """Draws the curve with its band, and every mixture on it."""
    curve = fit.curve
    n = np.geomspace(curve.n_min, curve.n_max, NUM_STEPS)
    errors = curve.error_at(n)
    cells = [
        drawn.Measured(int(x), float(y), interval(curve.means[:, i]))
        for i, (x, y) in enumerate(zip(curve.cells.n_base, curve.means[0], strict=True))
    ]
    bounds = {"at least": 1, "at most": -1, "": 0}
    projected = [(p.n_base, p.error, p.n_eq, bounds[p.censored]) for p in fit.points]
    alt = (
        f"Error of real images alone, falling from {errors[0, 0]:.1f} % at {curve.n_min:,} to {errors[0, -1]:.1f} % at "
        f"{curve.n_max:,}; {len(projected)} mixtures on it, worth between {min(p.n_eq for p in fit.points):,.0f} and "
        f"{max(p.n_eq for p in fit.points):,.0f} real images"
    )
    markup = drawn.learning_curve(drawn.Series("real", _line(n, errors[0]), _band(n, errors), cells), projected, alt)
    caption = (
        "Squares: real images alone, and the curve fitted to them with its 95 % band. A mixture is a line from a dot "
        "at the size of its real part to the number of real images that reach the same error; a triangle is a bound."
    )
    return Figure("The learning curve of real images", caption, markup)


def exchange(fit: Equivalence, law: str = "study") -> Figure:
    """Draws how many synthetic images are worth how many real ones, a panel for each of up to six n_base."""
    series, said = [], []
    for n_base in picked(sorted(set(fit.mixed.n_base.tolist())), drawn.MOST_SERIES):
        own = [p for p in fit.points if p.n_base == n_base]
        n_syn = np.geomspace(min(p.n_synthetic for p in own), max(p.n_synthetic for p in own), NUM_STEPS)
        gains = np.stack([fit.fits[law].n_real_plus(n_base, m) for m in n_syn], axis=1)
        # Past the largest real set the law is not drawn: nothing was measured there.
        shown = gains[0] <= fit.curve.n_max - n_base
        room = fit.curve.n_max / n_base - 1
        gains, ratio = np.minimum(gains[:, shown] / n_base, room), n_syn[shown] / n_base
        edges = None if len(gains) < 2 else np.quantile(gains[1:], [0.025, 0.975], axis=0)
        band = None if edges is None else (_line(edges[0], ratio), _line(edges[1], ratio))
        name = f"{n_base:,} real images"
        series.append(drawn.Series(name, _line(gains[0], ratio), band, [_exchanged(p) for p in own]))
        said.append(f"{name}: {told(fit.marginal_rate(n_base, law))} for the first")
    markup = drawn.exchange(series, "Synthetic images worth one more real one. " + "; ".join(said))
    caption = (
        "Marks: measured mixtures, with the 95 % interval of what they are worth on the fitted curve; line and band: "
        "the study's law. Left of the dashed line a mixture does worse than the curve says of its real images alone. "
        "A triangle is a bound: it lies past the largest or the smallest real set."
    )
    return Figure("What mixtures are worth, and the law", caption, markup)


def by_ratio(real: Cells, mixed: Cells) -> Figure:
    """Draws accuracy over the ratio of synthetic to real images, a line for each of up to six n_base.

    The bands are Student's t with the spread of seeds told from all cells together, which needs no fit of a curve.
    """
    noise = noise_of([real, mixed])
    series, said = [], []
    for n_base in picked(sorted(set(mixed.n_base.tolist())), drawn.MOST_SERIES):
        cells = [(0.0, real, i) for i in np.flatnonzero(real.n_base == n_base)]
        cells += [(mixed.n_synthetic[i] / n_base, mixed, i) for i in np.flatnonzero(mixed.n_base == n_base)]
        ratios = [ratio for ratio, _, _ in cells]
        accuracy = 100 - np.array([of.mean[i] for _, of, i in cells])
        band = None
        if noise.dof:
            half = stats.t.isf(0.025, noise.dof) * np.array(
                [(noise.sd(of.mean) / of.count**0.5)[i] for _, of, i in cells]
            )
            band = _line(ratios, accuracy - half), _line(ratios, accuracy + half)
        series.append(drawn.Series(f"{n_base:,}", _line(ratios, accuracy), band, ()))
        best = int(accuracy.argmax())
        alone = f"{accuracy[0]:.1f} % alone, " if ratios[0] == 0 else ""
        said.append(f"{n_base:,} real images: {alone}at best {accuracy[best]:.1f} % at {ratios[best]:g}")
    markup = drawn.by_ratio(series, "Accuracy by synthetic images for each real one. " + "; ".join(said))
    bands = " with their 95 % bands" if noise.dof else ""
    caption = f"Means over seeds{bands}, a line for each number of real images; 0 is real images alone."
    return Figure("Accuracy by ratio", caption, markup)


def _exchanged(point: equivalence.Point) -> drawn.Measured:
    """A mixture in the panel of its n_base, in units of that."""
    x, *ends = (n / point.n_base - 1 for n in (point.n_eq, *(point.interval or ())))
    bound = {"at least": 1, "at most": -1, "": 0}[point.censored]
    return drawn.Measured(x, point.n_synthetic / point.n_base, tuple(ends) or None, bound)


def _line(xs: Any, ys: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]


def _band(xs: Any, draws: np.ndarray) -> tuple[list, list] | None:
    if len(draws) < 2:
        return None
    low, high = np.quantile(draws[1:], [0.025, 0.975], axis=0)
    return _line(xs, low), _line(xs, high)


def _kind(settings: Mapping[str, str]) -> str:
    said = [settings.get("generator", "")]
    said += [f"fine-tuned: {tuned}"] if (tuned := settings.get("fine_tuning", "")) not in ("", "none") else []
    said += [f"sampler {sampler}"] if (sampler := settings.get("sampler", "")) else []
    return f" ({', '.join(s for s in said if s)})" if any(said) else ""


def _rates(fit: Equivalence) -> Table:
    rows, values = [], []
    for n in sorted(set(fit.mixed.n_base.tolist())):
        rate, average = fit.marginal_rate(n), fit.average_rate(n, n)
        rows.append((f"{n:,}", told(rate), told(average), f"{fit.most_synthetic(n):,}"))
        values.append((n, rate.value, average.value, fit.most_synthetic(n)))
    columns = ("Real images", "Synthetic worth the next one", "Synthetic for each of as many again", "Most tried")
    return Table("Exchange rates", columns, rows, values)


def _end(n: float, fit: Equivalence) -> str:
    """An end of an interval of n_eq, which stops where the curve does."""
    return f"{figure(n)}{' or more' if n >= fit.curve.n_max else ' or less' if n <= fit.curve.n_min else ''}"


def _cells(fit: Equivalence) -> Table:
    rows = [
        (
            f"{p.n_base:,}",
            f"{p.n_synthetic:,}",
            f"{100 - p.error:.2f}",
            f"{p.num_seeds}",
            f"{p.censored} {p.n_eq:,.0f}".strip()
            + (f" [{', '.join(_end(n, fit) for n in p.interval)}]" if p.interval and not p.censored else ""),
        )
        for p in fit.points
    ]
    values = [(p.n_base, p.n_synthetic, 100 - p.error, p.num_seeds, p.n_eq) for p in fit.points]
    return Table("Mixtures", ("Real", "Synthetic", "Top-1", "Seeds", "Worth in real images"), rows, values)
