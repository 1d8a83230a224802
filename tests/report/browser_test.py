"""The pages in a real browser: nothing fails, everything is drawn, figures answer, tables sort, a phone suffices.

Needs Chromium (or Chrome) on the machine and the package playwright; where one is missing, the tests say so and skip.
So does the one that needs axe-core, where .ci/run has not put it into the cache.
"""

import csv
import io
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_up_page import CLASSES, make_page
from markupsafe import Markup
from PIL import Image

from jaxmoust.report import compare, findings, index
from jaxmoust.report import html as report
from jaxmoust.report.arms import ArmInfo
from jaxmoust.report.charts import intervals
from jaxmoust.report.draw_counts import DrawCounts
from jaxmoust.report.page import Figure, Section, Table

sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = {"desk": 1280, "phone": 390}
PAGES = ("index.html", "gain/report/index.html", "empty/report/index.html", "gain/report/beside_empty.html")
EVIL = "</script><b>Arm</b> 1"
AXE = (
    Path(os.environ.get("JAXMOUST_CACHE", Path(__file__).parents[2] / ".cache"))
    / "axe/node_modules/axe-core/axe.min.js"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        # The pages are our own files, and a container's root user has no sandbox.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


def whole_page():
    """A page with everything that a page can have, long names among it."""
    cells = np.random.default_rng(0).poisson(500, (16, 2, len(CLASSES)))
    draws = {"arm1": DrawCounts(list(range(0, 801, 50)), ["real", "edm"], list(CLASSES), cells)}
    chart = intervals.figure(
        [intervals.Interval("a", "A set", (1.0, 2.0), 1.5, (0.5, 2.5))], 0.0, "points", signed=True
    )
    rows = [("gap", "edm", 91.25, (0.953, "0.95 [0.94, 0.97]")), ("gap", "a_set_of_a_long_name", -3, None)]
    section = Section(
        "Domain gap",
        ("A classifier tells them apart.",),
        (Figure("How far apart", "A triangle is a set.", chart),),
        (Table("Numbers", ("name", "set", "accuracy", "AUC"), rows),),
        ("Small print.",),
        legend="Above the figures.",
    )
    pairs = '<div class="pairs"><figure><figcaption class="note">0.5</figcaption></figure></div>'
    figures = [Figure(f"Set {i}", "", chart if i % 2 else Markup(pairs)) for i in range(6)]
    section = (section, Section("In pairs", figures=figures, columns=2))
    section = (*section, Section("Folded", ("Words.",), folded=True))
    arms = [ArmInfo(f"arm{i}", EVIL if i == 1 else f"Arm {i}", f"What arm {i} does.") for i in range(4)]
    return make_page(
        arms=arms,
        draws=draws,
        sections=section,
        gains=(0, 40, -40, -120),
        seed_noise=4,
        command=f"jaxmoust study --config={'long/' * 40}trial.py",
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    pages = {"gain": whole_page(), "empty": make_page(rows=[], ranks={}, curves={}, galleries=())}
    for name, page in pages.items():
        report.write_report(page, folder / name / "report")
        index.write_summary(page, folder / name)
        (folder / name / "results.csv").write_text(findings.csv_text(page.rows))
        arms = [{"name": arm.name, "title": arm.title} for arm in page.arms]
        (folder / name / "config.json").write_text(json.dumps({"arms": arms, "question": name}))
    compare.write_comparison(folder / "gain", folder / "empty")
    index.write_index(folder)
    return folder


@pytest.fixture
def opened(browser, runs):
    """Opens a page, its folds unfolded; after the test nothing may have failed or left the disk."""
    wrong, contexts = [], []

    def open_page(name: str, width: int = WIDTHS["desk"], **options) -> sync_api.Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.on("requestfailed", lambda r: wrong.append(f"failed: {r.url}"))
        page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("file://", "data:")) else None)
        page.goto((runs / name).as_uri())
        if options.get("java_script_enabled", True):
            page.evaluate("document.querySelectorAll('details:not(.arms, .live details)').forEach(d => d.open = true)")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("device", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_browser_draws_every_picture_and_fits_the_screen(opened, name, device):
    """On a phone only what scrolls in its own frame (tables, commands) may be wider than the screen."""
    page = opened(name, WIDTHS[device])
    page.wait_for_function("[...document.images].every(i => i.complete)")
    assert page.evaluate("[...document.images].filter(i => !(i.naturalWidth > 0 && i.alt)).length") == 0
    draw_all(page)
    flat = """[...document.querySelectorAll('.live svg.marks')].filter(s => {
        const box = s.getBoundingClientRect();
        return !(box.width > 40 && box.height > 20 && s.parentElement.getAttribute('aria-label')); }).length"""
    assert page.evaluate(flat) == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device]


