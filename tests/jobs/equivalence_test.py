"""Laws of jobs/equivalence.py: the answer in words and as an object, and why there is none."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import planted_equivalence
import pytest
from command_line import ROOT, assert_refused

from jaxmoust.analysis.equivalence.answer import format_number


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Path:
    """A results.csv in which a known law was planted: at 1,000 real images, 500 more are worth 792 synthetic ones."""
    path = tmp_path_factory.mktemp("grid") / "results.csv"
    write_results(path, planted_equivalence.rows(*planted_equivalence.plant()))
    return path


def write_results(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_equivalence_answers_in_words_and_as_one_object_alike(cli, grid):
    question = "equivalence --results={grid} --n_base=1000 --n_real_plus=500"
    words, told = cli(question, grid=grid), cli(f"{question} --json", grid=grid)
    assert (words.code, told.code, words.err, told.err) == (0, 0, "", "")
    (line,) = told.out.splitlines()
    said = json.loads(line)
    low, high = said["n_syn_interval"]
    assert low < 792 < high and said["refused"] is None
    assert f"{said['n_syn']:,.0f} [{low:,.0f}, {high:,.0f}] synthetic" in words.out
    assert said["exchange_rate_average"] == pytest.approx(said["n_syn"] / 500)
    assert said["c2"] == pytest.approx(np.exp(said["b"])) and said["c1"] == pytest.approx(np.exp(said["a"] * said["k"]))


def test_equivalence_refuses_to_extrapolate_and_says_why(cli, grid):
    told = cli("equivalence --results={grid} --n_base=1000 --n_real_plus=90000 --json", grid=grid)
    said = json.loads(told.out)
    assert told.code == 0 and said["n_syn"] is None and "measured up to 16,000" in said["refused"]
    assert said["b"] > 0 and said["exchange_rate_marginal"] > 0  # what can be answered is
    large = cli("equivalence --results={grid} --n_base=1000 --k=1e8 --json", grid=grid)
    said = json.loads(large.out)
    assert said["c1"] is None and "without bound" in said["c1_refused"] and said["a"] > 0


def test_equivalence_without_a_question_reports_the_fit_of_several_files(cli, grid, tmp_path):
    rows = list(csv.DictReader(grid.open()))
    write_results(tmp_path / "a.csv", rows[:60])
    write_results(tmp_path / "b.csv", rows[60:])
    split = cli("equivalence --results={a},{b}", a=tmp_path / "a.csv", b=tmp_path / "b.csv")
    assert split == cli("equivalence --results={grid}", grid=grid)
    assert split.code == 0 and split.out.startswith("One more real image is worth")


def test_equivalence_of_the_effective_sample_size_gives_its_answer(cli, grid):
    told = cli("equivalence --results={grid} --n_base=1000 --n_real_plus=500 --law=effective --json", grid=grid)
    said = json.loads(told.out)
    assert said["refused"] is None and "no slope at 0" in said["exchange_rate_marginal_refused"]
    assert said["law"] == "effective" and said["n_syn"] == pytest.approx((500 / said["kappa"]) ** (1 / said["eta"]))


@pytest.mark.parametrize(("n_base", "answered"), [(1000, True), (600, True), (8000, False)])
def test_equivalence_of_the_effective_sample_size_answers_alike_without_n_real_plus(cli, grid, n_base, answered):
    question = f"equivalence --results={{grid}} --n_base={n_base} --law=effective"
    words, told = cli(question, grid=grid), cli(f"{question} --json", grid=grid)
    said = json.loads(told.out)
    if answered:
        assert said["refused"] is None and said["exchange_rate_average_up_to"] == n_base
        assert f"{format_number(said['exchange_rate_average'])} [" in words.out.splitlines()[0]
    else:
        assert words.out.startswith(f"No answer: {said['refused']}.")
    assert "By the study's law: One more real image" in words.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--generator=ddpm", ["'ddpm'", "--generator=edm"]),
        ("--real=base", ["called base", "real_125"]),
        ("--real=real_1000", ["at least two sizes", "[1000]"]),
        ("--n_base=-3", ["n_base: got -3"]),
        ("--n_base=1000 --n_real_plus=nan", ["n_real_plus: got nan"]),
        ("--k=0", ["k: got 0"]),
        ("--k=inf", ["k: got inf"]),
        ("--n_base=many --k=3", ["n_base", "many"]),
        ("--n_real_plus=5", ["--n_real_plus needs --n_base"]),
        ("--law=linear", ["linear", "study", "effective"]),
        ("other.csv", ["Unexpected 'other.csv'"]),
    ],
)
def test_equivalence_refuses_bad_input_in_words_and_as_an_object(cli, grid, options, words):
    outcome = cli(f"equivalence --results={{grid}} {options}", grid=grid)
    assert_refused(outcome, *words)
    assert outcome.out == ""
    told = cli(f"equivalence --results={{grid}} --json {options}", grid=grid)
    assert_refused(told, *words)
    said = json.loads(told.out)
    assert all(word in said["refused"] for word in words) and said["b"] is said["n_syn"] is None
    fitted = json.loads(cli("equivalence --results={grid} --json", grid=grid).out)
    assert set(said) == set(fitted) and set(said["censored"]) == set(fitted["censored"])


def test_equivalence_says_the_question_that_it_refuses_where_a_number_can(cli, grid):
    told = cli("equivalence --results={grid} --json --n_base=-3 --n_real_plus=nan --k=7", grid=grid)
    said = json.loads(told.out)
    assert told.code == 2 and (said["n_base"], said["n_real_plus"], said["k"]) == (-3, None, 7)
    missing = json.loads(cli("equivalence --json").out)
    assert missing["refused"] == "--results is missing: the results.csv of a study."  # and no help


def test_equivalence_of_cells_that_are_all_bounds_gives_them_the_curve_and_the_arms(cli, tmp_path):
    planted = planted_equivalence.plant(real=(125, 250), bases=(250,), gain=lambda n, s: 5000)
    write_results(tmp_path / "bounds.csv", planted_equivalence.rows(*planted))
    told = cli("equivalence --results={path} --json", path=tmp_path / "bounds.csv")
    said = json.loads(told.out)
    assert told.code == 2 and "all 5 cells lie beyond" in said["refused"] and said["b"] is None
    assert said["censored"] == {"cells": 5, "at_least": 5, "at_most": 0}
    assert [(c["n_synthetic"], c["n_eq"], c["censored"]) for c in said["cells"][:2]] == [
        (125, 250, "at least"),
        (250, 250, "at least"),
    ]
    assert (said["learning_curve"]["n_min"], said["learning_curve"]["n_max"]) == (125, 250)
    assert said["real_arms"] == ["real_125", "real_250"] and "edm_250_125" in said["mixed_arms"]
    assert said["generator"] == "edm"


def test_equivalence_of_mixtures_that_lose_says_what_they_cost_in_words_and_as_an_object(cli, tmp_path):
    planted = planted_equivalence.plant(gain=lambda n, s: -0.4 * n)
    write_results(tmp_path / "lost.csv", planted_equivalence.rows(*planted))
    words = cli("equivalence --results={path} --n_base=1000", path=tmp_path / "lost.csv")
    said = json.loads(cli("equivalence --results={path} --json", path=tmp_path / "lost.csv").out)
    assert "Worth fewer than none: beside 1,000 real images, 500 of them cost what taking " in words.out
    assert said["worth_fewer_than_none"].startswith("Worth fewer than none: beside 250 real images, 2,500 of them cost")
    (cell,) = [c for c in said["cells"] if (c["n_base"], c["n_synthetic"]) == (1000, 500)]
    low, high = cell["lost_interval"]
    assert low < 400 < high and cell["n_real_plus"] == -cell["lost"] == cell["n_eq"] - 1000
    assert f"{cell['lost']:,.0f} [{low:,.0f}, {high:,.0f}] real ones away" in words.out


def test_equivalence_of_losses_that_are_all_bounds_says_at_least(cli, tmp_path):
    planted = planted_equivalence.plant(real=(1000, 2000), bases=(2000,), sd=0.05, gain=lambda n, s: -1200)
    write_results(tmp_path / "bounds.csv", planted_equivalence.rows(*planted))
    words = cli("equivalence --results={path} --json", path=tmp_path / "bounds.csv")
    assert_refused(words, "all 5 cells lie beyond", "cost what taking at least 1,000 real ones away costs")
    cell = json.loads(words.out)["cells"][0]
    assert (cell["lost"], cell["lost_at_least"], cell["n_real_plus"]) == (None, 1000, -1000)
    assert "at least 1,000" in json.loads(words.out)["worth_fewer_than_none"]


def test_equivalence_beyond_what_was_tried_gives_what_its_interval_says(cli, grid):
    question = "equivalence --results={grid} --n_base=250 --n_real_plus=520"
    said = json.loads(cli(f"{question} --json", grid=grid).out)
    low, high = said["n_syn_interval"]
    assert said["n_syn"] is high is None and said["n_syn_at_least"] == low < 2500
    assert said["exchange_rate_average_interval"] == [low / 520, None]
    words = cli(question, grid=grid)
    assert words.code == 0 and words.out.startswith(f"No answer: {said['refused']}.")
    assert f"at least {low:,.0f}" in said["refused"]


def test_equivalence_rates_and_their_refusal_are_of_the_law_asked_for(cli, grid, tmp_path):
    said = json.loads(cli("equivalence --results={grid} --law=effective --json", grid=grid).out)
    asked = cli("equivalence --results={grid} --law=effective --n_base=1000 --json", grid=grid)
    (at,) = [rate for rate in said["exchange_rates"] if rate["n_base"] == 1000]
    assert at["average"] == json.loads(asked.out)["exchange_rate_average"] and said["refused"] is None
    assert at["marginal"] is None and "no slope at 0" in at["marginal_refused"]
    # One mixed cell: the study's law has a rate, and eta is not told.
    one = planted_equivalence.rows(*planted_equivalence.plant(bases=(1000,), ratios=(2,)))
    write_results(tmp_path / "one.csv", one)
    for law, rate, refused in (("study", "marginal", False), ("effective", "average", True)):
        told = cli(f"equivalence --results={{one}} --law={law} --json", one=tmp_path / "one.csv")
        said = json.loads(told.out)
        assert told.code == 0 and bool(said["refused"]) == refused == (not said["exchange_rates"][0][rate])


@pytest.mark.parametrize("options", ["", "--json", "--json --real=base"])
def test_equivalence_ends_quietly_where_nobody_reads(grid, options):
    """Standard output is a pipe whose other end is closed: what `| head -c 0` leaves."""
    program = "from jaxmoust.cli import main; main()"
    words = [sys.executable, "-c", program, "equivalence", f"--results={grid}", *options.split()]
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(words, cwd=ROOT, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_equivalence_starts_without_jax(grid):
    program = "import sys; from jaxmoust.cli import call; call(sys.argv[1:]); assert 'jax' not in sys.modules"
    words = [sys.executable, "-c", program, "equivalence", f"--results={grid}", "--real=none"]
    assert subprocess.run(words, cwd=ROOT, capture_output=True).returncode == 0
