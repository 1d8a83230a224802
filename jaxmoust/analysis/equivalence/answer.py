"""What an equivalence fit says: in sentences, and as one object for programs. Every figure is the fit's own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from jaxmoust.analysis.equivalence.fit import LACKING, AllCensored, Answer, Equivalence, Point, check_sizes
from jaxmoust.analysis.equivalence.laws import LAWS
from jaxmoust.analysis.equivalence.learning_curve import Curve, interval
from jaxmoust.analysis.equivalence.results_csv import SETTINGS, Chosen

T = TypeVar("T")

LARGEST = 500  # exponents of e that are still figures
MOST_LISTED = 4  # sizes that one sentence names; the table has them all
# What the object for programs says with an interval and a reason for having none.
FIGURES = ("a", "b", "c1", "c2", "kappa", "eta", "n_syn", "exchange_rate_marginal", "exchange_rate_average")
OF_FIT = ("left_out_error", "lack_of_fit_p", *(f"{law}_deviance" for law in LAWS))


@dataclass(frozen=True)
class Question:
    """What a fit is asked: how many synthetic images n_real_plus more real ones are worth beside n_base.

    Args:
        k: the number of images that c1 is stated for. law: "study" or "effective".
        n_base, n_real_plus: None where they are not asked for.
    """

    k: float = 1000.0
    law: str = "study"
    n_base: float | None = None
    n_real_plus: float | None = None

    def check(self) -> None:
        """Refuses numbers that are none.

        Raises: ValueError: k, n_base or n_real_plus that are not finite or not above 0.
        """
        check_sizes(**{name: x for name, x in asdict(self).items() if name != "law" and x is not None})


def format_number(x: float) -> str:
    """Returns a number of images, or a rate, to two digits or all of its whole part, with thousands set off."""
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    return f"{x:,.0f}" if abs(x) >= 9.95 else f"{x:.1f}" if abs(x) >= 0.995 else f"{x:.2g}"


def format_estimate(answer: Answer) -> str:
    """Returns "5.2 [3.9, 7.1]", and says where an end lies beyond what was measured."""
    if answer.value is None:
        return "unknown"
    if answer.interval is None:
        return f"{format_number(answer.value)} (no interval)"
    if answer.interval == (None, None):
        return f"{format_number(answer.value)} (without bounds)"
    ends = ("beyond what was measured" if x is None else format_number(x) for x in answer.interval)
    return f"{format_number(answer.value)} [{', '.join(ends)}]"


def rate_sentence(fit: Equivalence) -> str:
    """Returns what one more real image is worth by the study's law, at up to MOST_LISTED n_base that have a rate."""
    rates = {f"{n:,}": fit.marginal_rate(n) for n in fit.sizes}
    estimates = [(n, rate) for n, rate in rates.items() if rate.value is not None]
    reasons = _by_reason(rates)
    if not estimates:
        sentences = [reason if len(reasons) == 1 else f"at {_listed(of)}, {reason}" for reason, of in reasons.items()]
        return f"No number of synthetic images can be named that is worth one more real image: {'; '.join(sentences)}."
    (n, rate), *others = subsample(estimates, MOST_LISTED)
    more = "".join(f"; {format_estimate(rate)} at {n}" for n, rate in others)
    none = [n for n, rate in rates.items() if rate.value is None]
    lacking = f"; no number that was tried at {_listed(none)}" if none else ""
    return f"One more real image is worth {format_estimate(rate)} synthetic ones at {n} real images{more}{lacking}."


