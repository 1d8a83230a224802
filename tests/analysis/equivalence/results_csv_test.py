"""Laws of choosing runs from rows: controls are no curve, kinds do not mix unasked, what is missing is named."""

import csv

import numpy as np
import planted_equivalence as planted
import pytest

from jaxmoust.analysis.equivalence import results_csv


@pytest.fixture(scope="module")
def rows():
    return planted.rows(*planted.plant())


def as_text(rows):
    return [{name: str(value) for name, value in row.items()} for row in rows]


def test_choose_gives_back_the_planted_cells(rows):
    alone, mixed = planted.plant()
    chosen = results_csv.choose(as_text(rows)[::-1])
    for got, planned in ((chosen.real, alone), (chosen.mixed, mixed)):
        assert (
            got.n_base.tolist() == planned.n_base.tolist() and got.n_synthetic.tolist() == planned.n_synthetic.tolist()
        )
        # 100 - (100 - error): rounding.
        assert [sorted(e) for e in got.errors] == [pytest.approx(sorted(e), abs=1e-9) for e in planned.errors]
    assert chosen.settings == {"generator": "edm", "fine_tuning": "none", "sampler": "random"} and not chosen.notes


def test_choose_takes_no_control_for_the_curve(rows):
    """They have no synthetic images either, and would lift the curve."""
    controls = [row | {"arm": arm, "top1": 99.0} for row in rows[:5] for arm in ("duplicated", "real_augmented")]
    assert results_csv.choose(rows + controls).real.mean.tolist() == results_csv.choose(rows).real.mean.tolist()
    named = [row | {"arm": "real_augmented", "n_base": 99} for row in rows[:5]]
    assert results_csv.choose(rows + named, real=("real_*",)).real_arms[-1] == "real_augmented"


def test_choose_leaves_synthetic_only_runs_out(rows):
    only = rows[-1] | {"arm": "edm_only", "share": 1.0, "n_synthetic": 77}
    assert 77 not in results_csv.choose([*rows, only]).mixed.n_synthetic
    assert 77 not in results_csv.choose([*rows, only], mixed=("edm_*",)).mixed.n_synthetic
    with pytest.raises(ValueError, match=r"none called edm_only.*on synthetic images alone are edm_only"):
        results_csv.choose([*rows, only], mixed=("edm_only",))


def test_choose_refuses_to_mix_kinds_and_names_the_choices(rows):
    both = rows + [row for row in planted.rows(*planted.plant(1), generator="ddpm") if row["n_synthetic"]]
    with pytest.raises(ValueError, match=r"several kinds.*--generator=edm.*--generator=ddpm"):
        results_csv.choose(both)
    assert results_csv.choose(both, generator="ddpm").settings["generator"] == "ddpm"
    assert len(results_csv.kinds(both)) == 2


def test_num_real_sizes_counts_those_of_finished_runs_on_real_images_alone(rows):
    unfinished = [row | {"top1": ""} if row["n_base"] == 125 else row for row in rows]
    assert [results_csv.num_real_sizes(some) for some in (rows, unfinished, [])] == [8, 7, 0]
    assert results_csv.num_real_sizes(rows, real=("real_1*",)) == 3


def test_choose_counts_a_run_found_twice_once(rows):
    assert results_csv.choose(rows + rows).mixed.count.tolist() == results_csv.choose(rows).mixed.count.tolist()


@pytest.mark.parametrize("changes", [{}, {"arm": "other"}, {results_csv.AT: "row 2 of 'b.csv'"}])
def test_choose_refuses_two_results_of_one_run_and_names_both(rows, changes):
    placed = [row | {results_csv.AT: f"row {i} of 'a.csv'"} for i, row in enumerate(rows, 2)]
    with pytest.raises(ValueError) as e:
        results_csv.choose([*placed, placed[-1] | {"top1": 50.0} | changes])
    first = f"{placed[-1]['top1']:g} (arm 'edm_4000_40000', seed 4, row 116 of 'a.csv')"
    again = placed[-1] | changes
    other = f"50 (arm {again['arm']!r}, seed 4, {again[results_csv.AT]})"
    assert f"two results of n_base 4000, n_synthetic 40000, seed 4: {first} and {other}, expected one" in str(e.value)
    assert "Choose arms by --real=ARM or --mixed=ARM[,ARM], give one of the files" in str(e.value)


