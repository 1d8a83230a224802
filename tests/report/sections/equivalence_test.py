"""Laws of the section on equivalence: it says and draws what the fit says, and says when there is none."""

import re

import planted_equivalence as planted
import pytest

from jaxmoust.analysis.equivalence import answer as answer
from jaxmoust.analysis.equivalence import fit as equivalence
from jaxmoust.report.charts import lines
from jaxmoust.report.sections import equivalence as section


@pytest.fixture(scope="module")
def fit():
    return equivalence.fit(*planted.plant(real=(125, 250, 500, 1000, 2000), bases=(250, 1000)), 100)


def test_rate_sentence_says_the_rates_of_the_fit(fit):
    said = answer.rate_sentence(fit)
    assert said.startswith(
        f"One more real image is worth {answer.format_estimate(fit.marginal_rate(250))} synthetic ones at 250 real"
    )
    assert f"; {answer.format_estimate(fit.marginal_rate(1000))} at 1,000." in said


def test_rate_sentence_names_the_sizes_where_no_mixture_gained():
    real, mixed = planted.plant(gain=lambda n, s: planted.study_gain(n, s) if n < 1000 else -0.3 * n)
    fit = equivalence.fit(real, mixed, 100)
    assert fit.marginal_rate(250).value is not None
    assert answer.rate_sentence(fit).endswith("at 250 real images; no number that was tried at 1,000 and 4,000.")


def test_rate_sentence_names_every_size_that_gained():
    """Gains at three sizes of seven, none of which is among four spread evenly over the seven."""
    bases, gained = (125, 250, 500, 1000, 2000, 4000, 8000), (250, 1000, 4000)
    gain = lambda n, s: 0.2 * s if n in gained else -0.1 * n  # noqa: E731
    fit = equivalence.fit(*planted.plant(sd=0.1, real=(60, *bases, 16000), bases=bases, gain=gain), 50)
    said = answer.rate_sentence(fit)
    assert all(f"{answer.format_estimate(fit.marginal_rate(n))} " in said and f" at {n:,}" in said for n in gained)
    assert said.endswith("no number that was tried at 125, 500, 2,000 and 8,000.")


def test_rate_sentence_without_a_gain_claims_none():
    none = equivalence.fit(*planted.plant(gain=lambda n, s: -0.3 * n), 100)
    assert answer.rate_sentence(none).endswith(
        "is worth one more real image: no mixture did better than its real images alone."
    )


def test_loss_sentence_says_what_the_largest_losing_mixture_of_each_size_costs():
    real, mixed = planted.plant(sd=0.05, gain=lambda n, s: planted.study_gain(n, s) if n == 250 else -0.4 * n)
    fit = equivalence.fit(real, mixed, 100)
    lost = {p.n_base: answer.format_estimate(p.lost) for p in fit.points if p.lost and p.n_synthetic == 10 * p.n_base}
    assert answer.loss_sentence(fit.points, fit.curve) == (
        f"Worth fewer than none: beside 1,000 real images, 10,000 of them cost what taking {lost[1000]} real ones away "
        f"costs; beside 4,000 real images, 40,000 of them cost {lost[4000]}."
    )
    assert answer.loss_sentence(fit.points, fit.curve, 4000).count("beside 4,000") == answer.MOST_LISTED
    assert answer.loss_sentence(fit.points, fit.curve, 250) == ""
    made = section.section(fit)
    assert made.words[1] == answer.loss_sentence(fit.points, fit.curve) and made.answer.endswith(made.words[1])
    signs = [row[-1][1] for row in made.tables[1].rows]
    assert all(sign.startswith("+") for sign in signs[:5]) and all(
        re.fullmatch(r"-[\d,]+, worse", s) for s in signs[5:]
    )


def test_loss_sentence_says_at_least_where_real_sets_end():
    sizes = {"real": (500, 1000, 2000, 4000), "bases": (500, 1000, 2000), "gain": lambda n, s: -0.7 * n}
    fit = equivalence.fit(*planted.plant(sd=0.05, **sizes), 100)
    said = answer.loss_sentence(fit.points, fit.curve)
    assert said.startswith(
        "Worth fewer than none: beside 500 real images, 5,000 of them cost an unknown number of real"
    )
    assert (
        "no real set of fewer than 500 was run; beside 1,000 real images, 10,000 of them cost what taking at l" in said
    )
    rows = planted.rows(*planted.plant(real=(1000, 2000), bases=(2000,), sd=0.05, gain=lambda n, s: -1200))
    (made,) = section.sections(rows)
    assert "all 5 cells lie beyond" in made.words[0] and "cost what taking at least 1,000 real ones" in made.words[1]
    assert made.words[1] in made.answer


def test_losses_are_not_said_where_there_are_none(fit):
    assert answer.loss_sentence(fit.points, fit.curve) == ""
    assert section.section(fit).answer == answer.rate_sentence(fit)


def test_figures_are_rounded_to_what_they_are_worth():
    assert [answer.format_number(x) for x in (0.034, 1.0, 5.24, 38.2, 1234.5)] == ["0.034", "1.0", "5.2", "38", "1,234"]
    told = answer.format_estimate(equivalence.Answer(5.21, (3.9, None)))
    assert told == "5.2 [3.9, beyond what was measured]"
    assert answer.format_estimate(equivalence.Answer(5.21, (None, None))) == "5.2 (without bounds)"


