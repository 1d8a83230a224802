"""The sections of a page besides its standard ones: those of the runs first, then one table of all diagnostics."""

import dataclasses

import pytest
from made_up_page import make_page

from jaxmoust.report.page import Figure, Section
from jaxmoust.report.sections import diagnostics
from jaxmoust.report.sections.diagnostic import Diagnostic
from jaxmoust.study import stage_graph


@pytest.fixture
def found(monkeypatch, tmp_path):
    """A gap of two sets, and a measurement of one of them and of a third."""
    figure = lambda title, of: Figure(title, "", "", of)  # noqa: E731
    gap = Section("Domain gap", ["Apart."], [figure("Real or not?", of) for of in ("EDM", "DDPM")], notes=["Chance."])
    gap = dataclasses.replace(gap, answer="99 %.", legend="Discs.")
    near = Section("Fidelity", [], [figure("By pixels", of) for of in ("DDPM", "SD")], legend="Bars.")
    monkeypatch.setattr(diagnostics.domain_gap, "section", lambda found: gap)
    monkeypatch.setattr(diagnostics.domain_gap, "overview", lambda found: {"AUC": float(len(found))})
    monkeypatch.setattr(diagnostics.fidelity, "sections", lambda found: [near, Section("Nearest", of_images=True)])
    monkeypatch.setattr(diagnostics.fidelity, "overview", lambda found: {one.title: {"FID": 2.0} for one in found})
    of = lambda *names: [Diagnostic(name, name, 0, {}, tmp_path, set_title=name.upper()) for name in names]  # noqa: E731
    return {"domains": of("edm", "ddpm"), "measures": of("ddpm", "sd")}


def test_every_table_of_diagnostics_has_its_place():
    assert {"domains", "measures"} == set(stage_graph.DIAGNOSTICS)


def test_all_diagnostics_of_all_sets_are_one_table_with_the_pictures_of_each_set_together(found):
    merged, nearest = diagnostics.of_sets(found)
    assert (merged.title, nearest.title) == (diagnostics.TITLE, "Nearest") and nearest.of_images
    (table,) = merged.tables
    assert table.columns == ("Set", "AUC", "FID")
    assert table.rows == [["EDM", 1.0, None], ["DDPM", 1.0, 2.0], ["SD", None, 2.0]]
    shown = {group: [figure.title for figure in figures] for group, figures in merged.groups.items()}
    assert shown == {"EDM": ["Real or not?"], "DDPM": ["Real or not?", "By pixels"], "SD": ["By pixels"]}
    assert (merged.words, merged.notes, merged.legend, merged.answer) == (
        ["Apart."],
        ["Chance."],
        "Discs. Bars.",
        "99 %.",
    )


@pytest.mark.parametrize("table", ["domains", "measures"])
def test_one_kind_of_diagnostics_alone_has_its_section(found, table):
    first = diagnostics.of_sets({table: found[table]})[0]
    assert len(first.tables[0].rows) == 2 and len(first.tables[0].columns) == 2


def test_sections_of_the_runs_come_first(monkeypatch, found):
    page = make_page()
    monkeypatch.setattr(diagnostics.ratio, "sections", lambda arms, baseline: [Section(f"{len(arms)} v {baseline}")])
    titles = [one.title for one in diagnostics.collect(page.arms, page.baseline, page.rows, found)]
    assert titles == ["3 v arm0", diagnostics.TITLE, "Nearest"]
    assert [one.title for one in diagnostics.collect(page.arms, page.baseline, page.rows, {})] == ["3 v arm0"]
