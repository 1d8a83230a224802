"""Laws of the page: it says what the numbers say, says what is missing, and needs nothing but itself."""

import base64
import csv
import io
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_up_page import CLASSES, make_page
from markupsafe import Markup

from jaxmoust.analysis import accuracy
from jaxmoust.report import figures, findings, results
from jaxmoust.report import html as report
from jaxmoust.report.arms import ArmInfo
from jaxmoust.report.charts import base as charts
from jaxmoust.report.draw_counts import DrawCounts
from jaxmoust.report.numbers import MINUS
from jaxmoust.report.page import COLUMNS, Figure, Gallery, Section, StageRecord, Table


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


def written(page, folder):
    return report.write_report(page, folder).read_text(encoding="utf-8")


def test_page_is_read_from_the_answer_over_the_images_and_the_table_to_the_reasons(tmp_path):
    html = written(make_page(sections=[Section("Domain gap")], draws={"arm1": make_draws(0)}), tmp_path)
    ids = ("images", "table", "domain-gap", "top-1-over-steps", "what-each-sampler-drew")
    places = [html.index(f'<h2 id="{name}">') for name in (*ids, "classes", "runs", "provenance", "again", "method")]
    first = [html.index(words) for words in ('class="answer', 'data-name="difference"')]
    assert [*first, *places] == sorted([*first, *places])
    assert all(f'href="#{name}"' in html for name in (*ids, "classes", "runs", "provenance", "again", "method"))


def test_page_has_a_table_of_the_other_metrics_where_there_are_any(tmp_path):
    plain = make_page()
    assert "Other metrics" not in written(plain, tmp_path / "plain")
    rows = [{**row, "top5": "", "macro_f1": 40.0 + i % 3, "nll": "0.5"} for i, row in enumerate(plain.rows)]
    html = written(make_page(rows=rows), tmp_path / "more")
    table = html[html.index("Other metrics") :]
    assert "Macro-F1, %" in table and "41.00 [38.52, 43.48]" in table and "0.500 [0.500, 0.500]" in table
    assert "Balanced accuracy, %" not in table and "Top-5</" not in html[html.index('id="table"') :]


def test_planning_a_study_does_not_wait_for_the_charts_library():
    code = "import sys, jaxmoust.report.html, jaxmoust.report.index, jaxmoust.report.sections.diagnostics; "
    code += "print(sorted({'altair', 'vl_convert', 'pandas'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_page_is_one_file_that_loads_nothing(tmp_path):
    path = report.write_report(make_page(), tmp_path / "report")
    html = path.read_text(encoding="utf-8")
    assert {p.name for p in path.parent.iterdir()} == {"index.html", "summary.csv"} and path.name == "index.html"
    assert all(link.startswith(("data:", "#")) for link in Links(html).loads)
    assert not re.search(r"url\((?!#)|@import|<link rel=.stylesheet", html.replace(charts.scripts(), ""))
    without = re.sub(r"<script.*?</script>", "", html, flags=re.S)  # which name schemas and namespaces
    assert not re.search(r"https?://", without)


def test_page_shows_every_number_of_every_row(tmp_path):
    page = make_page()
    text = re.sub(r"<(svg|script).*?</\1>", "", written(page, tmp_path), flags=re.S)
    for row in page.rows:
        for value in row.values():
            assert f">{value}</td>" in text


def test_table_of_arms_writes_sizes_with_commas_and_shares_in_percent(tmp_path):
    page = make_page()
    rows = [{**row, "n_synthetic": 10_000, "share": 0.909091} if row["arm"] != "real" else row for row in page.rows]
    html = written(make_page(rows=rows), tmp_path)
    table = html[: html.index("Download results.csv")]
    assert 'data-value="10000">10,000</td>' in table and 'data-value="0.909091">91 %</td>' in table


def test_figures_are_left_as_pictures_and_as_charts_for_a_notebook(tmp_path):
    page = make_page(num_seeds=2)
    report.write_report(page, tmp_path / "report", with_figures=True)
    (tmp_path / "report" / "figures" / "of_before.png").touch()
    report.write_report(page, tmp_path / "report", with_figures=True)
    names = {"accuracy", "difference", "top-1-over-steps", "training-loss-over-steps"}
    found = {path.name for path in (tmp_path / "report" / "figures").iterdir()}
    assert found == {f"{name}.{kind}" for name in names for kind in ("json", "png")}
    charts_of = figures(tmp_path)
    assert set(charts_of) == names and {"Arm 1", "Arm 2"} <= set(
        re.findall("Arm [12]", charts_of["accuracy"].to_json())
    )
    with pytest.raises(ValueError, match="no report/figures"):
        figures(tmp_path / "report")


