"""Laws of the page: it says what the numbers say, says what is missing, and needs nothing but itself."""

import base64
import csv
import io
import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_up_page import CLASSES, make_page
from PIL import Image

from jaxmoust.analysis import accuracy
from jaxmoust.report import findings, index
from jaxmoust.report import html as report
from jaxmoust.report.charts import base as charts
from jaxmoust.report.page import COLUMNS, Arm, Figure, Gallery, Section, Table
from jaxmoust.report.sections.sampler_mix import Draws


class Links(HTMLParser):
    """Collects what a page loads or links to, and the sorting and alternative texts it offers."""

    def __init__(self, html):
        super().__init__()
        self.loads, self.sorts, self.alts, self.tags = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.loads += [attrs[name] for name in ("src", "href", "srcset", "poster", "data") if name in attrs]
        self.sorts += [attrs["data-sort"]] if "data-sort" in attrs else []
        if tag == "img" or attrs.get("role") == "img":
            self.alts.append(attrs.get("alt") or attrs.get("aria-label") or "")


def without(page, arm, seed=None):
    """The fields of a page that lost the runs of an arm (of one seed)."""
    keep = [r for r in page.rows if r["arm"] != arm or (seed is not None and r["seed"] != seed)]
    ranks = {
        a: {s: r for s, r in of.items() if a != arm or (seed is not None and s != seed)} for a, of in page.ranks.items()
    }
    return {"rows": keep, "ranks": ranks}


def written(page, folder):
    return report.write_report(page, folder).read_text(encoding="utf-8")


def said(page):
    return " ".join(findings.answer(page, findings.tabulate(page)))


def test_page_is_one_file_that_loads_nothing(tmp_path):
    path = report.write_report(make_page(), tmp_path / "report")
    html = path.read_text(encoding="utf-8")
    assert {p.name for p in path.parent.iterdir()} == {"index.html", "summary.csv"} and path.name == "index.html"
    assert all(link.startswith(("data:", "#")) for link in Links(html).loads)
    assert not re.search(r"https?://|url\(|@import|<link rel=.stylesheet", html)


def test_page_shows_every_number_of_every_row(tmp_path):
    page = make_page()
    text = re.sub(r"<svg.*?</svg>", "", written(page, tmp_path), flags=re.S)
    for row in page.rows:
        for value in row.values():
            assert f">{value}</td>" in text


def test_table_of_arms_writes_sizes_with_commas_and_shares_in_percent(tmp_path):
    page = make_page()
    rows = [{**row, "n_synthetic": 10_000, "share": 0.909091} if row["arm"] != "real" else row for row in page.rows]
    html = written(make_page(rows=rows), tmp_path)
    table = html[: html.index("Download results.csv")]
    assert 'data-value="10000">10,000</td>' in table and 'data-value="0.909091">91 %</td>' in table


def test_page_carries_results_csv_whole(tmp_path):
    page = make_page(num_seeds=2)
    link, _ = (x for x in Links(written(page, tmp_path)).loads if x.startswith("data:text/csv"))
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link.split(",")[1]).decode())))
    assert list(rows[0]) == list(COLUMNS)
    assert rows == [{k: str(v) for k, v in row.items()} for row in page.rows]


