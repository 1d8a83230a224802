"""Checks what `make quickstart` left: every arm at every seed, plausible accuracies, a page that needs no network."""

import csv
import sys
from pathlib import Path

folder = Path(sys.argv[1])
rows = list(csv.DictReader((folder / "results.csv").open()))
arms = {"real", "duplicated", "augmented", "edm_only", "edm_mixed", "ddpm_mixed"}
assert {(r["arm"], r["seed"]) for r in rows} == {(a, s) for a in arms for s in "012"}, "a run is missing"
assert len({r["steps"] for r in rows}) == 1, "the arms did not do equal work"
for row in rows:
    # Digits are guessed right 10 % of the time; 100 real ones alone give about 90 %.
    assert 75.0 < float(row["top1"]) <= float(row["top5"]) <= 100.0, row
    assert int(row["n_test"]) == 797, row
page = (folder / "report" / "index.html").read_text()
assert "<svg" in page and 'src="http' not in page and 'href="http' not in page, "the page is not self-contained"
print(f"{len(rows)} rows, page of {len(page) // 1024} KiB: as they should be")
