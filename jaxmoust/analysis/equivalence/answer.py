"""What an equivalence fit says: in sentences, and as one object for programs. Every figure is the fit's own."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from jaxmoust.analysis.equivalence.fit import LACKING, AllCensored, Answer, Equivalence, Point, check_sizes, log_fit
from jaxmoust.analysis.equivalence.laws import LAWS
from jaxmoust.analysis.equivalence.learning_curve import Curve, interval
from jaxmoust.analysis.equivalence.results_csv import SETTINGS, Chosen

T = TypeVar("T")

LARGEST = 500  # exponents of e that are still figures
MOST_LISTED = 4  # sizes that one sentence names; the table has them all


def figure(x: float) -> str:
    """Returns a number of images, or a rate, to two digits or all of its whole part, with thousands set off."""
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    return f"{x:,.0f}" if abs(x) >= 9.95 else f"{x:.1f}" if abs(x) >= 0.995 else f"{x:.2g}"


def told(answer: Answer) -> str:
    """Returns "5.2 [3.9, 7.1]", and says where an end lies beyond what was measured."""
    if answer.value is None:
        return "unknown"
    if answer.interval is None:
        return f"{figure(answer.value)} (no interval)"
    if answer.interval == (None, None):
        return f"{figure(answer.value)} (without bounds)"
    low, high = answer.interval
    ends = ("beyond what was measured" if x is None else figure(x) for x in (low, high))
    return f"{figure(answer.value)} [{', '.join(ends)}]"


def rate_sentence(fit: Equivalence) -> str:
    """Returns what one more real image is worth by the study's law, at up to MOST_LISTED of the n_base that tell it."""
    rates = [(n, fit.marginal_rate(n)) for n in sorted(set(fit.mixed.n_base.tolist()))]
    known = [(n, rate) for n, rate in rates if rate.value is not None]
    if not known:
        reasons: dict[str, list[str]] = {}
        for n, rate in rates:
            reasons.setdefault(rate.refused, []).append(f"{n:,}")
        said = [reason if len(reasons) == 1 else f"at {_listed(of)}, {reason}" for reason, of in reasons.items()]
        return f"No number of synthetic images can be named that is worth one more real image: {'; '.join(said)}."
    (n, rate), *others = picked(known, MOST_LISTED)
    more = "".join(f"; {told(rate)} at {n:,}" for n, rate in others)
    none = [f"{n:,}" for n, rate in rates if rate.value is None]
    said = f"; no number that was tried at {_listed(none)}" if none else ""
    return f"One more real image is worth {told(rate)} synthetic ones at {n:,} real images{more}{said}."


def _listed(items: Sequence[str]) -> str:
    if len(items) > MOST_LISTED:
        items = [*items[: MOST_LISTED - 1], f"{len(items) - MOST_LISTED + 1} more"]
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def picked(sizes: Sequence[T], most: int) -> list[T]:
    """Returns at most `most` of these, the ends among them, evenly spread."""
    if len(sizes) <= most:
        return list(sizes)
    return [sizes[round(i * (len(sizes) - 1) / (most - 1))] for i in range(most)]


def question_words(fit: Equivalence, n_base: float, n_real_plus: float, law: str = "study") -> list[str]:
    """Returns the answer to "how many synthetic images are n_real_plus more real ones worth?", or the refusal."""
    answer = fit.n_syn(n_base, n_real_plus, law)
    if answer.refused:
        said = [f"No answer: {answer.refused}."]
    else:
        said = [
            f"Beside {figure(n_base)} real images, {figure(n_real_plus)} more would help as much as {told(answer)} "
            f"synthetic ones: {told(fit.average_rate(n_base, n_real_plus, law))} for each."
        ]
    rate = fit.marginal_rate(n_base, law)
    if rate.value is not None:
        said.append(f"The first of them alone is worth {told(rate)}.")
    return said


def words(
    fit: Equivalence,
    chosen: Chosen,
    k: float,
    law: str = "study",
    n_base: float | None = None,
    n_real_plus: float | None = None,
) -> list[str]:
    """Returns the whole answer for a terminal, line by line: the question, the rates, the fit, the runs."""
    if n_base is not None and (n_real_plus is not None or law != "study"):
        said = question_words(fit, n_base, n_real_plus or n_base, law)  # no slope at 0: as many again
    elif n_base is not None:
        rate = fit.marginal_rate(n_base, law)
        worth = f"One more real image is worth {told(rate)} synthetic ones at {n_base:,.0f} real images."
        said = [f"No answer: {rate.refused}." if rate.refused else worth]
    else:
        said = []
    arms = f"Arms: {', '.join(chosen.real_arms)} (real images alone); {', '.join(chosen.mixed_arms)} (mixtures)."
    figures = f"In brackets: 95 % intervals over seeds. Settings of the mixtures: {_settings(chosen)}."
    rates = rate_sentence(fit) if law == "study" else f"By the study's law: {rate_sentence(fit)}"
    return [*said, rates, "", *fit_words(fit, k), "", arms, figures, *chosen.notes]