def test_page_carries_every_arm_with_its_deviation_and_both_intervals(tmp_path):
    page = make_page(num_seeds=5)
    html = written(page, tmp_path)
    _, link = (x for x in Links(html).loads if x.startswith("data:text/csv"))
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link.split(",")[1]).decode())))
    assert [row["arm"] for row in rows] == [arm.name for arm in page.arms]
    base, arm = rows[:2]
    top1 = {name: [float(row["top1"]) for row in page.rows if row["arm"] == name] for name in (base["arm"], arm["arm"])}
    assert float(arm["top1_sd"]) == pytest.approx(np.std(top1[arm["arm"]], ddof=1), abs=1e-5)
    assert f"sd {np.std(top1[arm['arm']], ddof=1):.2f}</small>" in html
    assert base["difference"] == base["difference_bootstrap_low"] == base["baseline"] == ""
    mean = np.mean(top1[arm["arm"]]) - np.mean(top1[base["arm"]])
    assert float(arm["difference"]) == pytest.approx(mean, abs=0.06)  # rows have one decimal, ranks have all
    for kind in ("difference", "difference_bootstrap"):
        assert float(arm[f"{kind}_low"]) < float(arm["difference"]) < float(arm[f"{kind}_high"])
    assert float(arm["top1_bootstrap_high"]) - float(arm["top1_bootstrap_low"]) < float(arm["top1_high"]) - float(
        arm["top1_low"]
    )
    assert arm["difference_bootstrap_low"] != arm["difference_low"] and float(arm["p_holm"]) >= float(arm["p"])


def test_summary_resamples_the_seeds_of_an_arm_and_pairs_those_that_both_have():
    page = make_page(num_seeds=5)
    kept = [row for row in page.rows if (row["arm"], row["seed"]) != ("arm0", 3)]
    made = make_page(num_seeds=5, rows=kept)
    arm = findings.summary_rows(made, findings.tabulate(made))[1]
    top1 = [row["top1"] for row in kept if row["arm"] == "arm1"]
    drawn = accuracy.summary(top1, "bootstrap", num_resamples=findings.NUM_RESAMPLES).interval
    assert (arm["top1_bootstrap_low"], arm["top1_bootstrap_high"]) == pytest.approx(drawn, rel=1e-7)
    assert (arm["seeds"], arm["paired_seeds"]) == (5, 4)
    both = [[page.ranks[name][seed] for seed in (0, 1, 2, 4)] for name in ("arm1", "arm0")]
    paired = accuracy.paired_difference(*both, method="bootstrap", num_resamples=findings.NUM_RESAMPLES)
    assert arm["difference_bootstrap_low"] == pytest.approx(paired.interval[0], rel=1e-7)
    assert 0 < arm["p"] <= arm["p_holm"] < 0.01


def test_summary_leaves_blank_what_one_seed_or_lost_ranks_cannot_say():
    one = findings.summary_rows(page := make_page(num_seeds=1), findings.tabulate(page))
    assert all(row[name] == "" for row in one for name in ("top1_sd", "top1_low", "p", "difference_bootstrap_low"))
    page = make_page()
    page.ranks = {}
    lost = findings.summary_rows(page, findings.tabulate(page))[1]
    assert lost["difference_low"] != "" and lost["difference_bootstrap_low"] == ""


def test_page_made_from_results_csv_is_the_page_of_the_rows(tmp_path):
    page = make_page()
    read = list(csv.DictReader(io.StringIO(findings.csv_text(page.rows))))
    assert findings.table_text(make_page(rows=read)) == findings.table_text(page)
    assert written(make_page(rows=read), tmp_path / "a") == written(page, tmp_path / "b")


def test_page_describes_every_picture_and_sorts_every_column(tmp_path):
    html = written(make_page(), tmp_path)
    links = Links(html)
    assert len(links.alts) == 3 + 2 * 3 + 2 * len(CLASSES)  # charts, panels of two metrics, sheets
    assert all(len(alt) > 10 for alt in links.alts)
    assert set(links.sorts) == {"number", "text"}
    # The record of a stage is a fold, which has no order.
    assert len(links.sorts) == links.tags.count("th") - html.count('scope="row"') - html.count(">Record</th>")


@pytest.fixture
def of_two_baselines():
    """Two base sets: arm 0 with arm 1 of it, which gains, and arm 2, far below, with arm 3 of it, which loses."""
    arms = [Arm(f"arm{i}", f"Arm {i}", "", f"arm{i // 2 * 2}") for i in range(4)]
    return make_page((0, 30, -100, -130), arms=arms)


