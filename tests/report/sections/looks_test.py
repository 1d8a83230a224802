"""The looks of a study: the path of each interval, and the runs that were not needed."""

import re

from jaxmoust.analysis.decisions import Decision
from jaxmoust.analysis.looks import Look, Path
from jaxmoust.report.charts.looks import cut
from jaxmoust.report.numbers import MINUS
from jaxmoust.report.sections import looks


def decision(arm, difference, half, verdict, seeds):
    ends = (difference - half, difference + half)
    return Decision(arm, "mixture", "pooled", difference, *ends, *ends, 0.1, 1.0, 0.0, verdict, seeds, 3)


def path():
    first = {"edm": decision("edm", -4.0, 2.0, "worse", 3), "ddpm": decision("ddpm", 0.5, 30.0, "undecided", 3)}
    second = {"ddpm": decision("ddpm", 0.25, 1.5, "undecided", 5)}
    return Path("mixture", "real", ("edm", "ddpm"), (Look(3, 1e-4, first), Look(5, 0.01, second)), ("ddpm",), 7)


def test_section_says_what_was_decided_and_the_runs_that_were_saved():
    (section,) = looks.sections({"edm": "Real + EDM", "ddpm": "Real + DDPM"}, [path()], 1.0, 13, 60)
    said = "1 of 2 arms are decided after 13 runs; every arm at all its seeds would have been 60, so 47 were saved."
    assert section.words == [said]
    captions = {figure.title: figure.caption for figure in section.figures}
    assert captions == {
        "Real + EDM": f"worse after 3 seeds: {MINUS}4.00 [{MINUS}6.00, {MINUS}2.00]",
        "Real + DDPM": f"undecided after 5 seeds: +0.25 [{MINUS}1.25, +1.75]",
    }
    assert "Real + DDPM: undecided" in section.figures[1].markup.words


def test_panel_has_an_interval_a_look_between_the_margins():
    markups = [
        figure.markup.svg for figure in looks.sections({"edm": "E", "ddpm": "D"}, [path()], 1.0, 13, 60)[0].figures
    ]
    assert [markup.count("<circle") + len(re.findall(r'd="M\S+A', markup)) for markup in markups] == [1, 2]
    assert all(markup.count("stroke-dasharray") == 2 for markup in markups)


def test_page_without_looks_has_no_section():
    assert looks.sections({}, [], 1.0, 0, 0) == []
    assert looks.sections({}, [Path("mixture", "real", ("edm",), (), ("edm",), 3)], 1.0, 2, 60) == []


def test_wide_intervals_of_early_looks_are_cut_and_the_last_is_whole():
    rows = [{"seeds": n, "mean": 0.0, "low": -half, "high": half} for n, half in ((3, 500.0), (5, 4.0), (7, 2.0))]
    assert [(row["low"], row["high"]) for row in cut(rows, 1.0)] == [(-6.0, 6.0), (-4.0, 4.0), (-2.0, 2.0)]
