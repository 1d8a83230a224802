"""The index over the studies of a folder: each with its answer, whatever state it is in, and no foreign file lost."""

import json
import re
from dataclasses import replace

import pytest
from made_up_page import make_page

from jaxmoust.report import findings, index
from jaxmoust.report import html as report
from jaxmoust.report.index import summarise, write_index, write_summary
from jaxmoust.report.numbers import interval_text, points
from jaxmoust.report.page import Section


@pytest.fixture
def runs(tmp_path):
    """Three studies: one with a winner, one without, one of which nothing has finished."""
    small = {"curves": {}, "galleries": ()}
    pages = {
        "gain": make_page(title="A gain", question="Does it help?", **small),
        "none & such": make_page(title="No <gain>", gains=(0, 1, -1), seed_noise=8, **small),
        "empty": make_page(title="Nothing yet", rows=[], ranks={}, **small),
    }
    for name, page in pages.items():
        report.write_report(page, tmp_path / "runs" / name / "report")
        write_summary(page, tmp_path / "runs" / name)
        (tmp_path / "runs" / name / "results.csv").write_text(findings.csv_text(page.rows))
    return tmp_path / "runs", pages


def test_index_has_every_study_with_its_answer_from_the_numbers(runs):
    folder, pages = runs
    html = write_index(folder).read_text()
    assert write_index(folder) == folder / "index.html"
    for page in pages.values():
        headline = findings.headline(page)
        assert headline.replace("'", "&#39;").replace("<", "&lt;").replace(">", "&gt;") in html
    assert "<gain>" not in html and html.count('<svg role="img"') + html.count('role="img" aria-label="points') >= 1


def test_index_names_studies_of_one_experiment_by_their_folders_and_says_which_were_quick(runs):
    folder, pages = runs
    again = replace(pages["gain"], command="jaxmoust study --config=a.py:quick --workdir=runs/again")
    report.write_report(again, folder / "again" / "report")
    write_summary(again, folder / "again")
    html = write_index(folder).read_text()
    assert all(html.count(f">A gain \N{MIDDLE DOT} {name}</a>") == 2 for name in ("gain", "again"))
    assert html.count("its numbers mean nothing") == 1 and html.count(">quick run<") == 1


def test_index_links_to_files_that_are_there(runs):
    folder, _ = runs
    html = re.sub(r"<script.*?</script>", "", write_index(folder).read_text(), flags=re.S)
    links = set(re.findall(r'href="([^"]+)"', html)) - {"data:,"}
    assert len(links) == 2 * 3
    assert all((folder / link.replace("%20", " ").replace("%26", "&")).is_file() for link in links)


def test_index_lists_a_study_without_a_summary_and_says_what_to_do(runs):
    folder, _ = runs
    (folder / "gain" / "report" / "summary.json").unlink()
    (folder / "none & such" / "report" / "summary.json").write_text("{")
    (folder / "empty" / "report" / "summary.json").write_text('{"format": 0}')
    html = write_index(folder).read_text()
    assert html.count("run its command again") == 3 and "gain/report/index.html" in html


def odd(summary):
    """Summaries of our format with a value of another kind, or without it, one field after another."""
    for name in summary:
        if name != "format":
            yield {k: v for k, v in summary.items() if k != name}
            yield from ({**summary, name: value} for value in ("x", [None], 3))
    for name in summary["best"]:
        yield from ({**summary, "best": {**summary["best"], name: value}} for value in (None, [None]))


def test_index_survives_every_odd_summary_of_a_neighbour(runs):
    folder, _ = runs
    file = folder / "gain" / "report" / "summary.json"
    summary = json.loads(file.read_text())
    for text in ("[1]", "3", '{"format": 2}', *map(json.dumps, odd(summary))):
        file.write_text(text)
        assert index._study(folder / "gain")["page"] == "gain/report/index.html"
    assert "Nothing yet" in write_index(folder).read_text()  # beside the last of them


def test_index_of_a_folder_without_studies_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no study.*Run `jaxmoust study`"):
        write_index(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_index_leaves_the_page_of_somebody_else_alone(runs):
    folder, _ = runs
    (folder / "index.html").write_text("<h1>My own page</h1>")
    with pytest.raises(ValueError, match=r"not written by jaxmoust"):
        write_index(folder)
    assert (folder / "index.html").read_text() == "<h1>My own page</h1>" and not index.may_write(folder)


def test_summary_is_plain_and_has_the_best_arm(runs):
    _, pages = runs
    summary = summarise(pages["gain"])
    assert json.loads(json.dumps(summary))["best"]["arm"] == "Arm 1"
    line = pages["gain"].summaries[1]
    assert summary["best"]["mean"] == line.decision.difference == pytest.approx(sum(summary["best"]["values"]) / 3)
    assert summarise(pages["empty"])["best"] is None


def test_index_begins_with_what_a_study_s_sections_say(runs):
    folder, pages = runs
    page = replace(pages["gain"], sections=(Section("Worth", answer="Five are worth one."),))
    write_summary(page, folder / "gain")
    html = write_index(folder).read_text()
    said = findings.headline(pages["gain"])
    assert html.index("<p>Five are worth one.</p>") < html.index(f"<p>{said}")


# --- the answer in one sentence --------------------------------------------------------------------------------------


def headline(**changes):
    page = make_page(**changes)
    return findings.headline(page), page.summaries


def test_headline_gives_the_gain_with_its_interval_p_and_seeds():
    said, arms = headline()
    numbers = interval_text(arms[1].decision.difference, arms[1].decision.interval, signed=True)
    assert said.startswith(f"Arm 1 is significantly better than Arm 0: {numbers} points of Top-1, ")
    assert said.endswith("adjusted for 2 comparisons; n = 3 seeds, 240 test images).")


def test_headline_of_one_comparison_has_no_correction():
    said, _ = headline(gains=(0, 40), num_seeds=5)
    assert "adjusted" not in said and "n = 5 seeds" in said


def test_headline_claims_no_gain_that_is_not_significant():
    said, _ = headline(gains=(0, 1, -1), seed_noise=8)
    assert said.startswith("No arm is significantly better than Arm 0: both are undecided. The ")


def test_headline_says_when_every_arm_loses():
    said, arms = headline(gains=(0, -40, -60))
    number = points(arms[1].decision.difference)
    assert said.startswith(f"Every other arm is significantly worse than Arm 0; Arm 1 the least: {number} [")
    assert headline(gains=(0, -40))[0].startswith("Arm 1 is significantly worse than Arm 0: ")


def test_headline_from_one_seed_claims_nothing():
    assert headline(num_seeds=1)[0].startswith("Nothing can be claimed from one seed.")