def test_arms_are_compared_with_their_own_baseline_alone(of_two_baselines, tmp_path):
    page = of_two_baselines
    lines = findings.tabulate(page)
    assert [line.base and line.base.name for line in lines] == [None, "arm0", None, "arm2"]
    assert [line.verdict for line in lines] == ["open", "better", "open", "worse"]
    for ours, theirs in ((1, 0), (3, 2)):
        tops = [lines[i].summary("top1").mean for i in (ours, theirs)]
        assert lines[ours].difference.mean == pytest.approx(tops[0] - tops[1])
    words = said(page)
    assert words.startswith("Arm 1 beats Arm 0 by") and "Significantly worse than its baseline: Arm 3" in words
    assert findings.headline(page, lines).startswith("Arm 1 gains")
    assert index.summarise(page)["baseline"]["arm"] == "Arm 0"
    html = written(page, tmp_path)
    assert "Difference to its baseline" in html and html.count("<small>baseline</small>") == 2
    assert len(re.findall(r"<tr><td>Arm [13]</td>", html)) == 6  # run against run: three seeds of each pair


def test_baseline_that_is_compared_with_another_arm_is_refused():
    arms = [Arm(f"arm{i}", "", "", base) for i, base in enumerate(("", "arm2", "arm0"))]
    with pytest.raises(ValueError, match=r"got 'arm2'.*not itself"):
        make_page(arms=arms)


def test_page_escapes_what_it_is_given(tmp_path):
    evil = "<script>alert('x')</script>&\""
    page = make_page(
        title=evil,
        question=evil,
        command=evil,
        arms=[Arm(f"arm{i}", evil, evil) for i in range(3)],
        class_names=[f"{evil}{k}" for k in range(6)],
        galleries=[Gallery(evil, evil, {evil: np.zeros((1, 8, 8, 3), np.uint8)})],
        provenance=[{"kind": evil, "digest": evil, "config": {evil: evil}}],
        environment={evil: evil},
    )
    page.rows = [{**row, "generator": evil} for row in page.rows]
    html = written(page, tmp_path)
    assert evil not in html and "alert(" in html
    assert Links(html).tags.count("script") == 1


def test_page_of_a_usual_study_is_small_and_quick(tmp_path):
    page = make_page(gains=(0, 10, 20, -10, 5, -30, 15))
    started = time.perf_counter()
    path = report.write_report(page, tmp_path)
    # 21 runs take about 0.2 s; the bound is for a busy machine.
    assert time.perf_counter() - started < 5.0
    assert path.stat().st_size < 2e6


def test_answer_names_the_winner_with_its_evidence():
    page = make_page()
    lines = findings.tabulate(page)
    best = lines[1]
    text = said(page)
    assert text.startswith(f"Arm 1 beats Arm 0 by {best.difference.mean:.2f} points of Top-1")
    low, high = best.difference.interval
    assert f"95 % interval {low:+.2f} to {high:+.2f}" in text
    assert "after Holm over 2 comparisons" in text and "n = 3 seeds, 240 test images" in text
    assert "Significantly worse than Arm 0: Arm 2 (" in text
    assert [line.verdict for line in lines] == ["open", "better", "worse"]


def test_answer_lists_further_winners_by_size():
    text = said(make_page(gains=(0, 40, 50, 30)))
    assert re.search(r"Arm 2 beats Arm 0 .* So do Arm 1 \(.*\) and Arm 3 \(", text)


def test_answer_claims_nothing_that_is_not_significant():
    page = make_page(gains=(0, 1, -1), seed_noise=8)
    text = said(page)
    assert text.startswith("No arm beats Arm 0 significantly.")
    assert not re.search(r"Arm \d beats", text)
    assert "3 seeds are few" in text and "does not mean" in text


