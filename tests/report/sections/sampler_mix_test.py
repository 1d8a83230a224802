"""Laws of what a page says and draws of a sampler's draws: measures, words, figures and tables follow the counts."""

import itertools
import re

import numpy as np
import pytest

from jaxmoust.report.charts import sampler_mix as draws_chart
from jaxmoust.report.sections import sampler_mix as d
from jaxmoust.report.sections import sampler_mix_text

EDGES = list(range(0, 801, 25))  # 32 windows
TEN = [str(k) for k in range(10)]
CUT = np.array([1.0] * 5 + [0.2] * 5)  # half of the classes cut to a fifth


def plant(mix, classes=None, sources=("real", "edm"), names=TEN, per_window=4000, chance=None):
    """Draws of the expected numbers (or, with a generator, of chance): mix(t) and classes(t) at a window's middle."""
    counts = []
    for a, b in itertools.pairwise(EDGES):
        t = (a + b) / 2 / EDGES[-1]
        p = np.ones(len(names)) if classes is None else np.asarray(classes(t), float)
        cells = np.outer(mix(t), p / p.sum())
        n = chance.multinomial(per_window, cells.ravel()) if chance else np.round(cells.ravel() * per_window)
        counts.append(np.reshape(n, cells.shape))
    return d.Draws(EDGES, list(sources), list(names), np.array(counts, np.int64))


def half(t):
    return (0.5, 0.5)


def only(k, num_sources):
    return np.eye(num_sources)[k]


@pytest.mark.parametrize(
    ("mix", "sources", "words"),
    [
        (lambda t: (1.0,), ("real",), "real images only"),
        (lambda t: (0.0, 1.0), ("real", "edm"), "edm only"),
        (half, ("real", "edm"), "half real, half edm"),
        (lambda t: (0.3, 0.7), ("real", "edm"), "30 % real, 70 % edm"),
        (lambda t: (0.5, 0.25, 0.25), ("real", "edm", "ddpm"), "50 % real, 25 % edm, 25 % ddpm"),
        (lambda t: np.full(10, 0.1), ("real", *"abcdefghi"), "10 % real, 90 % from 9 synthetic sets"),
        (lambda t: (t, 1 - t), ("real", "edm"), "edm share falling from 98 % to 2 %"),
        (lambda t: (1 - t, t), ("real", "edm"), "edm share rising from 2 % to 98 %"),
        (lambda t: (0.6 - 0.2 * t, 0.4 + 0.2 * t), ("real", "edm"), "edm share rising from 40 % to 60 %"),
        (lambda t: (t, (1 - t) / 2, (1 - t) / 2), ("real", "a", "b"), "synthetic share falling from 98 % to 2 %"),
        (
            lambda t: (0.5, t / 2, (1 - t) / 2),
            ("real", "a", "b"),
            "a rising from 1 % to 49 %, b falling from 49 % to 1 %",
        ),
        (
            lambda t: (0.5 + 0.4 * np.sin(6.3 * t), 0.5 - 0.4 * np.sin(6.3 * t)),
            ("real", "edm"),
            "edm share between 10 %",
        ),
        (lambda t: (t > 0.5, t <= 0.5), ("real", "edm"), "edm only to step 400, then real images only"),
        (
            lambda t: (int(4 * t) / 4, 1 - int(4 * t) / 4),
            ("real", "edm"),
            "edm share 100 % to step 200, then 75 % to step 400, then 50 % to step 600, then 25 %",
        ),
        (
            lambda t: only((1, 2, 0)[int(3 * t)], 3),
            ("real", "l1", "l2"),
            "l1 only to step 275, then l2 only to step 525, then real images only",
        ),
    ],
)
@pytest.mark.parametrize("chance", [False, True])
def test_sources_in_words_say_the_planted_mix(mix, sources, words, chance):
    """At the exact numbers and by chance, where a ramp's ends may round to one point more or less."""
    text = sampler_mix_text.sources_in_words(
        plant(mix, sources=sources, chance=np.random.default_rng(0) if chance else None)
    )
    if chance:
        near = [
            abs(int(a) - int(b)) <= 3 for a, b in zip(*(re.findall(r"\d+", x) for x in (words, text)), strict=False)
        ]
        assert re.sub(r"under 1|\d+", "#", text).startswith(re.sub(r"\d+", "#", words)) and all(near)
    else:
        assert text.startswith(words)


