"""Checks what `make quickstart` left: every arm at every seed, plausible accuracies, a page that needs no network."""

import csv
import sys
from pathlib import Path

folder = Path(sys.argv[1])
rows = list(csv.DictReader((folder / "results.csv").open()))
outside = {f"{generator}_{how}" for generator in ("sd", "sd_lora", "sd_full") for how in ("only", "mixed")}
arms = {"real", "duplicated", "augmented", "edm_only", "edm_mixed", "ddpm_mixed", *outside}
assert {(r["arm"], r["seed"]) for r in rows} == {(a, s) for a in arms for s in "012"}, "a run is missing"
assert len({r["steps"] for r in rows}) == 1, "the arms did not do equal work"
for row in rows:
    # Digits are guessed right 10 % of the time; 100 real ones alone give about 90 %, typeset ones about 50 %.
    least = 25.0 if row["arm"] in ("sd_only", "sd_lora_only") else 70.0
    assert least < float(row["top1"]) <= float(row["top5"]) <= 100.0, row
    assert int(row["n_test"]) == 797, row
    # The ten classes of the test set have about as many images each, and probabilities are not kept.
    assert abs(float(row["balanced_accuracy"]) - float(row["top1"])) < 2.0, row
    assert float(row["worst_class"]) < min(float(row["balanced_accuracy"]), 100.0) and float(row["nll"]) > 0, row
    assert 0 < float(row["macro_f1"]) <= 100 and 0 < float(row["ece"]) < 100 and row["auroc"] == "", row
tuned = {r["arm"]: r["fine_tuning"] for r in rows}
assert (tuned["sd_only"], tuned["sd_lora_only"], tuned["sd_full_only"]) == ("none", "lora", "full"), tuned
page = (folder / "report" / "index.html").read_text()
assert 'id="how-close-to-real-images"' in page, "the page lacks what the sets were found to be"
assert "<svg" in page and 'src="http' not in page and 'href="http' not in page, "the page is not self-contained"
print(f"{len(rows)} rows, page of {len(page) // 1024} KiB: as they should be")