def test_answer_does_not_claim_what_only_the_correction_takes_away():
    gains = (0, 14, *[0] * 9)
    page = make_page(gains=gains, seed_noise=6)
    lines = findings.tabulate(page)
    # The case itself: alone below 5 %, among ten not.
    assert lines[1].difference.p < 0.05 < lines[1].holm_p
    text = said(page)
    assert text.startswith("No arm beats Arm 0 significantly.")
    assert "not after the correction, so not claimed: Arm 1" in text


def test_answer_from_one_seed_claims_nothing(tmp_path):
    page = make_page(num_seeds=1)
    assert said(page).startswith("Nothing can be claimed from one seed.")
    assert "no interval" in written(page, tmp_path)


def test_answer_of_few_seeds_says_of_how_many_arms_its_smallest_difference_holds():
    """Half of the arms have an interval at least as wide as the median one."""
    page = make_page(gains=(0, 1, -1, 2), seed_noise=8)
    halves = [(d.interval[1] - d.interval[0]) / 2 for line in findings.tabulate(page) if (d := line.difference)]
    assert f"for half of the arms, differences of less than about {np.median(halves):.1f} points" in said(page)
    assert "few: here, differences of less" in said(make_page(gains=(0, 1), seed_noise=8))


def with_controls(page, *controls, **changes):
    """The page with arms that have no synthetic image."""
    rows = [{**row, "n_synthetic": 0, "generator": "none"} if row["arm"] in controls else row for row in page.rows]
    return replace(page, rows=rows, **changes)


def test_answer_is_about_arms_with_synthetic_images_and_says_of_controls_what_is_significant():
    page = with_controls(make_page(gains=(0, 45, 30, -40), num_seeds=5), "arm0", "arm1", "arm3")
    lines = findings.tabulate(page)
    assert [x.arm.name for x in findings.contenders(lines)] == ["arm2"]
    text = said(page)
    assert text.startswith("Arm 2 beats Arm 0 by ") and "after Holm over 3 comparisons" in text
    assert re.search(r"Without synthetic images, significantly better than Arm 0: Arm 1 \(\+1", text)
    assert re.search(r"Without synthetic images, significantly worse than Arm 0: Arm 3 \(", text)
    assert findings.headline(page, lines).startswith("Arm 2 gains ")
    assert index.summarise(page)["best"]["arm"] == "Arm 2"


def test_answer_of_arms_that_lose_to_real_images_does_not_speak_of_controls():
    page = with_controls(make_page(gains=(0, 1, -40, -60)), "arm0", "arm1")
    assert said(page).startswith("Every arm with synthetic images loses to Arm 0.") and "Arm 1" not in said(page)
    page = with_controls(make_page(gains=(0, 5, 1, -1), seed_noise=12), "arm0", "arm1")
    assert max(findings.tabulate(page)[1:], key=lambda line: line.difference.mean).arm.name == "arm1"
    text = said(page)
    assert text.startswith("No arm with synthetic images beats Arm 0 significantly.") and "Arm 1" not in text
    assert "No arm with synthetic images beats Arm 0" in findings.headline(page, findings.tabulate(page))


def test_answer_of_controls_alone_is_about_them():
    page = with_controls(make_page(), "arm0", "arm1", "arm2")
    assert said(page) == said(make_page())


def test_answer_begins_with_what_the_sections_say_to_the_question(tmp_path):
    section = Section("Domain gap", ("A.", "B."), answer="Told in <9 of 10> cases.")
    page = make_page(sections=(Section("Fine"), section))
    answer = findings.answer(page, findings.tabulate(page))
    assert answer[0] == "Told in <9 of 10> cases." and answer[1:] == findings.answer(
        make_page(), findings.tabulate(make_page())
    )
    html = written(page, tmp_path)
    assert html.index("Told in &lt;9 of 10&gt; cases.") < html.index("beats Arm 0") < html.index('id="domain-gap"')
    two = make_page(sections=(section, replace(section, title="Worth (edm)")))
    assert findings.section_answers(two) == [f"{title}: {section.answer}" for title in ("Domain gap", "Worth (edm)")]