def draw_all(page):
    """Brings every chart into sight, which draws it."""
    for chart in page.locator(".chart").all():
        chart.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelectorAll('.chart:not(.drawn)').length === 0")


def test_browser_has_pictures_to_draw(opened):
    """Without them the law above would hold of nothing."""
    page = opened("gain/report/index.html")
    assert page.locator("img").count() == 2 * len(CLASSES)
    assert page.locator(".chart").count() == 2 + 1 + 3 + 2 * 4 + 1  # answers, the sections, curves, draws
    assert page.locator(".chart > svg").count() == page.locator(".chart").count()


def test_browser_keeps_figures_that_belong_together_on_a_row(opened):
    page = opened("gain/report/index.html")
    tops = page.evaluate("[...document.querySelectorAll('.charts[style] > figure')].map(f => f.offsetTop)")
    assert tops[::2] == tops[1::2] == sorted(set(tops)) and len(tops) == 6
    weights = "[...document.querySelectorAll('.pairs figcaption')].map(c => getComputedStyle(c).fontWeight)"
    assert set(page.evaluate(weights)) == {"400"}
    phone = opened("gain/report/index.html", WIDTHS["phone"])
    lefts = phone.evaluate("[...document.querySelectorAll('.charts[style] > figure')].map(f => f.offsetLeft)")
    assert len(set(lefts)) == 1


def test_browser_shows_the_legend_of_figures_above_them(opened):
    page = opened("gain/report/index.html")
    legend, chart = (page.locator(f"text={words}").bounding_box() for words in ("Above the figures.", "How far apart"))
    assert legend["y"] < chart["y"]


def test_browser_shows_that_a_table_goes_on_to_the_right_until_its_end(opened):
    page = opened("gain/report/index.html", WIDTHS["phone"])
    frame, hint = page.locator(".scroll").first, page.locator(".sideways").first
    page.wait_for_function("document.querySelector('.scroll').classList.contains('more')")
    assert hint.is_visible() and hint.inner_text() == "more columns \N{RIGHTWARDS ARROW}"
    frame.evaluate("frame => { frame.scrollLeft = frame.scrollWidth; }")
    page.wait_for_function("!document.querySelector('.scroll').classList.contains('more')")
    desk = opened("gain/report/index.html")
    desk.wait_for_function("document.querySelector('.sideways').hidden")


@pytest.mark.parametrize("name", PAGES)
def test_browser_finds_what_every_link_leads_to(opened, runs, name):
    page = opened(name)
    for link in page.evaluate("[...document.querySelectorAll('a:not(.live a)')].map(a => a.getAttribute('href'))"):
        if link.startswith("#"):
            assert page.locator(link).count() == 1
        elif not link.startswith("data:text/csv"):
            assert ((runs / name).parent / link).is_file()


@pytest.mark.parametrize("name", ("index.html", "gain/report/index.html"))
def test_browser_sorts_every_table_by_every_column_both_ways(opened, name):
    page = opened(name)
    column = """button => {
        const head = button.closest('th');
        button.click();
        return [...head.closest('table').tBodies[0].rows].map(row => row.cells[head.cellIndex])
            .map(cell => cell.dataset.value ?? cell.textContent.trim()); }"""
    buttons = page.query_selector_all("button[data-sort]")
    assert len(buttons) > 5
    for button in buttons:
        orders = [button.evaluate(column), button.evaluate(column)]
        assert sorted(orders[0]) == sorted(orders[1])  # no row is lost
        for values, state in zip(orders, ("first", "second"), strict=True):
            present = [value for value in values if value != ""]
            assert values[: len(present)] == present, "what has no value comes last"
            down = (button.get_attribute("data-sort") == "number") == (state == "first")
            if button.get_attribute("data-sort") == "number":
                pairs = itertools.pairwise(float(value) for value in present)
                assert all(a >= b if down else a <= b for a, b in pairs)
        if button.get_attribute("data-sort") == "text" and len(set(orders[0]) - {""}) > 1:
            assert orders[0] != orders[1]


def test_browser_sorts_a_table_by_a_real_click_and_says_so(opened):
    page = opened("gain/report/index.html")
    head = page.locator("#table ~ .scroll th", has_text="Top-1").first
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    first = page.locator("#table ~ .scroll tbody tr").first.locator("th")
    assert first.inner_text().startswith(EVIL)  # the one that gets the most right


@pytest.mark.parametrize("name", ("results.csv", "report/summary.csv"))
def test_browser_downloads_both_tables_whole(opened, runs, name):
    page = opened("gain/report/index.html")
    file = Path(name).name
    with page.expect_download() as waiting:
        page.locator(f"a[download='{file}']").click()
    assert waiting.value.suggested_filename == file
    assert Path(waiting.value.path()).read_text() == (runs / "gain" / name).read_text()