def test_results_are_a_table_of_numbers_and_texts(tmp_path):
    page = make_page(num_seeds=2)
    rows = [{**row, "generator": "=HYPERLINK(1)", "nll": ""} for row in page.rows]
    (tmp_path / "results.csv").write_text(findings.csv_text(rows))
    table = results(tmp_path)
    assert list(table.columns) == [*COLUMNS, "nll"] and len(table) == 6
    assert table.groupby("arm").top1.mean()["arm1"] == pytest.approx(np.mean([row["top1"] for row in rows[2:4]]))
    assert set(table.generator) == {"=HYPERLINK(1)"} and table.nll.isna().all()


@pytest.mark.parametrize("name", ["=1+1", "+x", "-cmd", "@SUM(1)", "\tx", "-1.5x"])
def test_no_name_in_a_csv_is_a_formula(name):
    (row,) = csv.DictReader(io.StringIO(findings.csv_text([{"arm": name, "gain": -1.5, "text": "-2.5"}], ())))
    assert row == {"arm": f"'{name}", "gain": "-1.5", "text": "-2.5"}


@pytest.mark.parametrize(
    ("arg", "is_quick"),
    [("trial.py:quick", True), ("trial.py:fashion,quick", True), ("trial.py:quickly", False), ("quick.py", False)],
)
def test_quick_run_says_across_its_page_that_its_numbers_mean_nothing(tmp_path, arg, is_quick):
    html = written(make_page(command=f"jaxmoust study --config={arg} --workdir=runs/quick", curves={}), tmp_path)
    assert ("the numbers on this page mean nothing" in html) == ('<b class="quick">' in html) == is_quick


def test_page_of_a_study_that_runs_says_what_is_to_come(tmp_path):
    html = written(make_page(progress="12 stages to go, about 3 min 00 s.", curves={}), tmp_path)
    assert "still running" in html and "12 stages to go, about 3 min 00 s." in html
    assert "still running" not in written(make_page(curves={}), tmp_path)


def test_head_says_where_the_images_and_the_study_are_and_all_hours(tmp_path):
    stages = [StageRecord("fit", "fit-1", seconds=3600.0), StageRecord("sample", "sample-1", seconds=600.0)]
    words = {"data": "100 real images of folder in photos", "folder": "/runs/mine"}
    html = written(make_page(provenance=stages, curves={}, **words), tmp_path)
    head = html[: html.index('id="images"')]
    assert "100 real images of folder in photos" in head and "/runs/mine" in head
    assert "1 h 10 min, of which classifiers 2 min 03 s" in head


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
    assert arm["difference_bootstrap_low"] != arm["difference_low"] and 0 < float(arm["p"]) < 1


def test_page_made_from_results_csv_is_the_page_of_the_rows(tmp_path):
    page = make_page()
    read = list(csv.DictReader(io.StringIO(findings.csv_text(page.rows))))
    assert findings.table_text(make_page(rows=read)) == findings.table_text(page)
    assert written(make_page(rows=read), tmp_path / "a") == written(page, tmp_path / "b")


def test_page_describes_every_picture_and_sorts_every_column(tmp_path):
    html = written(make_page(), tmp_path)
    links = Links(html)
    assert len(links.alts) == 2 + 2 * 3 + 2 * len(CLASSES)  # charts, panels of two metrics, sheets
    assert all(len(alt) > 10 for alt in links.alts)
    assert set(links.sorts) == {"number", "text"}
    # The record of a stage is a fold, which has no order.
    assert len(links.sorts) == links.tags.count("th") - html.count('scope="row"') - html.count(">Record</th>")


def test_page_escapes_what_it_is_given(tmp_path):
    evil = "<script>alert('x')</script>&\""
    page = make_page(
        title=evil,
        question=evil,
        command=evil,
        arms=[ArmInfo(f"arm{i}", evil, evil) for i in range(3)],
        class_names=[f"{evil}{k}" for k in range(6)],
        galleries=[Gallery(evil, evil, {evil: np.zeros((1, 8, 8, 3), np.uint8)})],
        provenance=[StageRecord(evil, evil, evil, config={evil: evil})],
        environment={evil: evil},
    )
    html = written(replace(page, rows=[{**row, "generator": evil} for row in page.rows]), tmp_path)
    assert evil not in html and "alert(" in html
    plain = written(make_page(), tmp_path)
    assert Links(html).tags.count("script") == Links(plain).tags.count("script")


def test_page_and_tables_show_controls_of_names_and_hold_none(tmp_path):
    """Bytes that steer a terminal, turn words around, or are no character: some end the process that draws them."""
    odd = "\x1b[2J\x07\u202e\udcff"
    arms = [ArmInfo(f"arm{i}", f"{odd}{i}", "") for i in range(3)]
    page = make_page(arms=arms, class_names=[f"{odd}{k}" for k in range(6)], command=odd)
    html = written(replace(page, rows=[{**row, "generator": odd} for row in page.rows]), tmp_path)
    for text in (html, report.findings.csv_text([{"arm": odd}], ())):
        assert not set(text) & set(odd) - set("[2J") and r"\x1b[2J\x07\u202e\udcff" in text