def _settings(chosen: Chosen) -> str:
    return ", ".join(f"{name} {value}" for name, value in chosen.settings.items() if value) or "not given"


def comparison_words(fit: Equivalence) -> str:
    """Returns which law foretells cells that it was not fitted to better, and whether chance explains its misses."""
    study, effective = (fit.left_out[name] for name in ("study", "effective"))
    if study is None:
        return "Fewer than three mixed cells: the two laws cannot be compared."
    names = {"study": "the study's law", "effective": "the effective sample size"}
    better, worse = ("study", "effective") if study <= effective else ("effective", "study")
    said = (
        f"Foretelling the error of a mixture left out of the fit, {names[better]} misses by "
        f"{fit.left_out[better]:.2f} points, {names[worse]} by {fit.left_out[worse]:.2f} (root mean square)."
    )
    lacking = [names[name] for name in LAWS if (p := fit.lack_of_fit(name)) is not None and p < LACKING]
    if lacking:
        said += (
            f" The cells stray from {' and from '.join(lacking)} by more than seeds explain (p < {LACKING:g}), so "
            "intervals from it are too short."
        )
    return said


def fit_words(fit: Equivalence, k: float) -> list[str]:
    """Returns the laws with their figures, the curve and the cells, a line each, for a terminal."""
    study, effective, curve = fit.fits["study"], fit.fits["effective"], fit.curve
    a, b = fit.a(), fit.b()
    of_study = {"a": a, f"c1 (for k = {k:g})": _exp(a, k), "b": b, "c2": _exp(b, 1.0)}
    of_effective = {"kappa": fit.kappa(), "eta": fit.eta()}
    inside = [p for p in fit.points if not p.censored]
    none = sum(not better for p, better in zip(fit.points, fit.better(), strict=True) if not p.censored)
    at = {side: sum(p.censored == side for p in fit.points) for side in ("at least", "at most")}
    return [
        f"The study's law: {study.law.reads}",
        *_parameters(of_study),
        f"The effective sample size: {effective.law.reads}",
        *_parameters(of_effective),
        comparison_words(fit),
        f"Real images alone: error {figure(curve.alpha[0])} n^-{curve.beta[0]:.2g} + {figure(curve.gamma[0])} % for "
        f"n from {curve.n_min:,} to {curve.n_max:,} ({len(curve.cells)} sizes, missed by up to {curve.misfit:.2f}).",
        f"{len(fit.points)} mixtures: {len(inside)} inside that curve ({none} no better than their real images alone), "
        f"{at['at least']} better than its end and {at['at most']} worse than its start, which count as bounds.",
        *fit.notes,
    ]


def _parameters(answers: dict[str, Answer]) -> list[str]:
    """Parameters that are known on one line, and why others are not on another."""
    known = [f"{name} {told(answer)}" for name, answer in answers.items() if answer.value is not None]
    reasons: dict[str, list[str]] = {}
    for name, answer in answers.items():
        if answer.value is None:
            reasons.setdefault(answer.refused, []).append(name)
    unknown = [f"{', '.join(names)} unknown: {reason}" for reason, names in reasons.items()]
    return [f"  {line}" for line in ([", ".join(known)] if known else []) + unknown]


def record(
    fit: Equivalence,
    chosen: Chosen,
    k: float,
    law: str = "study",
    n_base: float | None = None,
    n_real_plus: float | None = None,
) -> dict[str, Any]:
    """Returns everything the fit says as one object of plain numbers; what cannot be said is None.

    n_syn and the rates are those of the law and the n_base asked for; exchange_rates are those of the law asked for
    at every n_base that was measured. exchange_rate_average is up to exchange_rate_average_up_to more real images:
    n_real_plus, or n_base where that is not given. censored counts the cells known by a bound only. Beside every figure
    stand its interval and, as NAME_refused, why it is None; n_syn beyond what was tried is None and has an interval and
    n_syn_at_least all the same. refused is the reason why the question itself has no answer: n_syn, or where none is
    asked for the rate at n_base, or where that is not given all of exchange_rates; of the study's law the marginal
    ones, of the effective sample size, which has no others, the average ones.

    Raises: ValueError: k, n_base or n_real_plus that are not above 0, an unknown law.
    """
    check_sizes(k=k)
    study, effective, curve = fit.fits["study"], fit.fits["effective"], fit.curve
    a, b = fit.a(), fit.b()
    asked = None if n_base is None or n_real_plus is None else fit.n_syn(n_base, n_real_plus, law)
    up_to = n_real_plus or n_base
    marginal = None if n_base is None else fit.marginal_rate(n_base, law)
    average = None if n_base is None else fit.average_rate(n_base, up_to, law)
    sizes = sorted(set(fit.mixed.n_base.tolist()))
    every = {n: (fit.marginal_rate(n, law), fit.average_rate(n, n, law)) for n in sizes}
    rates = [(marginal, average)] if marginal else list(every.values())
    question = [asked] if asked else [first if law == "study" else mean for first, mean in rates]
    plain = log_fit(fit.points, curve.n_max)
    return {
        "law": law,
        **_named("a", a),
        **_named("b", b),
        "k": k,
        **_named("c1", _exp(a, k)),
        **_named("c2", _exp(b, 1.0)),
        **_named("kappa", fit.kappa()),
        **_named("eta", fit.eta()),
        "n_base": n_base,
        "n_real_plus": n_real_plus,
        **_named("n_syn", asked),
        "n_syn_at_least": asked and asked.at_least,
        "refused": "; ".join(dict.fromkeys(x.refused for x in question)) if all(x.refused for x in question) else None,
        **_named("exchange_rate_marginal", marginal),
        **_named("exchange_rate_average", average),
        "exchange_rate_average_up_to": up_to,
        "exchange_rates": [
            {"n_base": n, **_named("marginal", first), **_named("average", mean)} for n, (first, mean) in every.items()
        ],
        "left_out_error": dict(fit.left_out),
        "lack_of_fit_p": {name: fit.lack_of_fit(name) for name in LAWS},
        "log_fit": plain and {"a": plain.a, "b": plain.b, "points": plain.num_points, "bounds": plain.num_bounds},
        **_measured(fit.points, curve),
        **_choice(chosen),
        "study_deviance": float(study.deviance[0]),
        "effective_deviance": float(effective.deviance[0]),
        "notes": [*chosen.notes, *fit.notes],
    }