def loss_sentence(points: Sequence[Point], curve: Curve, n_base: float | None = None) -> str:
    """Returns what mixtures that lose cost, in real images taken away; "" where none certainly loses.

    Args:
        n_base: says it of all mixtures with so many; by default of the one with the most synthetic images of each size.
            Up to MOST_LISTED are named.
    """
    losing = [(p, p.lost) for p in points if p.lost and n_base in (None, p.n_base)]
    if n_base is None:  # points rise in both sizes: the last of each n_base remains
        losing = list({p.n_base: (p, lost) for p, lost in losing}.values())
    costs, form = [], "what taking {} real ones away costs"
    for p, lost in subsample(losing, MOST_LISTED):
        if lost.at_least == 0:
            cost = f"an unknown number of real ones, for no real set of fewer than {curve.n_min:,} was run"
        else:
            worth = format_estimate(lost) if lost.at_least is None else f"at least {format_number(lost.at_least)}"
            cost, form = form.format(worth), "{}"
        costs.append(f"beside {p.n_base:,} real images, {p.n_synthetic:,} of them cost {cost}")
    return f"Worth fewer than none: {'; '.join(costs)}." if costs else ""


def subsample(sizes: Sequence[T], most: int) -> list[T]:
    """Returns at most `most` of these, the ends among them, evenly spread."""
    if len(sizes) <= most:
        return list(sizes)
    return [sizes[round(i * (len(sizes) - 1) / (most - 1))] for i in range(most)]


def question_words(fit: Equivalence, n_base: float, n_real_plus: float, law: str = "study") -> list[str]:
    """Returns the answer to "how many synthetic images are n_real_plus more real ones worth?", or the refusal."""
    answer, rate = fit.n_syn(n_base, n_real_plus, law), fit.marginal_rate(n_base, law)
    sentence = (
        f"Beside {format_number(n_base)} real images, {format_number(n_real_plus)} more would help as much as "
        f"{format_estimate(answer)} "
        f"synthetic ones: {format_estimate(fit.average_rate(n_base, n_real_plus, law))} for each."
    )
    first = [f"The first of them alone is worth {format_estimate(rate)}."] if rate.value is not None else []
    return [f"No answer: {answer.refused}." if answer.refused else sentence, *first]


def words(fit: Equivalence, chosen: Chosen, question: Question) -> list[str]:
    """Returns the whole answer for a terminal, line by line: the question, the rates, the fit, the runs."""
    n_base, law = question.n_base, question.law
    lines = []
    if n_base is not None and (question.n_real_plus is not None or law != "study"):
        lines = question_words(fit, n_base, question.n_real_plus or n_base, law)  # no slope at 0: as many again
    elif n_base is not None:
        rate = fit.marginal_rate(n_base, law)
        worth = f"One more real image is worth {format_estimate(rate)} synthetic ones at {n_base:,.0f} real images."
        lines = [f"No answer: {rate.refused}." if rate.refused else worth]
    settings = ", ".join(f"{name} {value}" for name, value in chosen.settings.items() if value)
    rates = ("" if law == "study" else "By the study's law: ") + rate_sentence(fit)
    lost = loss_sentence(fit.points, fit.curve, n_base) or loss_sentence(fit.points, fit.curve)
    return [
        *lines,
        rates,
        *filter(None, [lost]),
        "",
        *fit_words(fit, question.k),
        "",
        f"Arms: {', '.join(chosen.real_arms)} (real images alone); {', '.join(chosen.mixed_arms)} (mixtures).",
        f"In brackets: 95 % intervals over seeds. Settings of the mixtures: {settings or 'not given'}.",
        *chosen.notes,
    ]


def comparison_words(fit: Equivalence) -> str:
    """Returns which law predicts left-out cells better, and whether chance explains what it misses them by."""
    names = {"study": "the study's law", "effective": "the effective sample size"}
    misses = {law: miss for law, miss in fit.left_out.items() if miss is not None}
    if not misses:
        return "Fewer than three mixed cells: the two laws cannot be compared."
    better, worse = sorted(misses, key=lambda law: misses[law])
    sentence = (
        f"Predicting the error of a mixture left out of the fit, {names[better]} is off by {misses[better]:.2f} "
        f"points, {names[worse]} by {misses[worse]:.2f} (root mean square)."
    )
    lacking = [names[law] for law in LAWS if (p := fit.lack_of_fit(law)) is not None and p < LACKING]
    if lacking:
        sentence += (
            f" The cells deviate from {' and from '.join(lacking)} by more than seeds explain (p < {LACKING:g}), so "
            "intervals from it are too short."
        )
    return sentence