def test_border_of_a_stage_is_found_inside_its_window():
    planted = plant(lambda t: (t > 0.5, t <= 0.5))
    counts = planted.counts.copy()
    counts[16] = np.outer((0.6, 0.4), np.full(10, 400))  # 10 of 25 steps synthetic, from step 400
    text = sampler_mix_text.sources_in_words(d.Draws(EDGES, planted.source_names, TEN, counts))
    assert text == "edm only to step 410, then real images only"


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (lambda t: np.ones(10), "classes evenly"),
        (lambda t: CUT, "classes unevenly, 0.33 (5) to 1.7 (0) times an even share"),
        (
            lambda t: (1 - t) * CUT / CUT.sum() + t / 10,
            "classes change: at first 0.38 (5) to 1.6 (0) times an even share, at the end evenly",
        ),
        (
            lambda t: np.arange(10) <= 12 * t,
            "classes change: at first 0 (2) to 8.8 (0) times an even share, at the end evenly",
        ),
    ],
)
def test_classes_in_words_say_the_planted_classes(classes, words):
    assert sampler_mix_text.classes_in_words(plant(half, classes, per_window=40_000)) == words


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
@pytest.mark.parametrize("per_window", [10, 4000])
def test_even_classes_are_called_even_whatever_chance_does(num_classes, per_window):
    names = [f"c{k}" for k in range(num_classes)]
    for seed in range(20):
        planted = plant(half, names=names, per_window=per_window, chance=np.random.default_rng(seed))
        assert sampler_mix_text.classes_in_words(planted) == "classes evenly"


def test_unevenness_is_the_root_mean_square_deviation_of_many_draws():
    counts = np.array([15, 5, 10, 10]) * 10**8
    assert d.unevenness(counts) == pytest.approx(np.sqrt((0.25 + 0.25) / 4), rel=1e-6)  # chance is 1e-9 of it
    assert d.unevenness(np.array([7, 0, 0, 0]) * 10**8) == pytest.approx(np.sqrt(3), rel=1e-6)


def test_class_rows_are_the_classes_or_groups_by_draws():
    titles, ratios = d.class_rows(plant(half, lambda t: CUT, per_window=60_000))
    assert titles == TEN
    np.testing.assert_allclose(ratios, np.repeat(CUT / CUT.mean(), 32).reshape(10, 32), rtol=1e-12)
    names, weights = [f"c{k}" for k in range(100)], np.roll(np.arange(100, 0, -1), 30)  # the most drawn is c30
    titles, ratios = d.class_rows(plant(half, lambda t: weights, names=names, per_window=1_010_000))
    assert len(titles) == d.MAX_ROWS and titles[0] == "c30 … c34 (5)" and titles[-1] == "c25 … c29 (5)"
    np.testing.assert_allclose(ratios[0], 98 / weights.mean(), rtol=1e-12)
    np.testing.assert_allclose(ratios.mean(axis=0), 1.0, rtol=1e-12)


def test_class_rows_of_even_classes_keep_their_order():
    """Sorted, what is chance would be drawn as a slope."""
    names = [f"c{k}" for k in range(100)]
    titles, _ = d.class_rows(plant(half, names=names, chance=np.random.default_rng(0)))
    assert titles[0] == "c0 … c4 (5)"


def test_pooled_draws_are_the_sum_of_the_seeds():
    runs = [plant(half, chance=np.random.default_rng(seed)) for seed in range(3)]
    np.testing.assert_array_equal(d.pooled(runs).counts, runs[0].counts + runs[1].counts + runs[2].counts)
    with pytest.raises(ValueError, match=r"draws: got runs of one arm with source_names .*edm.*ddpm"):
        d.pooled([runs[0], plant(half, sources=("real", "ddpm"))])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step_edges": [1, 10, 20]}, "edges that rise from 0"),
        ({"step_edges": [0, 10, 10]}, "edges that rise from 0"),
        ({"counts": [[[1, 2]]]}, r"allowed integers \(2, 1, 2\)"),
        ({"counts": [[[1.0, 2.0]], [[1.0, 2.0]]]}, "got counts float64"),
        ({"counts": [[[1, -1]], [[1, 2]]]}, "negative count"),
        ({"counts": [[[0, 0]], [[1, 2]]]}, "window without draws"),
        ({"counts": None}, r"without \['counts'\]"),
    ],
)
def test_draws_that_cannot_be_are_refused(change, message):
    record = {"step_edges": [0, 10, 20], "source_names": ["real"], "class_names": ["a", "b"]}
    record |= {"counts": [[[1, 2]], [[3, 4]]]}
    assert d.from_record(record).counts.sum() == 10
    with pytest.raises(ValueError, match=message):
        d.from_record({k: v for k, v in (record | change).items() if v is not None})