@pytest.mark.parametrize("gone", ["", None, "nan", float("nan")])
def test_choose_leaves_unfinished_runs_out_and_says_so(rows, gone):
    chosen = results_csv.choose([rows[0] | {"top1": gone}, *rows[1:]])
    assert chosen.real.count[0] == 4 and chosen.notes[0] == "1 run without a result is left out."


def test_choose_names_the_arms_and_cells_without_any_result(rows):
    gone = {"real_250", "edm_1000_500"}
    chosen = results_csv.choose([row | {"top1": ""} if row["arm"] in gone else row for row in rows])
    assert chosen.notes[0] == (
        "10 runs without a result are left out, among them every run of 250 real, 1,000 real + 500 synthetic."
    )
    bare = [row | {"arm": "mixed" if row["n_synthetic"] else "real"} for row in rows]
    chosen = results_csv.choose([row | {"top1": ""} if row["n_synthetic"] == 10_000 else row for row in bare])
    assert chosen.notes[0].endswith("every run of 1,000 real + 10,000 synthetic.")
    most = [row | {"top1": ""} if row["n_base"] == 250 and row["n_synthetic"] else row for row in rows]
    assert (
        results_csv.choose(most).notes[0].endswith("250 real + 500 synthetic, 250 real + 1,000 synthetic, and 1 more.")
    )
    controls = [row | {"arm": "duplicated", "top1": ""} for row in rows[:5]]
    assert results_csv.choose(rows + controls).notes == ("5 runs without a result are left out.",)


def test_choose_names_the_seeds_that_are_not_there(rows):
    gone = {("real_125", 1), ("edm_250_125", 0), ("edm_250_125", 3)}
    chosen = results_csv.choose([row for row in rows if (row["arm"], row["seed"]) not in gone])
    assert chosen.notes == (
        "Seeds are missing: 125 real has no 1; 250 real + 125 synthetic has no 0, 3. "
        "The cells count with the seeds that they have.",
    )
    assert chosen.real.count[0] == 4 and chosen.mixed.count[0] == 3


def test_choose_names_missing_seeds_by_cell_where_arms_have_no_names_of_their_own(rows):
    """What is fitted is the cell: that another cell of the arm has the seed is no help."""
    kept = [row for row in rows if row["seed"] == 0 or row["n_base"] != 250 or row["n_synthetic"] not in (0, 1000)]
    for of_arms in (
        [{name: row[name] for name in results_csv.NEEDED} for row in kept],
        [row | {"arm": "edm_mixed" if row["n_synthetic"] else "real"} for row in kept],
    ):
        (note,) = results_csv.choose(of_arms).notes
        assert "missing: 250 real has no 1, 2, 3, 4; 250 real + 1,000 synthetic has no 1, 2, 3, 4." in note


def test_choose_compares_seeds_with_those_that_most_cells_have(rows):
    other = [row | {"seed": row["seed"] + 10} if row["arm"] == "real_250" else row for row in rows]
    assert "missing: 250 real has no 0, 1, 2, 3, 4. The" in results_csv.choose(other).notes[0]
    many = [row for row in rows if row["n_synthetic"] or row["seed"] or row["n_base"] > 4000]
    assert "1,000 real has no 0; and 2 more. The" in results_csv.choose(many).notes[0]


def test_choose_takes_runs_of_one_test_set_only(rows):
    tested = [row | {"n_test": 797 if row["n_synthetic"] else "10000"} for row in rows]
    with pytest.raises(ValueError) as e:
        results_csv.choose(tested)
    for words in ("n_test 10000 (arms real_125, real_250, ", "and 4 more", "n_test 797 (arms edm_", "one test set"):
        assert words in str(e.value)
    unknown = [row | {"n_test": 797 if row["n_synthetic"] else ""} for row in rows]
    assert not results_csv.choose(unknown).notes