def fit_words(fit: Equivalence, k: float) -> list[str]:
    """Returns the laws with their figures, the curve and the cells, a line each, for a terminal."""
    curve, parameters = fit.curve, _parameters(fit, k)
    parameters[f"c1 (for k = {k:g})"] = parameters["c1"]
    inside = [better for p, better in zip(fit.points, fit.better(), strict=True) if not p.censored]
    at = {side: sum(p.censored == side for p in fit.points) for side in ("at least", "at most")}
    return [
        f"The study's law: {LAWS['study'].reads}",
        *_parameter_lines({name: parameters[name] for name in ("a", f"c1 (for k = {k:g})", "b", "c2")}),
        f"The effective sample size: {LAWS['effective'].reads}",
        *_parameter_lines({name: parameters[name] for name in ("kappa", "eta")}),
        comparison_words(fit),
        f"Real images alone: error {format_number(curve.alpha[0])} n^-{curve.beta[0]:.2g} + "
        f"{format_number(curve.gamma[0])} % for "
        f"n from {curve.n_min:,} to {curve.n_max:,} ({len(curve.cells)} sizes, missed by up to {curve.misfit:.2f}).",
        f"{len(fit.points)} mixtures: {len(inside)} inside that curve ({inside.count(False)} no better than their real "
        f"images alone), {at['at least']} better than its end and {at['at most']} worse than its start, which count as "
        "bounds.",
        *fit.notes,
    ]


def record(fit: Equivalence, chosen: Chosen, question: Question) -> dict[str, Any]:
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
    question.check()
    law, n_base, n_real_plus = question.law, question.n_base, question.n_real_plus
    answers = _parameters(fit, question.k)
    every = {n: {"marginal": fit.marginal_rate(n, law), "average": fit.average_rate(n, n, law)} for n in fit.sizes}
    kind = "marginal" if law == "study" else "average"
    asked = [rates[kind] for rates in every.values()]
    if n_base is not None:
        answers["exchange_rate_marginal"] = fit.marginal_rate(n_base, law)
        answers["exchange_rate_average"] = fit.average_rate(n_base, n_real_plus or n_base, law)
        asked = [answers[f"exchange_rate_{kind}"]]
        if n_real_plus is not None:
            answers["n_syn"] = fit.n_syn(n_base, n_real_plus, law)
            asked = [answers["n_syn"]]
    reasons = [answer.refused for answer in asked]
    return {
        **_object(question, answers, chosen, fit.points, fit.curve),
        "refused": "; ".join(dict.fromkeys(reasons)) if all(reasons) else None,
        "exchange_rates": [{"n_base": n, **_fields(rates)} for n, rates in every.items()],
        "left_out_error": dict(fit.left_out),
        "lack_of_fit_p": {name: fit.lack_of_fit(name) for name in LAWS},
        **{f"{name}_deviance": float(of.deviance[0]) for name, of in fit.fits.items()},
        "notes": [*chosen.notes, *fit.notes],
    }


def refusal(
    reason: str, question: Question | None = None, chosen: Chosen | None = None, bounds: AllCensored | None = None
) -> dict[str, Any]:
    """Returns the object for what cannot be fitted: `record`'s keys without a figure, and the reason.

    Args:
        question: None where it could not be read; numbers in it that are not finite are None in the object.
        chosen: the runs, where they could be chosen. bounds: where all cells are bounds, those and the curve.
    """
    answers = dict.fromkeys(FIGURES, Answer(None, refused=reason))
    measured = (bounds.points, bounds.curve) if bounds else ()
    return _object(question, answers, chosen, *measured) | {"refused": reason}