def refusal(
    reason: str,
    k: float | None = None,
    law: str | None = None,
    n_base: float | None = None,
    n_real_plus: float | None = None,
    chosen: Chosen | None = None,
    bounds: AllCensored | None = None,
) -> dict[str, Any]:
    """Returns the object for what cannot be fitted: `record`'s keys without a figure, and the reason.

    Args:
        k, law, n_base, n_real_plus: of the question; None also where they are not known or not finite.
        chosen: the runs, where they could be chosen. bounds: where all cells are bounds, those and the curve.
    """
    figures = ("a", "b", "c1", "c2", "kappa", "eta", "n_syn", "exchange_rate_marginal", "exchange_rate_average")
    others = ("n_syn_at_least", "left_out_error", "lack_of_fit_p", "log_fit", "learning_curve")
    numbers = {
        "k": k,
        "n_base": n_base,
        "n_real_plus": n_real_plus,
        "exchange_rate_average_up_to": n_real_plus or n_base,
    }
    return {
        "law": law,
        **{name: x if x is not None and math.isfinite(x) else None for name, x in numbers.items()},
        "refused": reason,
        **{key: x for name in figures for key, x in _named(name, Answer(None, refused=reason)).items()},
        "exchange_rates": [],
        "censored": {"cells": None, "at_least": None, "at_most": None},
        **{name: [] for name in ("cells", "real_arms", "mixed_arms", "notes")},
        **dict.fromkeys((*others, *(f"{law}_deviance" for law in LAWS), *SETTINGS)),
        **(_measured(bounds.points, bounds.curve) if bounds else {}),
        **(_choice(chosen) | {"notes": list(chosen.notes)} if chosen else {}),
    }


def _measured(points: Sequence[Point], curve: Curve) -> dict[str, Any]:
    """The mixed cells and the curve that they lie on or beyond."""
    parameters = [_named(name, _of(getattr(curve, name))) for name in ("alpha", "beta", "gamma")]
    known = {key: x for of in parameters for key, x in of.items()}
    return {
        "censored": {
            "cells": sum(bool(p.censored) for p in points),
            "at_least": sum(p.censored == "at least" for p in points),
            "at_most": sum(p.censored == "at most" for p in points),
        },
        "learning_curve": known | {"n_min": curve.n_min, "n_max": curve.n_max, "misfit": curve.misfit},
        "cells": [
            {
                "n_base": p.n_base,
                "n_synthetic": p.n_synthetic,
                "seeds": p.num_seeds,
                "error": p.error,
                "n_eq": p.n_eq,
                "n_eq_interval": None if p.censored else p.interval,
                "censored": p.censored or None,
            }
            for p in points
        ],
    }


def _choice(chosen: Chosen) -> dict[str, Any]:
    return {"real_arms": list(chosen.real_arms), "mixed_arms": list(chosen.mixed_arms), **chosen.settings}


def _named(name: str, answer: Answer | None) -> dict[str, Any]:
    known = {name: answer and answer.value, f"{name}_interval": answer and answer.interval}
    return known | {f"{name}_refused": (answer and answer.refused) or None}


def _of(draws: Any) -> Answer:
    return Answer(float(draws[0]), interval(draws))


def _exp(answer: Answer, k: float) -> Answer:
    """The exponential of k times an answer; what a float does not hold is None."""

    def power(x):
        return None if x is None or x * k > LARGEST else math.exp(x * k)

    value = power(answer.value)
    refused = answer.refused or ("" if value is not None else f"exp({answer.value * k:.3g}) is without bound")
    return Answer(value, answer.interval and tuple(power(x) for x in answer.interval), refused)