def test_window_holds_the_step():
    planted = plant(half)
    assert [planted.window(t) for t in (0.0, 0.25, 0.5, 0.99, 1.0)] == [0, 8, 16, 31, 31]


def boxes(figure):
    """{(row, window): shade} of a figure's class rows, from its markup."""
    found = {}
    opacities = {f"{draws_chart.opacity(s)}": s for s in range(1, draws_chart.NUM_SHADES + 1)}
    heat = re.search(r'<g class="heat".*?</g>', figure).group()
    for path, opacity in re.findall(r'<path d="([^"]*)" opacity="([^"]*)"', heat):
        for x0, y0, x1, y1 in re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)H", path):
            row = round((float(y0) - draws_chart.HEAT_TOP) / (float(y1) - float(y0)))
            step = (draws_chart.RIGHT - draws_chart.LEFT) / 32
            start, stop = (round((float(x) - draws_chart.LEFT) / step) for x in (x0, x1))
            found |= {(row, w): opacities[opacity] for w in range(start, stop)}
    return found


def test_figure_shades_every_class_and_window_by_its_draws():
    planted = plant(half, lambda t: np.arange(10) <= 12 * t)
    _, ratios = d.class_rows(planted)
    shades = {(row, w): draws_chart.shade(ratios[row, w]) for row in range(10) for w in range(32)}
    assert boxes(draws_chart.panel(planted, "alt")) == {cell: shade for cell, shade in shades.items() if shade}
    assert 0 in shades.values()  # the case of a class that is never drawn is among them


def test_figure_stacks_the_sources_to_their_shares():
    figure = draws_chart.panel(plant(lambda t: (t > 0.5, t <= 0.5)), "alt")
    real, made = re.findall(r'<path d="([^"]*)" class="band (?:real|made)"', figure)
    top, bottom, middle = draws_chart.BAND_TOP, draws_chart.BAND_BOTTOM, (draws_chart.LEFT + draws_chart.RIGHT) / 2
    assert real == f"M34.0 {bottom}.0H{middle}V{top}.0H218.0V{bottom}.0H34.0Z"
    assert made == f"M34.0 {top}.0H218.0V{top}.0H{middle}V{bottom}.0H34.0Z"


def test_figure_writes_the_name_of_every_band_with_room_for_it():
    mix = (lambda t: only((1, 2, 3, 0)[int(4 * t)], 4), ("real", "edm_guidance_1", "edm_guidance_2", "edm_guidance_4"))
    names = re.findall(r'class="band-name">([^<]*)<', draws_chart.panel(plant(mix[0], sources=mix[1]), "alt"))
    assert names[0] == "real" and [name[-1] for name in names[1:]] == ["1", "2", "4"]
    assert all("…" in name for name in names[1:])


def test_shades_rise_with_the_ratio_and_even_is_the_middle_of_one():
    ratios = [0, 0.1, 0.25, 0.4, 0.7, 1, 1.4, 2, 3, 4, 50]
    levels = [draws_chart.shade(r) for r in ratios]
    assert levels == sorted(levels) and levels[0] == 0 and levels[-1] == draws_chart.NUM_SHADES
    assert draws_chart.shade(0.9) == draws_chart.shade(1.0) == draws_chart.shade(1.1)
    opacities = [draws_chart.opacity(level) for level in range(draws_chart.NUM_SHADES + 1)]
    assert opacities == sorted(set(opacities)) and opacities[0] == 0 and opacities[-1] < 1