def _object(
    question: Question | None,
    answers: dict[str, Answer],
    chosen: Chosen | None,
    points: Sequence[Point] = (),
    curve: Curve | None = None,
) -> dict[str, Any]:
    """Every key of the object for programs, with what is known of it."""
    asked = asdict(question) if question else dict.fromkeys(("k", "law", "n_base", "n_real_plus"))
    asked["exchange_rate_average_up_to"] = asked["n_real_plus"] or asked["n_base"]
    sides = [p.censored for p in points if p.censored]
    return {
        **{name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in asked.items()},
        **_fields(dict.fromkeys(FIGURES, Answer(None)) | answers),
        "n_syn_at_least": answers["n_syn"].at_least if "n_syn" in answers else None,
        "exchange_rates": [],
        **dict.fromkeys(OF_FIT),
        "learning_curve": curve
        and {
            **_fields({name: Answer(draws[0], interval(draws)) for name, draws in curve.parameters.items()}),
            **{name: getattr(curve, name) for name in ("n_min", "n_max", "misfit")},
        },
        "censored": {
            "cells": len(sides) if curve else None,
            **{side.replace(" ", "_"): sides.count(side) if curve else None for side in ("at least", "at most")},
        },
        "cells": [
            {
                **{name: getattr(p, name) for name in ("n_base", "n_synthetic", "error", "n_eq")},
                "seeds": p.num_seeds,
                "n_eq_interval": None if p.censored else p.interval,
                "censored": p.censored or None,
                "n_real_plus": p.n_eq - p.n_base,
                **_fields({"lost": p.lost or Answer(None)}),
                "lost_at_least": p.lost and p.lost.at_least,
            }
            for p in points
        ],
        "real_arms": list(chosen.real_arms) if chosen else [],
        "mixed_arms": list(chosen.mixed_arms) if chosen else [],
        **(chosen.settings if chosen else dict.fromkeys(SETTINGS)),
        "worth_fewer_than_none": (curve and loss_sentence(points, curve)) or None,
        "notes": list(chosen.notes) if chosen else [],
    }


def _parameters(fit: Equivalence, k: float) -> dict[str, Answer]:
    a, b = fit.a(), fit.b()
    return {"a": a, "b": b, "c1": _exp(a, k), "c2": _exp(b, 1.0), "kappa": fit.kappa(), "eta": fit.eta()}


def _parameter_lines(answers: Mapping[str, Answer]) -> list[str]:
    """Parameters that are known on one line, and why others are not on another."""
    known = [f"{name} {format_estimate(answer)}" for name, answer in answers.items() if answer.value is not None]
    unknown = [f"{', '.join(names)} unknown: {reason}" for reason, names in _by_reason(answers).items()]
    return [f"  {line}" for line in ([", ".join(known)] if known else []) + unknown]


def _by_reason(answers: Mapping[str, Answer]) -> dict[str, list[str]]:
    """The names of refused answers, by reason."""
    reasons: dict[str, list[str]] = {}
    for name, answer in answers.items():
        if answer.value is None:
            reasons.setdefault(answer.refused, []).append(name)
    return reasons


def _listed(items: Sequence[str]) -> str:
    if len(items) > MOST_LISTED:
        items = [*items[: MOST_LISTED - 1], f"{len(items) - MOST_LISTED + 1} more"]
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def _fields(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Each figure, its interval, and why there is none."""
    fields: dict[str, Any] = {}
    for name, answer in answers.items():
        fields |= {name: answer.value, f"{name}_interval": answer.interval, f"{name}_refused": answer.refused or None}
    return fields


def _exp(answer: Answer, k: float) -> Answer:
    """The exponential of k times an answer; what a float does not hold is None."""
    power = answer.mapped(lambda x: math.exp(x * k) if x * k <= LARGEST else None)
    if answer.value is None or power.value is not None:
        return power
    return replace(power, refused=f"exp({answer.value * k:.3g}) is without bound")
