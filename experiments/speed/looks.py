"""Do the looks of a study until it is decided keep their promise, and how many runs do they save?

Simulated studies like the quickstart: real images beside 2 controls, 5 mixtures and 4 arms of synthetic images alone,
which spread over seeds as far as given; a run's answers to 64 groups of test images are normal. Each is looked at after
3, 5, 7, 10, 15 and 20 seeds, as `jaxmoust study --until-decided` does (analysis/looks.py), with a margin of 1 point.

Run: python experiments/speed/looks.py --studies=1000 --case="obrien_fleming no", and so on
Cost: about 60 ms a study on one CPU core; these took a quarter of an hour beside other jobs.
Result (percent; of studies with any false claim, of arms that differ and are found, of arms that do not and are called
equivalent, of the runs that 20 seeds of every arm are; 300 studies know 5 % to 2.5 points, 1,000 to 1.4):
  spending        case                            studies  false difference  false equivalence  found  equivalent  runs
  obrien_fleming  no difference, equal spreads      1,000               4.3                0.0      -        33.8   99.4
  obrien_fleming  no difference, images too         1,000               3.9                0.0      -         0.0  100.0
  obrien_fleming  no difference, unequal spreads    1,000               5.6                0.0      -         5.9   99.9
  pocock          no difference, equal spreads        300               6.7                0.0      -        15.0   99.1
  pocock          no difference, images too           300               2.3                0.0      -         0.0   99.9
  pocock          no difference, unequal spreads      300               7.0                0.0      -         0.7   99.6
  obrien_fleming  differences of just the margin       20               0.0                0.0   41.7         5.0  94.9
  obrien_fleming  as the quickstart's                  20               0.0                0.0   45.0         5.0  80.2
  obrien_fleming  mixtures gain 2 points               20               0.0                0.0   99.4         5.0  61.7
  pocock          differences of just the margin      300               1.0                0.3   34.9         1.2  90.5
  pocock          as the quickstart's                 300               1.0                0.0   45.5         0.8  74.0
  pocock          mixtures gain 2 points              300               1.0                0.0   99.3         0.8  48.3
O'Brien and Fleming's spending errs as often as allowed, within what 1,000 studies can tell; Pocock's 6.7 and 7.0 % of
300 are within two standard errors of 5 % and may lie above it, so that it is not the default. Where mixtures gain 2
points, 38 % (of 20 studies only) and 52 % of the runs are saved; where nothing differs, hardly any.
"""

import argparse

import numpy as np

from jaxmoust.analysis import decisions
from jaxmoust.analysis.looks import Compared, Rule, follow

FAMILIES = {
    **dict.fromkeys(("duplicated", "augmented"), "control"),
    **dict.fromkeys((f"mixed_{i}" for i in range(5)), "mixture"),
    **dict.fromkeys((f"only_{i}" for i in range(4)), "synthetic_alone"),
}
ARMS = ("real", *FAMILIES)
GROUPS = 64  # of test images

# Name -> (spread over seeds of all arms but those of synthetic images alone, theirs, arm x image term in points, true
# difference of the mixtures, of those of synthetic images alone).
CASES = {
    "no difference, equal spreads": (1.0, 1.0, 0.0, 0.0, 0.0),
    "no difference, images too": (1.0, 1.0, 0.4, 0.0, 0.0),
    "no difference, unequal spreads": (0.7, 3.0, 0.2, 0.0, 0.0),
    "differences of just the margin": (0.7, 0.7, 0.2, 1.0, -1.0),
    "as the quickstart's": (0.7, 3.0, 0.2, 0.3, -8.0),
    "mixtures gain 2 points": (0.7, 3.0, 0.2, 2.0, -8.0),
}


def simulate(rng: np.random.Generator, rule: Rule, case: tuple[float, ...]) -> dict[str, float]:
    """One study: whether it claims a difference or an equivalence falsely, what it finds, and its runs."""
    spread, of_alone, images, gain, loss = case
    truth = {arm: {"mixture": gain, "synthetic_alone": loss}.get(FAMILIES.get(arm, ""), 0.0) for arm in ARMS}
    values = {}
    hard = rng.normal(0, 3.0, GROUPS)  # that some images are harder for all arms costs nothing: it cancels
    for arm in ARMS:
        own = rng.normal(0, images * np.sqrt(GROUPS), GROUPS)
        seeds = rng.normal(0, of_alone if FAMILIES.get(arm) == "synthetic_alone" else spread, rule.most_seeds)
        noise = rng.normal(0, 0.5 * np.sqrt(GROUPS), (rule.most_seeds, GROUPS))
        of_runs = 80 + truth[arm] + hard + own + seeds[:, None] + noise - noise.mean(1, keepdims=True)
        values[arm] = dict(enumerate(of_runs))
    compared = {arm: Compared("real", FAMILIES.get(arm, "control")) for arm in ARMS}
    paths = follow(rule, range(rule.most_seeds), values, compared)
    verdicts = {arm: one.verdict for path in paths for arm, one in path.decisions.items()}
    num_runs = {arm: n for path in paths for arm, n in path.num_seeds.items()}
    differ = {"better", "worse"}
    return {
        "false difference": any(verdicts[arm] in differ for arm in FAMILIES if truth[arm] == 0),
        "false equivalence": any(verdicts[arm] == "equivalent" for arm in FAMILIES if abs(truth[arm]) >= rule.margin),
        "found": np.mean([verdicts[arm] in differ for arm in FAMILIES if truth[arm]] or [np.nan]),
        "equivalent": np.mean([verdicts[arm] == "equivalent" for arm in FAMILIES if not truth[arm]] or [np.nan]),
        "runs": (sum(num_runs.values()) + max(num_runs.values())) / (len(ARMS) * rule.most_seeds),
    }


def main() -> None:
    """Prints a line for each spending function and case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--case", default="", help="a part of the names of the cases to simulate")
    args = parser.parse_args()
    decisions.MOST_MORE = (
        1  # how many seeds more would decide an arm is not asked here, and would take most of the time
    )
    for spending in ("obrien_fleming", "pocock"):
        for name, case in ((name, case) for name, case in CASES.items() if args.case in f"{spending} {name}"):
            rng = np.random.default_rng(0)
            found = [simulate(rng, Rule(spending=spending), case) for _ in range(args.studies)]
            shares = "  ".join(f"{100 * np.mean([one[key] for one in found]):5.1f} % {key}" for key in found[0])
            print(f"{spending:<14} {name:<31} {shares}", flush=True)


if __name__ == "__main__":
    main()
