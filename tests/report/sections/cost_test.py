"""What each arm costs: the stages that its runs stand on, each once, and the difference for an hour of them."""

import pytest
from made_up_page import make_page

from jaxmoust.report import findings
from jaxmoust.report.page import StageRecord
from jaxmoust.report.sections import cost

HOUR = 3600.0


def costly(**changes):
    """Three arms at three seeds. Runs take an hour each; sets of arm 1 a half, of a generator of 3 hours for all seeds.

    Those of arm 2 are scored by the baseline's classifier at their seed, in a quarter of an hour.
    """
    page = make_page()
    rows = [{**row, "run": f"train-{row['arm']}-{row['seed']}"} for row in page.rows]
    stages = [StageRecord("fit", "fit", seconds=3 * HOUR)]
    for seed in range(3):
        stages += [
            StageRecord("sample", f"sample-{seed}", seconds=HOUR / 2, needs=["fit"]),
            StageRecord("train", f"train-arm0-{seed}", seconds=HOUR),
            StageRecord("train", f"train-arm1-{seed}", seconds=HOUR, needs=[f"sample-{seed}"]),
            StageRecord("score", f"score-{seed}", seconds=HOUR / 4, needs=[f"sample-{seed}", f"train-arm0-{seed}"]),
            StageRecord("train", f"train-arm2-{seed}", seconds=HOUR, needs=[f"sample-{seed}", f"score-{seed}"]),
        ]
    return make_page(**{"rows": rows, "provenance": stages} | changes)


def test_cost_counts_each_stage_once_and_shares_what_serves_several_seeds():
    by_kind = costly().spent
    assert by_kind["arm0"] == {"train": HOUR}
    assert by_kind["arm1"] == {"fit": HOUR, "sample": HOUR / 2, "train": HOUR}
    assert by_kind["arm2"] == {"fit": HOUR, "sample": HOUR / 2, "train": 2 * HOUR, "score": HOUR / 4}
    assert [row["hours_per_seed"] for row in findings.summary_rows(costly())] == [1, 2.5, 3.75]


def test_cost_of_fewer_seeds_shares_a_generator_among_those_that_there_are():
    page = costly()
    fewer = costly(rows=[row for row in page.rows if (row["arm"], row["seed"]) != ("arm1", 2)])
    assert fewer.spent["arm1"] == {"fit": HOUR * 3 / 2, "sample": HOUR / 2, "train": HOUR}


def test_table_divides_differences_and_their_intervals_by_the_hours_and_is_sorted_by_it():
    page = costly()
    (section,) = cost.sections(page)
    (table,) = section.tables
    assert [row[0] for row in table.rows] == ["Arm 1", "Arm 2", "Arm 0"]
    first, d = table.rows[0], page.summary_of("arm1").decision
    assert first[1:6] == [
        (2.5 * HOUR, "2 h 30 min"),
        (HOUR, "1 h 00 min"),
        (HOUR, "1 h 00 min"),
        (HOUR / 2, "30 min 00 s"),
        None,
    ]
    assert first[6] == d.difference and first[7][0] == pytest.approx(d.difference / 2.5)
    shown = [float(x) for x in first[7][1].replace("[", "").replace("]", "").replace(",", "").split()]
    assert shown == pytest.approx([d.difference / 2.5, d.low / 2.5, d.high / 2.5], abs=0.005)
    assert table.rows[2][6:] == [None, (None, "")]
    assert section.words == [
        f"Of the arms that are better, Arm 1 gains most for an hour: {first[7][1]} points of Top-1."
    ]


def test_cost_of_one_seed_has_no_interval_and_names_no_best_arm():
    page = costly()
    one = costly(rows=[row for row in page.rows if row["seed"] == 0], ranks={}, curves={})
    (section,) = cost.sections(one)
    assert not section.words and not any("[" in row[7][1] for row in section.tables[0].rows)


def test_arm_with_a_stage_of_unknown_time_is_left_out_and_a_study_of_real_images_has_no_costs():
    stages = [one for one in costly().provenance if one.name != "sample-1"]
    assert set(costly(provenance=stages).spent) == {"arm0"}
    assert cost.sections(make_page()) == []
    assert cost.sections(costly(rows=[{**row, "n_synthetic": 0} for row in costly().rows])) == []


def test_hours_of_several_devices_are_said():
    stages = list(costly().provenance)
    stages[0] = StageRecord("fit", "fit", seconds=HOUR, device="A GPU")
    stages[1] = StageRecord("sample", "sample-0", seconds=HOUR, needs=["fit"], device="2 CPU cores")
    (section,) = cost.sections(costly(provenance=stages))
    assert section.notes[0].endswith("Stages ran on 2 CPU cores, A GPU: an hour of one is not an hour of another.")