def test_choose_says_when_runs_are_of_several_experiments(rows):
    two = [row | {"experiment": "one" if row["n_synthetic"] else "other"} for row in rows]
    assert results_csv.choose(two).notes == ("The runs are of several experiments: one, other.",)
    assert not results_csv.choose([row | {"experiment": "one"} for row in rows]).notes


def test_choose_says_when_work_is_unequal(rows):
    assert "500, 900" in results_csv.choose([rows[0] | {"steps": 900}, *rows[1:]]).notes[0]


def test_choose_needs_no_names_where_there_is_one_kind(rows):
    bare = [{name: row[name] for name in results_csv.NEEDED} for row in rows]
    assert len(results_csv.choose(bare).mixed) == 15 and len(results_csv.choose(bare).real) == 8


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda r: [], {}, ["no rows"]),
        (
            lambda r: [{k: v for k, v in row.items() if k != "n_base"} for row in r],
            {},
            ["no column 'n_base'", "115 of 115", "got ['arm', 'seed', 'generator',"],
        ),
        (lambda r: [{f" {k}": v for k, v in row.items()} for row in r], {}, ["no column 'n_base'", "' n_base'"]),
        (lambda r: [row | {"n_base": "many"} for row in r], {}, ["n_base 'many'", "expected whole numbers from 1"]),
        (lambda r: [row | {"top1": "good"} for row in r], {}, ["top1 'good'"]),
        (lambda r: [row | {"top1": "95,3"} for row in r], {}, ["'95,3'", "a decimal point", "Correct the row"]),
        (lambda r: [row | {"top1": "95.3%"} for row in r], {}, ["'95.3%'", "no %", "Correct the row"]),
        (lambda r: [row | {"n_synthetic": "1,000"} for row in r], {}, ["'1,000'", "no thousands separators"]),
        (
            lambda r: [*r[:-1], r[-1] | {"top1": "101.0"}],
            {},
            ["top1 '101.0' (arm 'edm_4000_40000', seed 4)", "percent, 0 to 100"],
        ),
        (lambda r: [r[0] | {"top1": -1}, *r[1:]], {}, ["top1 -1 (arm 'real_125', seed 0)", "percent, 0 to 100"]),
        (lambda r: [r[0] | {"top1": "inf"}, *r[1:]], {}, ["top1 'inf'", "percent, 0 to 100"]),
        (lambda r: [row | {"top1": row["top1"] / 100} for row in r], {}, ["at most 1", "Multiply it by 100"]),
        (
            lambda r: [row | {"top1": row["top1"] / 100} if row["n_synthetic"] else row for row in r],
            {},
            ["at most 1 in all runs of mixtures", "arm 'edm_250_125', seed 0", "Multiply it by 100"],
        ),
        (lambda r: [row | {"top1": ""} for row in r], {}, ["none of the 115 runs has a result"]),
        (lambda r: [row | {"n_synthetic": "nan"} for row in r], {}, ["n_synthetic 'nan'", "whole numbers"]),
        (lambda r: [row | {"n_synthetic": -5} for row in r], {}, ["n_synthetic -5", "from 0"]),
        (lambda r: [row | {"n_synthetic": 1e19} for row in r if row["n_synthetic"]] + r, {}, ["to 1e+12"]),
        (lambda r: [row | {"n_base": 100.5} for row in r], {}, ["n_base 100.5", "whole numbers"]),
        (lambda r: [row | {"seed": "inf"} for row in r], {}, ["seed 'inf'"]),
        (lambda r: [row | {"seed": "nan"} for row in r], {}, ["seed 'nan'"]),
        (
            lambda r: [row if row["n_synthetic"] else row | {"top1": "nan"} for row in r],
            {},
            [
                "real runs: no arm called real or real_NUMBER has a result",
                "without a result (top1) are real_125, real_250",
            ],
        ),
        (
            lambda r: [row | {"top1": "nan"} if row["n_synthetic"] or row["n_base"] == 125 else row for row in r],
            {},
            ["without a result (top1) are real_125, edm_250_125", "still be compared"],
        ),
        (lambda r: [row | {"n_base": 0} for row in r if row["n_synthetic"]] + r, {}, ["n_base 0", "from 1"]),
        (
            lambda r: [row for row in r if row["n_synthetic"]],
            {},
            ["no arm called real or real_NUMBER", "; with real and synthetic images are --gen", "report/summary.csv"],
        ),
        (lambda r: r, {"real": ("base",)}, ["called base", "real_125, real_250", "--real=ARM"]),
        (
            lambda r: [row for row in r if not row["n_synthetic"]],
            {},
            ["mixed runs: none of real and synthetic images has a result (top1)", "run some", "report/summary.csv"],
        ),
        (lambda r: r, {"sampler": "share"}, ["sampler 'share'", "--sampler=random"]),
        (lambda r: r, {"mixed": ("ddpm*",)}, ["called ddpm*", "edm_250_125"]),
        (lambda r: r, {"device": "cpu"}, ["device"]),
    ],
)
def test_choose_refuses_with_what_is_there(rows, change, options, words):
    with pytest.raises(ValueError) as e:
        results_csv.choose(change(rows), **options)
    assert all(word in str(e.value) for word in words), e.value