def test_answer_with_enough_seeds_does_not_call_them_few():
    assert "few" not in said(make_page(num_seeds=5)).replace("fewer", "")


def test_missing_seed_is_said_and_the_shared_seeds_are_compared(tmp_path):
    full = make_page()
    page = make_page(**without(full, "arm1", seed=2))
    assert "Arm 1: no run of seed 2" in written(page, tmp_path)
    assert "8 of 9" in written(page, tmp_path)
    assert [line.difference and line.difference.num_seeds for line in findings.tabulate(page)] == [None, 2, 3]


def test_missing_arm_is_said(tmp_path):
    page = make_page(**without(make_page(), "arm2"))
    assert "Arm 2: no finished run." in written(page, tmp_path)
    assert findings.tabulate(page)[2].difference is None


def test_missing_baseline_is_said(tmp_path):
    page = make_page(**without(make_page(), "arm0"))
    assert said(page) == "No run of Arm 0 has finished, so there is nothing to compare with yet."
    written(page, tmp_path)


def test_missing_everything_is_said(tmp_path):
    page = make_page(rows=[], ranks={}, curves={}, galleries=(), provenance=(), environment={})
    html = written(page, tmp_path)
    assert html.count("no finished run") == 3
    assert "NaN" not in html and "nan" not in html


def test_missing_ranks_leave_a_test_over_seeds_and_are_said():
    page = make_page(ranks={})
    lines = findings.tabulate(page)
    assert (lines[1].difference.method, lines[1].difference.num_images) == ("seeds", None)
    assert "tested over seeds alone" in " ".join(findings.gaps(page, lines))


def test_missing_accuracy_of_a_failed_run_is_said():
    page = make_page(ranks={})
    page.rows[4] = {**page.rows[4], "top1": float("nan"), "top5": ""}
    lines = findings.tabulate(page)
    assert "Arm 1: seed 1 has no Top-1." in findings.gaps(page, lines)
    assert lines[1].difference.num_seeds == 2


def test_unequal_work_is_said():
    page = make_page()
    page.rows[-1] = {**page.rows[-1], "steps": 1000}
    assert "not at equal work" in " ".join(findings.gaps(page, findings.tabulate(page)))


def test_relative_errors_are_those_of_the_shared_seeds():
    line = findings.tabulate(make_page())[1]
    base = [100 - row["top1"] for row in make_page().rows[:3]]
    ours = [100 - row["top1"] for row in make_page().rows[3:6]]
    assert line.fewer_errors == pytest.approx(100 * (1 - np.mean(ours) / np.mean(base)))


def test_table_text_is_aligned_and_plain():
    rows = findings.table_text(make_page()).splitlines()
    starts = [m.start() for m in re.finditer(r"-+", rows[1])]
    assert len(rows) == 1 + 1 + 3 + 1 and len(starts) == 6
    for row in (rows[0], *rows[2:5]):
        padded = row.ljust(starts[-1] + 1)
        assert all(start == 0 or padded[start - 2 : start] == "  " for start in starts)
    assert re.search(r"Arm 1 +\d\d\.\d\d \[\d\d\.\d\d, \d\d\.\d\d\] +\+\d+\.\d\d \[\+.*\] +0\.00\d \*", rows[3])
    assert "\n".join(rows).isascii()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"baseline": "real"}, "baseline: got 'real'; allowed .*'arm0'"),
        (lambda p: {"arms": [p.arms[0], p.arms[0]]}, "arms: got .* allowed each name once"),
        (lambda p: {"arms": p.arms[:2]}, "rows: got arm 'arm2'"),
        (lambda p: {"rows": [*p.rows, dict(p.rows[0])]}, "arm 'arm0' seed 0 twice"),
        (lambda p: {"rows": [{k: v for k, v in p.rows[0].items() if k != "top1"}]}, r"without \['top1'\]"),
        (lambda p: {"labels": p.labels[:-1]}, r"ranks\['arm0'\]\[0\]: got shape \(240,\); allowed \(239,\)"),
        (lambda p: {"labels": p.labels + 1}, r"labels: .* inside 0\.\.5"),
        (lambda p: {"rows": [{**p.rows[0], "top1": 12.0}]}, r"from the ranks and 12\.00 in the row"),
    ],
)
def test_contradictions_are_refused(change, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make_page(**change(make_page()))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (91.3, 97.9), (-3.2, 12.0), (0.001, 0.0042), (0, 50_000)])
def test_ticks_are_round_and_inside(low, high):
    got = charts.ticks(low, high)
    assert 3 <= len(got) <= 6 and low <= got[0] and got[-1] <= high
    steps = np.diff(got)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)  # rounded to ten digits
    assert f"{steps[0]:.3e}"[:4] in ("1.00", "2.00", "2.50", "5.00")


def test_names_too_long_for_a_chart_keep_both_ends_and_the_whole_one_is_a_title():
    assert [charts.shortened("abcdef", most) for most in (3, 4, 5, 6)] == ["a…f", "ab…f", "ab…ef", "abcdef"]
    names = [f"Real, stronger augmentation of every kind, {size}" for size in (250, 1000)]
    lines = [charts.Dots(name, (80.0, 82.0), 81.0, (79.5, 82.5), "81.00 [79.50, 82.50]") for name in names]
    drawn = re.findall(r'class="name">([^<]*)<title>([^<]*)</title>', charts.interval_chart(lines, 80.0, "Top-1, %"))
    assert [title for _, title in drawn] == names
    assert [name[:5] + name[-4:] for name, _ in drawn] == ["Real, 250", "Real,1000"]
    assert all("…" in name and len(name) < len(title) for name, title in drawn)


@pytest.mark.parametrize(("shape", "crisp"), [((5, 8, 8, 1), True), ((9, 32, 32, 3), True), ((2, 224, 100, 3), False)])
def test_image_sheet_keeps_the_pixels_of_small_images_and_reduces_large_ones(shape, crisp):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    sheet = charts.image_sheet(images, columns=4)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["uri"].split(",")[1]))))
    assert (picture.shape[1], picture.shape[0]) == (sheet["width"], sheet["height"])
    assert (sheet["count"], sheet["crisp"]) == (shape[0], crisp)
    if crisp:
        np.testing.assert_array_equal(picture[: shape[1], : shape[2], :-1], images[0])
    else:
        assert picture.shape[0] == charts.THUMB_PX


@pytest.mark.parametrize(
    "images", [np.zeros((1, 8, 8, 1)), np.zeros((8, 8, 1), np.uint8), np.zeros((1, 8, 8, 2), np.uint8)]
)
def test_image_sheet_refuses_what_is_not_pixels(images):
    with pytest.raises(ValueError, match=r"gallery images: got .* allowed uint8"):
        charts.image_sheet(images)


def test_image_sheet_of_few_images_is_as_wide_as_that_of_many():
    images = np.zeros((8, 10, 10, 1), np.uint8)
    few, many = charts.image_sheet(images[:2]), charts.image_sheet(images)
    assert (few["width"], few["height"]) == (many["width"], many["height"]) and (few["count"], many["count"]) == (2, 8)


def test_page_draws_images_in_as_many_columns_as_its_fullest_class(tmp_path):
    few = {name: np.zeros((n, 8, 8, 1), np.uint8) for n, name in enumerate(CLASSES[:3], 1)}
    html = written(make_page(galleries=[Gallery("Real", "", few)]), tmp_path)
    assert set(re.findall(r'width="(\d+)" height="\d+" alt="Real', html)) == {str(3 * 9 - 1)}


def test_page_says_that_a_stage_was_computed_with_changes_not_committed(tmp_path):
    page = make_page()
    assert "not committed" not in written(page, tmp_path)
    html = written(replace(page, provenance=[{**page.provenance[0], "dirty": True}, page.provenance[1]]), tmp_path)
    assert "abcdef0; 1 of 2 stages by a tree with changes not committed" in html


def test_page_says_which_files_could_not_be_read(tmp_path):
    page = make_page(unread=("ranks.npy is damaged.",))
    assert findings.gaps(page, findings.tabulate(page)) == ["ranks.npy is damaged."]


def test_thin_keeps_the_mean_of_a_curve_and_its_bound():
    curve = [(step, float(step % 7)) for step in range(1, 801)]
    thinned = charts.thin(curve)
    assert len(thinned) == charts.MAX_POINTS
    assert np.mean(thinned, axis=0) == pytest.approx(np.mean(curve, axis=0))  # groups of equal size


def test_mean_curve_takes_the_steps_that_all_have():
    assert charts.mean_curve([[(1, 2.0), (2, 4.0)], [(2, 6.0), (3, 1.0)]]) == [(2, 5.0)]
    assert charts.mean_curve([]) == []


def drawn(seed=None):
    """32 windows of 6,000 draws of six classes, edm falling to nothing: as expected, or by chance."""
    shares = (np.arange(32) + 0.5) / 32
    cells = np.repeat(np.stack([shares, 1 - shares], axis=1)[:, :, None], 6, axis=2) * 1000
    counts = np.round(cells) if seed is None else np.random.default_rng(seed).poisson(cells)
    return Draws(list(range(0, 801, 25)), ["real", "edm"], list(CLASSES), counts.astype(int))


def of_page():
    real = Draws([0, 400, 800], ["real"], list(CLASSES), np.full((2, 1, 6), 1000))
    return {"arm0": real, "arm1": drawn(), "arm2": drawn()}


def section(html):
    return html[html.index('<h2 id="draws">') : html.index('<h2 id="images">')]


def test_page_without_draws_has_no_such_section(tmp_path):
    assert 'id="draws"' not in written(make_page(), tmp_path)


def test_page_tells_plain_arms_in_words_and_draws_equal_arms_once(tmp_path):
    text = section(written(make_page(draws=of_page()), tmp_path))
    assert "<li><b>Arm 0</b> Real images only; classes evenly.</li>" in text
    assert "<b>Arm 1 · Arm 2</b><span>edm share falling from 98 % to 2 %; classes evenly</span>" in text
    assert text.count('role="img"') == 1 and "No record" not in text


def test_page_names_the_arms_without_a_record(tmp_path):
    draws = of_page()
    del draws["arm1"]
    text = section(written(make_page(draws=draws), tmp_path))
    assert "No record was kept for Arm 1." in text and text.count('role="img"') == 1


def test_page_has_the_draws_in_numbers(tmp_path):
    text = section(written(make_page(draws=of_page()), tmp_path))
    row = re.search(r"<td>Arm 1</td><td>edm, % of draws</td>(.*)</tr>", text).group(1)
    shares = [float(x) for x in re.findall(r">([\d.]+)</td>", row)]
    np.testing.assert_allclose(shares, [98.4, 73.4, 48.4, 23.4, 1.6], atol=0.11)  # a tenth, and whole draws


def test_page_refuses_draws_of_what_it_has_not():
    for draws in ({"arm9": of_page()["arm0"]}, {"arm0": Draws([0, 1], ["real"], ["a", "b"], np.ones((1, 1, 2), int))}):
        with pytest.raises(ValueError, match=r"draws: got arm .* allowed arms"):
            make_page(draws=draws)


def test_page_of_many_arms_stays_small(tmp_path):
    """22 arms of 5 seeds, each with draws of its own."""
    gains = range(-11, 11)
    draws = {f"arm{i}": drawn(seed=i) for i in range(len(gains))}
    sizes = [len(written(make_page(gains=gains, num_seeds=5, draws=x), tmp_path)) for x in ({}, draws)]
    assert sizes[1] < 1e6 and sizes[1] - sizes[0] < 250_000


def test_answer_of_many_winners_names_the_first_and_counts_the_rest():
    text = said(make_page(gains=(0, *range(30, 46, 2))))
    winners = re.search(r"So do (.*?) and (\d) more\.", text)
    assert winners.group(1).count("Arm") == findings.MAX_LISTED and int(winners.group(2)) == 2


# --- further sections ------------------------------------------------------------------------------------------------


def test_section_shows_its_words_charts_and_tables(tmp_path):
    chart = charts.svg(10, 10, ["<circle r='1'/>"], "A chart of nothing")
    rows, values = [("edm", "0.95 [0.94, 0.97]", 1200), ("<b>", None, -1.5)], [(None, 0.953, None), (None,) * 3]
    table = Table("In numbers", ("set", "AUC", "n"), rows, values)
    figure = Figure("Apart", "Discs are real.", chart)
    page = make_page(sections=(Section("Domain gap: x", ("91 % & more.",), (figure,), (table,), ("Fine print.",)),))
    html = written(page, tmp_path)
    text = html[html.index('<h2 id="domain-gap-x">Domain gap: x</h2>') : html.index('<h2 id="curves">')]
    assert "Discs are real." in text and '<p class="note">Fine print.</p>' in text
    assert "<p>91 % &amp; more.</p>" in text and str(chart) in text and "<h3>In numbers</h3>" in text
    assert 'data-value="0.953">0.95 [0.94, 0.97]</td>' in text and 'data-value="1200">1,200</td>' in text
    assert (
        "&lt;b&gt;" in text
        and 'data-value="">\N{EN DASH}</td>' in text
        and f'data-value="-1.5">{findings.MINUS}1.5</td>' in text
    )
    assert Links(text).sorts == ["text", "number", "number"]


def test_section_chart_that_is_no_markup_is_escaped(tmp_path):
    page = make_page(sections=(Section("S", figures=(Figure("c", "", "<script>alert(1)</script>"),)),))
    assert "<script>alert" not in written(page, tmp_path)


@pytest.mark.parametrize(
    ("rows", "values", "words"),
    [
        ([("x", 1.0), ("y",)], (), r"table 'T': got a row of 1 cells; allowed 2, one for each of \['a', 'b'\]"),
        ([("x", "1")], [(None, 1.0, 2.0)], "got a row of 3 cells"),
        ([("x", "1"), ("y", "2")], [(None, 1.0)], "got values of 1 rows; allowed 2 or none"),
    ],
)
def test_table_whose_rows_do_not_fit_is_refused(rows, values, words):
    with pytest.raises(ValueError, match=words):
        Table("T", ("a", "b"), rows, values)


def test_page_of_a_thousand_runs_takes_seconds(tmp_path):
    """100 arms, 10 seeds, 10,000 images, whose answers are independent over seeds: the least that runs can share.

    About 7 s of this process; with five sections on the worth of images it may take 20.
    """
    rng, page = np.random.default_rng(0), make_page(gains=range(-50, 50), num_seeds=10, ranks={}, curves={})
    labels = np.arange(10_000) % len(CLASSES)
    ranks = {arm.name: {seed: rng.choice(6, 10_000, p=(0.6, *[0.08] * 5)) for seed in range(10)} for arm in page.arms}
    rows = [
        {**row, "n_test": 10_000} | {f"top{k}": accuracy.top_k(ranks[row["arm"]][row["seed"]], k) for k in (1, 5)}
        for row in page.rows
    ]
    page = replace(page, rows=rows, ranks=ranks, labels=labels)
    started = time.process_time()  # of the work, whatever else the machine does
    report.write_report(page, tmp_path)
    assert time.process_time() - started < 15.0