def test_browser_shows_every_picture_where_scripts_are_off(opened):
    page = opened("gain/report/index.html", java_script_enabled=False)
    assert page.locator(".verdicts .chart > svg").is_visible() and page.locator(".verdicts").inner_text().count("Arm 2")
    assert page.locator(".live").count() == 0 and not page.locator(".filter").is_visible()


def test_browser_says_the_values_of_an_arm_where_the_pointer_is(opened):
    page = opened("gain/report/index.html")
    draw_all(page)
    assert (
        page.locator(".verdicts .live [role=img]").get_attribute("aria-label").startswith("points of Top-1 above Arm 0")
    )
    page.locator(".verdicts svg.marks").hover(position={"x": 150, "y": 25})
    page.wait_for_selector("#vg-tooltip-element.visible")
    told = page.locator("#vg-tooltip-element").inner_text()
    assert EVIL in told and "better" in told and "+1" in told


def test_browser_switches_an_arm_off_and_on_in_every_figure_and_in_the_table(opened):
    page = opened("gain/report/index.html")
    draw_all(page)
    shown = "[...document.querySelectorAll('.live svg.marks')].filter(s => s.textContent.includes('Arm 2')).length"
    assert page.evaluate(shown) == 2  # difference and accuracy
    page.locator(".arms summary").click()
    box = page.locator(".arms label", has_text="Arm 2").locator("input")
    box.uncheck()
    page.wait_for_function(f"{shown} === 0")
    hidden = page.locator("[data-arm='arm2']")
    assert hidden.count() == 1 + 2 and not any(one.is_visible() for one in hidden.all())  # the table, two curves
    box.check()
    page.wait_for_function(f"{shown} === 2")
    assert all(one.is_visible() for one in hidden.all())


def test_browser_filters_the_table_by_words(opened):
    page = opened("gain/report/index.html")
    rows = page.locator("tr[data-arm]")
    page.locator(".filter input").fill("what arm 2")
    assert [row.is_visible() for row in rows.all()] == [False, False, True, False]
    page.locator(".filter input").fill("")
    assert all(row.is_visible() for row in rows.all())


def test_browser_saves_a_figure_as_png_svg_and_csv(opened):
    page = opened("gain/report/index.html")
    draw_all(page)
    saved = {}
    for words in ("Save as PNG", "Save as SVG", "Save as CSV"):
        page.locator(".verdicts summary").click()
        with page.expect_download() as waiting:
            page.locator(".verdicts .vega-actions a", has_text=words).click()
        saved[waiting.value.suggested_filename] = Path(waiting.value.path()).read_bytes()
        page.evaluate("document.querySelector('.verdicts .live details').open = false")
    assert set(saved) == {"difference.png", "difference.svg", "difference.csv"}
    assert Image.open(io.BytesIO(saved["difference.png"])).width > 600 and b"Arm 2" in saved["difference.svg"]
    rows = list(csv.DictReader(io.StringIO(saved["difference.csv"].decode())))
    assert [row["whole_title"] for row in rows] == [EVIL, "Arm 2", "Arm 3"] and float(rows[1]["mean"]) < 0


def test_browser_draws_again_in_the_dark(opened):
    page = opened("gain/report/index.html", color_scheme="dark")
    draw_all(page)
    ink = "getComputedStyle(document.querySelector('.verdicts svg.marks text[font-weight=\"600\"]')).fill"
    dark = page.evaluate(ink)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{ink} !== '{dark}'")
    assert (dark, page.evaluate(ink)) == ("rgb(232, 234, 237)", "rgb(22, 25, 29)")


def test_browser_opens_the_fold_that_a_link_of_the_contents_leads_to(opened, runs):
    page = opened("empty/report/index.html")
    page.goto((runs / "gain/report/index.html").as_uri())
    fold = page.locator("details.fold", has=page.locator("#folded"))
    assert fold.get_attribute("open") is None
    page.locator("nav a", has_text="Folded").click()
    page.wait_for_function("document.querySelector('#folded').closest('details').open")
    assert page.get_by_text("Words.").is_visible()


def test_browser_shows_a_study_of_few_arms_on_six_screens_until_something_is_unfolded(opened, runs):
    page = opened("empty/report/index.html")
    page.goto((runs / "gain/report/index.html").as_uri())
    assert page.evaluate("document.documentElement.scrollHeight") <= 6 * 800


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES[:2])
def test_browser_finds_nothing_serious_for_who_cannot_see_well(opened, name, scheme):
    if not AXE.is_file():
        pytest.skip(f"no axe-core in {AXE.parents[2]}: npm install --prefix there axe-core")
    page = opened(name, color_scheme=scheme)
    draw_all(page)
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")["violations"]
    serious = [
        f"{one['id']}: {node['html'][:150]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []
