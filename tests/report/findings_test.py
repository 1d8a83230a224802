"""Laws of what a page says: it follows from the numbers, claims no more, and says what is missing."""

import re
from dataclasses import replace

import numpy as np
import pytest
from made_up_page import make_page

from jaxmoust.analysis import accuracy
from jaxmoust.report import findings, index
from jaxmoust.report import html as report
from jaxmoust.report.arms import ArmInfo, Terms
from jaxmoust.report.numbers import seconds_text
from jaxmoust.report.page import Section


def written(page, folder):
    return report.write_report(page, folder).read_text(encoding="utf-8")


def without(page, arm, seed=None):
    """The fields of a page that lost the runs of an arm (of one seed)."""
    keep = [r for r in page.rows if r["arm"] != arm or (seed is not None and r["seed"] != seed)]
    ranks = {
        a: {s: r for s, r in of.items() if a != arm or (seed is not None and s != seed)} for a, of in page.ranks.items()
    }
    return {"rows": keep, "ranks": ranks}


def said(page):
    return " ".join(findings.answer(page))


def test_summary_resamples_the_seeds_of_an_arm_and_pairs_those_that_both_have():
    page = make_page(num_seeds=5)
    kept = [row for row in page.rows if (row["arm"], row["seed"]) != ("arm0", 3)]
    made = make_page(num_seeds=5, rows=kept)
    arm = findings.summary_rows(made)[1]
    top1 = [row["top1"] for row in kept if row["arm"] == "arm1"]
    drawn = accuracy.summary(top1, "bootstrap", num_resamples=findings.NUM_RESAMPLES).interval
    assert (arm["top1_bootstrap_low"], arm["top1_bootstrap_high"]) == pytest.approx(drawn, rel=1e-7)
    assert (arm["seeds"], arm["paired_seeds"]) == (5, 4)
    both = [[page.ranks[name][seed] for seed in (0, 1, 2, 4)] for name in ("arm1", "arm0")]
    paired = accuracy.paired_difference(*both, method="bootstrap", num_resamples=findings.NUM_RESAMPLES)
    assert arm["difference_bootstrap_low"] == pytest.approx(paired.interval[0], rel=1e-7)
    assert 0 < arm["p"] < 0.01 and (arm["verdict"], arm["family"]) == ("better", "mixture")


def test_summary_leaves_blank_what_one_seed_or_lost_ranks_cannot_say():
    one = findings.summary_rows(make_page(num_seeds=1))
    assert all(row[name] == "" for row in one for name in ("top1_sd", "top1_low", "p", "difference_bootstrap_low"))
    lost = findings.summary_rows(make_page(ranks={}))[1]
    assert lost["difference_low"] != "" and lost["difference_bootstrap_low"] == ""


@pytest.fixture
def of_two_baselines():
    """Two base sets: arm 0 with arm 1 of it, which gains, and arm 2, far below, with arm 3 of it, which loses."""
    arms = [ArmInfo(f"arm{i}", f"Arm {i}", "", f"arm{i // 2 * 2}") for i in range(4)]
    return make_page((0, 30, -100, -130), num_seeds=5, arms=arms)


def test_arms_are_compared_with_their_own_baseline_alone(of_two_baselines, tmp_path):
    page = of_two_baselines
    lines = page.summaries
    assert [line.base and line.base.name for line in lines] == [None, "arm0", None, "arm2"]
    assert [line.verdict for line in lines] == ["undecided", "better", "undecided", "worse"]
    for ours, theirs in ((1, 0), (3, 2)):
        tops = [lines[i].over_seeds("top1").mean for i in (ours, theirs)]
        assert lines[ours].decision.difference == pytest.approx(tops[0] - tops[1])
    words = said(page)
    assert words.startswith("Arm 1 is significantly better than Arm 0: +")
    assert "Significantly worse than its baseline: Arm 3" in words
    assert index.summarise(page)["baseline"]["arm"] == "Arm 0"
    html = written(page, tmp_path)
    assert "Difference from its baseline" in html and html.count("<small>baseline</small>") == 2
    assert (
        len(re.findall(r'<tr><td data-value="Arm [13]">Arm [13]</td>', html)) == 10
    )  # run against run: five seeds of each pair


def test_answer_names_the_winner_with_its_evidence():
    page = make_page()
    best, text = page.summaries[1], said(page)
    mean, (low, high) = best.decision.difference, best.decision.interval
    assert text.startswith(f"Arm 1 is significantly better than Arm 0: {mean:+.2f} [{low:+.2f}, {high:+.2f}] points")
    assert f"{best.fewer_errors:.0f} % fewer errors (95 % interval; p" in text
    assert "adjusted for 2 comparisons; n = 3 seeds, 240 test images)." in text
    assert "Significantly worse than Arm 0: Arm 2 (" in text
    assert [arm.verdict for arm in page.summaries] == ["undecided", "better", "worse"]


def test_answer_lists_further_winners_by_size():
    text = said(make_page(gains=(0, 40, 50, 30)))
    assert re.search(r"^Arm 2 is .* Significantly better as well: Arm 1 \(.*\) and Arm 3 \(", text)


def test_answer_claims_nothing_that_is_not_significant():
    page = make_page(gains=(0, 1, -1), seed_noise=8)
    text = said(page)
    assert text.startswith("No arm is significantly better than Arm 0: both are undecided. The largest gain")
    assert not re.search(r"Arm \d is significantly", text)
    assert re.search(r"Undecided, in brackets .*: Arm 1 \(.*\], about \d+ more seeds?\)", text)


def test_undecided_arms_say_the_seeds_and_the_time_that_would_decide_them():
    page = make_page(gains=(0, 5, -1, 4, 0, 2, 1), seed_noise=4)
    arm = next(arm for arm in page.summaries if arm.decision and arm.verdict == "undecided" and arm.decision.more_seeds)
    words, more = findings.verdict_words(arm, page), arm.decision.more_seeds
    seconds = more * (arm.seconds + page.summaries[0].seconds)
    assert words.startswith(f"undecided: about {more} more seed") and seconds_text(seconds) in words
    assert words in findings.table_text(page)


def test_equivalent_arms_are_said_with_the_margin(tmp_path):
    page = make_page(gains=(0, 0, 0, 0, 0, 0, -60), seed_noise=1, num_seeds=8, terms=Terms(margin=2.5))
    assert [arm.verdict for arm in page.summaries[1:]] == ["equivalent"] * 5 + ["worse"]
    text = said(page)
    assert "of 6, 1 worse and 5 equivalent within 2.5 points" in text
    assert re.search(r"Equivalent to Arm 0 within 2\.5 points: Arm \d \(", text)
    assert "equivalent within 2.5 points" in findings.table_text(page) and "◆" in written(page, tmp_path)
    one = make_page(gains=(0, 0), seed_noise=1, num_seeds=8, terms=Terms(margin=2.5))
    assert findings.headline(one).startswith("Arm 1 is equivalent to Arm 0 within 2.5 points: ")


def test_arms_of_the_same_runs_are_told_and_count_once():
    page = make_page(gains=(0, 40, -40, 20))
    rows = [row for row in page.rows if row["arm"] != "arm3"]
    rows += [{**row, "arm": "arm3"} for row in rows if row["arm"] == "arm1"]
    same = replace(page, rows=rows, ranks={**page.ranks, "arm3": page.ranks["arm1"]})
    assert (page.num_tests, same.num_tests) == (3, 2)
    assert findings.verdict_words(same.summaries[3], same) == "better; its runs are those of Arm 1"


def test_metric_that_is_decided_on_is_named_and_has_its_own_sense():
    base = make_page(gains=(0, 1, 2, -1, 0, 1))
    rng, n = np.random.default_rng(0), len(base.labels)
    loss = {a.name: {s: rng.gamma(2.0, 0.2 - 0.03 * (a.name == "arm2"), n) for s in range(3)} for a in base.arms}
    rows = [{**row, "nll": float(loss[row["arm"]][row["seed"]].mean())} for row in base.rows]
    page = replace(base, rows=rows, contributions=loss, terms=Terms("nll", 0.01))
    assert page.summaries[2].decision.difference < 0
    assert findings.headline(page).startswith("Arm 2 is significantly better than Arm 0") or "Arm 2:" in said(page)
    assert "nats of Negative log-likelihood" in findings.headline(page)


def test_answer_from_one_seed_claims_nothing(tmp_path):
    page = make_page(num_seeds=1)
    assert said(page).startswith("Nothing can be claimed from one seed.")
    assert "no interval" in written(page, tmp_path)


def with_controls(page, *controls, **changes):
    """The page with arms that have no synthetic image."""
    rows = [{**row, "n_synthetic": 0, "generator": "none"} if row["arm"] in controls else row for row in page.rows]
    return replace(page, rows=rows, **changes)


def test_answer_is_about_arms_with_synthetic_images_and_says_of_controls_what_is_significant():
    page = with_controls(make_page(gains=(0, 45, 30, -40), num_seeds=5), "arm0", "arm1", "arm3")
    assert [x.info.name for x in findings.contenders(page)] == ["arm2"]
    text = said(page)
    assert text.startswith("Arm 2 is significantly better than Arm 0: ") and "adjusted for 3 comparisons" in text
    assert re.search(r"Without synthetic images, significantly better than Arm 0: Arm 1 \(\+1", text)
    assert re.search(r"Without synthetic images, significantly worse than Arm 0: Arm 3 \(", text)
    assert findings.headline(page) == findings.answer(page)[0]
    assert index.summarise(page)["best"]["arm"] == "Arm 2"


def test_answer_of_arms_that_lose_to_real_images_does_not_speak_of_controls():
    page = with_controls(make_page(gains=(0, 1, -40, -60)), "arm0", "arm1")
    text = said(page)
    assert text.startswith("Every arm with synthetic images is significantly worse than Arm 0; Arm 2 the least")
    assert "Arm 1" not in text
    page = with_controls(make_page(gains=(0, 5, 1, -1), seed_noise=12), "arm0", "arm1")
    assert max(page.summaries[1:], key=lambda arm: arm.decision.difference).info.name == "arm1"
    text = said(page)
    assert text.startswith("No arm with synthetic images is significantly better than Arm 0: both are undecided.")
    assert "Arm 1" not in text


def test_answer_of_controls_alone_is_about_them():
    page = with_controls(make_page(), "arm0", "arm1", "arm2")
    assert said(page) == said(make_page())


def test_answer_begins_with_what_the_sections_say_to_the_question(tmp_path):
    section = Section("Domain gap", ("A.", "B."), answer="Told in <9 of 10> cases.")
    page = make_page(sections=(Section("Fine"), section))
    answer = findings.answer(page)
    assert answer[0] == "Told in <9 of 10> cases." and answer[1:] == findings.answer(make_page())
    html = written(page, tmp_path)
    assert (
        html.index("Told in &lt;9 of 10&gt; cases.") < html.index("better than Arm 0") < html.index('id="domain-gap"')
    )
    two = make_page(sections=(section, replace(section, title="Worth (edm)")))
    assert findings.section_answers(two) == [f"{title}: {section.answer}" for title in ("Domain gap", "Worth (edm)")]


def test_missing_seed_is_said_and_the_shared_seeds_are_compared(tmp_path):
    full = make_page()
    page = make_page(**without(full, "arm1", seed=2))
    assert "Arm 1: no run of seed 2" in written(page, tmp_path)
    assert "8 of 9" in written(page, tmp_path)
    assert [line.decision and line.decision.seeds for line in page.summaries] == [None, 2, 3]


def test_missing_arm_is_said(tmp_path):
    page = make_page(**without(make_page(), "arm2"))
    assert "Arm 2: no finished run." in written(page, tmp_path)
    assert page.summaries[2].decision is None


def test_missing_baseline_is_said(tmp_path):
    page = make_page(**without(make_page(), "arm0"))
    assert said(page) == "No run of Arm 0 has finished, so there is nothing to compare with yet."
    written(page, tmp_path)


def test_missing_ranks_leave_what_images_do_unknown_and_are_said():
    page = make_page(ranks={})
    lines = page.summaries
    assert lines[1].decision.image_error == 0 < make_page().summaries[1].decision.image_error
    assert "their part of the uncertainty is taken from the other arms" in " ".join(findings.gaps(page))


def test_missing_accuracy_of_a_failed_run_is_said():
    rows = make_page().rows
    page = make_page(ranks={}, rows=[*rows[:4], {**rows[4], "top1": float("nan"), "top5": ""}, *rows[5:]])
    lines = page.summaries
    assert "Arm 1: seed 1 has no Top-1." in findings.gaps(page)
    assert lines[1].decision.seeds == 2


def test_unequal_work_is_said():
    rows = make_page().rows
    page = make_page(rows=[*rows[:-1], {**rows[-1], "steps": 1000}])
    assert "not at equal work" in " ".join(findings.gaps(page))


def test_relative_errors_are_those_of_the_shared_seeds():
    line = make_page().summaries[1]
    base = [100 - row["top1"] for row in make_page().rows[:3]]
    ours = [100 - row["top1"] for row in make_page().rows[3:6]]
    assert line.fewer_errors == pytest.approx(100 * (1 - np.mean(ours) / np.mean(base)))


def test_table_text_is_aligned_and_plain():
    rows = findings.table_text(make_page()).splitlines()
    starts = [m.start() for m in re.finditer(r"-+", rows[1])]
    assert len(rows) == 1 + 1 + 3 + 1 and len(starts) == 7
    for row in (rows[0], *rows[2:5]):
        padded = row.ljust(starts[-1] + 1)
        assert all(start == 0 or padded[start - 2 : start] == "  " for start in starts)
    assert re.search(
        r"Arm 1 +better +\+\d+\.\d\d \[\+.*\] +(0|< 0)\.00\d +\d\d\.\d\d \[\d\d\.\d\d, \d\d\.\d\d\]", rows[3]
    )
    assert "\n".join(rows).isascii()


def test_table_text_has_no_top5_of_five_classes_or_fewer():
    page = make_page()
    page = make_page(rows=[{**row, "top5": ""} for row in page.rows])
    rows = findings.table_text(page).splitlines()
    assert "Top-5" in findings.table_text(make_page()) and "Top-5" not in rows[0]
    assert len(re.findall(r"-+", rows[1])) == 6 and re.search(r"Arm 1 +better .* +3$", rows[3])


def test_page_says_which_files_could_not_be_read(tmp_path):
    page = make_page(unread=("ranks.npy is damaged.",))
    assert findings.gaps(page) == ["ranks.npy is damaged."]


def test_answer_of_many_winners_names_the_first_and_counts_the_rest():
    text = said(make_page(gains=(0, *range(30, 46, 2))))
    winners = re.search(r"better as well: (.*?) and (\d) more\.", text)
    assert winners.group(1).count("Arm") == findings.MAX_LISTED and int(winners.group(2)) == 2