def test_question_words_give_the_answer_or_its_refusal(fit):
    said = " ".join(answer.question_words(fit, 1000, 500))
    assert (
        answer.format_estimate(fit.n_syn(1000, 500)) in said
        and answer.format_estimate(fit.average_rate(1000, 500)) in said
    )
    assert answer.question_words(fit, 1000, 50_000)[0].startswith(
        "No answer: real images alone were measured up to 2,000"
    )


def test_cells_that_are_no_better_are_counted_as_they_were_measured():
    real, mixed = planted.plant(sd=0.01, gain=lambda n, s: planted.study_gain(n, s) if n == 250 else -0.1 * n)
    fit = equivalence.fit(real, mixed, 50)
    assert "15 inside that curve (10 no better than their real" in " ".join(answer.fit_words(fit, 1000))


def test_comparison_names_the_law_that_predicts_better(fit):
    said = answer.comparison_words(fit)
    assert fit.left_out["study"] < fit.left_out["effective"]
    assert said.index("the study's law") < said.index("the effective sample size")


@pytest.mark.parametrize("sizes", [(250,), (250, 1000), (125, 250, 500, 1000, 2000, 4000)])
def test_picked_sizes_keep_their_ends(sizes):
    few = answer.subsample(sizes, 4)
    assert few[0] == sizes[0] and few[-1] == sizes[-1] and len(few) == len(set(few)) == min(4, len(sizes))


def test_section_has_the_answer_the_charts_and_every_cell(fit):
    made = section.section(fit)
    assert made.words[0] == answer.rate_sentence(fit)
    assert len(made.figures) == 3 and all('role="img" aria-label="' in figure.markup.svg for figure in made.figures)
    rates, cells = made.tables
    assert len(rates.rows) == 2 and len(cells.rows) == len(fit.points) == 10
    for table in made.tables:
        assert table.numeric == [True] * len(table.columns)


def test_sections_are_one_for_each_kind():
    rows = planted.rows(*planted.plant()) + planted.rows(*planted.plant(1), generator="ddpm")[40:]
    titles = [made.title for made in section.sections(rows)]
    assert len(titles) == 2 and "edm" in titles[0] and "ddpm" in titles[1]


def test_study_of_one_real_size_has_no_section():
    alone, mixed = planted.plant(real=(1000,), bases=(1000,))
    assert section.sections(planted.rows(alone, mixed)) == []


def test_section_that_cannot_be_fitted_says_what_is_missing():
    flat = planted.rows(*planted.plant(of_real=lambda n: 20.0))
    (made,) = section.sections(flat)
    assert "do not surely fall" in made.words[0] and "still be compared" in made.words[0]
    (figure,) = made.figures  # what is known all the same
    (other,) = section.sections([{**row, "steps": 500 + 400 * (row["seed"] == 0)} for row in flat])
    assert any("differ in their steps" in note for note in other.notes)
    assert figure.title == "Accuracy by ratio" and "4,000 real images: 8" in figure.markup.svg


def triangles(markup):
    """How many hollow triangles a chart has: Vega draws them as closed paths of three sides, circles as arcs."""
    marks = re.findall(r'd="([^"]*)" fill="var\(--paper\)" stroke="var\(--neutral\)"', markup)
    return sum("A" not in d for d in marks), len(marks)


def test_bounds_are_drawn_as_triangles_and_points_are_not(fit):
    """The largest real set is 2,000, so that mixtures of 1,000 + 10,000 images lie beyond it."""
    censored = sum(bool(p.censored) for p in fit.points)
    assert 1 <= censored < len(fit.points)
    for figure in (section.learning_curve(fit), section.exchange(fit)):
        assert triangles(figure.markup.svg) == (censored, len(fit.points))
        assert "NaN" not in figure.markup.svg and "Infinity" not in figure.markup.svg


def test_by_ratio_has_bands_of_what_the_planted_seeds_stray():
    for series in section.ratio_series(*planted.plant(sd=0.8, num_seeds=5)):
        half = [(high - low) / 2 for _, _, low, high in series.points]
        planted_half = [1.96 * 0.8 * ((100 - mean) / 20) ** 0.5 / 5**0.5 for _, mean, _, _ in series.points]
        # The spread is told from 23 cells of 5 seeds: to 15 %, and Student's factor is 2 % above 1.96.
        assert half == pytest.approx(planted_half, rel=0.25)


def test_no_more_lines_than_shapes_are_drawn():
    many = equivalence.fit(*planted.plant(bases=(125, 180, 250, 500, 700, 1000, 2000, 4000)), 20)
    assert section.exchange(many).markup.svg.count("real images</text>") == lines.MOST_SERIES


def test_one_seed_is_drawn_without_bands():
    made = section.section(equivalence.fit(*planted.plant(num_seeds=1), 100))
    assert all('fill="var(--seed)" opacity="0.2"' not in figure.markup.svg for figure in made.figures)
    assert not any("95 % bands" in figure.caption for figure in made.figures)
