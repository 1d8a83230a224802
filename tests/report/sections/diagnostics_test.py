"""The sections of a page besides its standard ones: one for each table of diagnostics, those of the runs first."""

from made_up_page import make_page

from jaxmoust.report.page import Section
from jaxmoust.report.sections import diagnostics
from jaxmoust.report.sections.diagnostic import Diagnostic
from jaxmoust.study import stage_graph


def test_every_table_of_diagnostics_has_a_section():
    assert set(diagnostics.SECTIONS) == set(stage_graph.DIAGNOSTICS)


def test_sections_are_those_of_the_runs_then_those_of_the_diagnostics_that_found_something(monkeypatch, tmp_path):
    page = make_page()
    monkeypatch.setitem(diagnostics.SECTIONS, "domains", lambda found: Section(found[0].title))
    monkeypatch.setattr(diagnostics.ratio, "sections", lambda arms, baseline: [Section(f"{len(arms)} v {baseline}")])
    found = {"domains": [Diagnostic("by_clip", "edm", 0, {}, tmp_path)], "measures": []}
    sections = diagnostics.collect(page.arms, page.baseline, page.rows, found)
    assert [section.title for section in sections] == ["3 v arm0", "edm (by_clip)"]