def test_page_of_a_usual_study_is_small_and_quick(tmp_path):
    page = make_page(gains=(0, 10, 20, -10, 5, -30, 15))
    started = time.process_time()
    path = report.write_report(page, tmp_path)
    # 21 runs take about 0.2 s; the bound is for a busy machine.
    assert time.process_time() - started < 5.0
    assert path.stat().st_size < 2e6


def test_missing_everything_is_said(tmp_path):
    page = make_page(rows=[], ranks={}, curves={}, galleries=(), provenance=(), environment={})
    html = written(page, tmp_path).replace(charts.scripts(), "")
    assert html.count("no finished run") == 3
    assert "NaN" not in html and "nan" not in html


def test_page_draws_images_in_as_many_columns_as_its_fullest_class(tmp_path):
    few = {name: np.zeros((n, 8, 8, 1), np.uint8) for n, name in enumerate(CLASSES[:3], 1)}
    html = written(make_page(galleries=[Gallery("Real", "", few)]), tmp_path)
    assert set(re.findall(r'width="(\d+)" height="\d+" alt="Real', html)) == {str(3 * 9 - 1)}


def test_page_says_that_a_stage_was_computed_with_changes_not_committed(tmp_path):
    page = make_page()
    assert "not committed" not in written(page, tmp_path)
    html = written(replace(page, provenance=[replace(page.provenance[0], dirty=True), page.provenance[1]]), tmp_path)
    assert "abcdef0; 1 of 2 stages by a tree with changes not committed" in html


def make_draws(seed):
    """Of an arm that falls from an EDM to real images, with chance of its own."""
    shares = (np.arange(32) + 0.5) / 32
    cells = np.repeat(np.stack([shares, 1 - shares], axis=1)[:, :, None], 6, axis=2) * 1000
    counts = np.random.default_rng(seed).poisson(cells)
    return DrawCounts(list(range(0, 801, 25)), ["real", "edm"], list(CLASSES), counts)


def test_page_of_many_arms_stays_small(tmp_path):
    """22 arms of 5 seeds, each with draws of its own."""
    gains = range(-11, 11)
    draws = {f"arm{i}": make_draws(i) for i in range(len(gains))}
    sizes = [len(written(make_page(gains=gains, num_seeds=5, draws=x), tmp_path)) for x in ({}, draws)]
    sizes = [size - len(charts.scripts()) for size in sizes]
    assert sizes[1] < 1.6e6 and sizes[1] - sizes[0] < 400_000


def test_section_shows_its_words_charts_and_tables(tmp_path):
    chart = Markup("<svg><circle r='1'/></svg>")
    rows = [("edm", (0.953, "0.95 [0.94, 0.97]"), 1200), ("<b>", None, -1.5)]
    table = Table("In numbers", ("set", "AUC", "n"), rows)
    figure = Figure("Apart", "Discs are real.", chart)
    page = make_page(sections=(Section("Domain gap: x", ("91 % & more.",), (figure,), (table,), ("Fine print.",)),))
    html = written(page, tmp_path)
    text = html[html.index('<h2 id="domain-gap-x">Domain gap: x</h2>') : html.index('<h2 id="top-1')]
    assert "Discs are real." in text and '<p class="note">Fine print.</p>' in text
    assert "<p>91 % &amp; more.</p>" in text and str(chart) in text and "<h3>In numbers</h3>" in text
    assert 'data-value="0.953">0.95 [0.94, 0.97]</td>' in text and 'data-value="1200">1,200</td>' in text
    assert (
        "&lt;b&gt;" in text
        and 'data-value="">\N{EN DASH}</td>' in text
        and f'data-value="-1.5">{MINUS}1.5</td>' in text
    )
    assert Links(text).sorts == ["text", "number", "number"]


def test_section_chart_that_is_no_markup_is_escaped(tmp_path):
    page = make_page(sections=(Section("S", figures=(Figure("c", "", "<script>alert(1)</script>"),)),))
    assert "<script>alert" not in written(page, tmp_path)


def test_page_of_a_thousand_runs_takes_seconds(tmp_path):
    """100 arms, 10 seeds, 10,000 images, whose answers are independent over seeds: the least that runs can share.

    About 8 s of this process, once the libraries that a page needs are imported.
    """
    rng, page = np.random.default_rng(0), make_page(gains=range(-50, 50), num_seeds=10, ranks={}, curves={})
    labels = np.arange(10_000) % len(CLASSES)
    ranks = {arm.name: {seed: rng.choice(6, 10_000, p=(0.6, *[0.08] * 5)) for seed in range(10)} for arm in page.arms}
    rows = [
        {**row, "n_test": 10_000} | {f"top{k}": accuracy.top_k(ranks[row["arm"]][row["seed"]], k) for k in (1, 5)}
        for row in page.rows
    ]
    page = replace(page, rows=rows, ranks=ranks, labels=labels)
    report.write_report(make_page(), tmp_path)
    started = time.process_time()  # of the work, whatever else the machine does
    report.write_report(page, tmp_path)
    assert time.process_time() - started < 15.0