def test_read_rows_gives_back_what_was_written(rows, tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, part in zip(paths, (rows[:50], rows[50:]), strict=True):
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(part)
    places = [
        f"row {line} of {str(path)!r}"
        for path, part in zip(paths, (50, 65), strict=True)
        for line in range(2, part + 2)
    ]
    read = results_csv.read_rows(paths)
    assert [row.pop(results_csv.AT) for row in read] == places and read == as_text(rows)


def test_read_rows_passes_over_blank_rows(tmp_path):
    (tmp_path / "blank.csv").write_text("n_base,top1,,\n,,\n10,75.0,,\n\n , ,\n20,80.0,\n")
    read = results_csv.read_rows([tmp_path / "blank.csv"])
    assert [(row["n_base"], row[results_csv.AT][:5]) for row in read] == [("10", "row 3"), ("20", "row 6")]


def test_rows_not_separated_by_commas_are_refused_with_the_one_column_there_is(tmp_path):
    (tmp_path / "tabs.csv").write_text("n_base\ttop1\n10\t74.5\n")
    with pytest.raises(ValueError, match=r"no column 'n_base', got \['n_base\\ttop1'\].*separated by commas"):
        results_csv.choose(results_csv.read_rows([tmp_path / "tabs.csv"]))


def test_number_that_is_none_is_refused_with_its_place_in_the_file(rows, tmp_path):
    (tmp_path / "a.csv").write_text("n_base,n_synthetic,seed,top1\n125,0,0,75.0\n125,0,1,75.1%\n")
    with pytest.raises(ValueError, match=r"top1 '75.1%' \(arm 'real', seed 1, row 3 of '.*a.csv'\)"):
        results_csv.choose(results_csv.read_rows([tmp_path / "a.csv"]))


def test_read_rows_refuses_what_is_no_table(tmp_path):
    (tmp_path / "empty.csv").write_text("n_base,top1\n")
    (tmp_path / "bytes.csv").write_bytes(np.arange(256, dtype=np.uint8).tobytes())
    (tmp_path / "nothing.csv").write_text("")
    (tmp_path / "blank.csv").write_text("n_base,top1\n,\n")
    (tmp_path / "semicolons.csv").write_text("n_base;top1\n10;74,5\n")
    (tmp_path / "commas.csv").write_text("n_base,top1\n10,74,5\n")
    for name, words in (
        ("empty.csv", "has no rows"),
        ("nothing.csv", "cannot be read"),
        ("blank.csv", "has no rows"),
        ("bytes.csv", "cannot be read"),
        ("nope.csv", "cannot be read"),
        ("semicolons.csv", "Expected 1 fields in line 2, saw 2; .*commas between columns and numbers written like"),
        ("commas.csv", "Expected 2 fields in line 2, saw 3; .*a decimal point"),
    ):
        with pytest.raises(ValueError, match=words):
            results_csv.read_rows([tmp_path / name])
