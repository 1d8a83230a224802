"""How often a study claims something false, and how often it finds what is there: simulated, for each kind of study.

A study is simulated to the single answer: whether a run is right on a test image is a coin of the image's difficulty,
the arm, what the seed does to the arm, and what the arm does to this image (a probit). Studies are of 12 arms: the
baseline and 11 mixtures, in half of the studies one of them truly better, or of the quickstart's kind, with four arms
far below that spread more. Claims
count as false where an arm that equals the baseline is called better or worse, one that is better worse, or one that
differs by the margin or more equivalent. "crossed + Holm" is the test that the rules replace.

Run: python experiments/speed/decisions.py   (`--studies=200` for a first look, `--rules` beside each other)
Cost: 40 min for "auto" and 2 min for 500 studies of the test before, on one CPU core beside other work.
Result (797 images where nothing else is said; false claims of studies where no arm differs but the far ones / where one
gains 2.6 points; how often that gain is found. 4,000 studies of three seeds, 400 of them at 10,000 images, 2,409 of
five, 1,204 of ten and 602 of twenty seeds; in brackets 500 and fewer by the test before):
                                                 false claims                 found
    3 seeds                                      .036 / .033 (.020 / .016)    .59 (.02)
    3 seeds, arm x image .4                      .026 / .025 (.004 / .000)    .53 (.01)
    3 seeds, arm x image .6                      .019 / .020 (.000 / .004)    .49 (.01)
    3 seeds, far arms                            .029 / .029 (.016 / .016)    .57 (.04)
    3 seeds, spreads scattered                   .041 / .034 (.024 / .016)    .53 (.04)
    3 seeds, one arm three times as wide         .043 / .035 (.016 / .016)    .55 (.02)
    3 seeds, baseline three times as wide        .066 / .059 (.024 / .024)    .26 (.02)
    3 seeds, heavy tails                         .028 / .034 (.016 / .016)    .64 (.04)
    3 seeds, 50 images                           .002 / .004 (.000 / .004)    .01 (.00)
    3 seeds, 10,000 images                       .025 / .045 (.000 / .040)    .87 (.36)
    3 seeds, 3 arms                              .050 / .029 (.040 / .016)    .54 (.30)
    3 seeds, 4 arms, baseline 3 times as wide    .063 / .051 (.024 / .016)    .30 (.07)
    5 seeds                                      .033 / .030 (.000 / .027)    .85 (.37)
    5 seeds, arm x image .6                      .023 / .018 (.000 / .007)    .77 (.50)
    5 seeds, far arms                            .022 / .024 (.007 / .020)    .87 (.47)
    5 seeds, spreads scattered                   .039 / .036 (.033 / .060)    .79 (.43)
    5 seeds, heavy tails                         .025 / .022 (.040 / .020)    .85 (.49)
    10 seeds                                     .043 / .023 (.040 / .040)    1.00 (1.00)
    10 seeds, arm x image .6                     .018 / .015 (.013 / .000)    .99 (.96)
    10 seeds, far arms                           .025 / .020 (.013 / .000)    1.00 (1.00)
    20 seeds                                     .060 / .030 (.027 / .027)    1.00 (1.00)
In words: no more than 6 % of studies claim anything falsely, but for a baseline that spreads three times as widely as
    every other arm, which three seeds do not always show (6.2 % of 4,000 studies).
"""

import argparse
import time
from collections.abc import Mapping

import numpy as np
from scipy import special, stats

from jaxmoust.analysis import decisions

FAR = ("synthetic_alone",) * 4
# Cell -> seeds, images, arm x image, spread over seeds (of the probit: 0.1 is 1.3 points at 93.5 %), what varies.
CELLS = {
    "3 seeds": dict(),
    "3 seeds, arm x image .4": dict(arm_image=0.4),
    "3 seeds, arm x image .6": dict(arm_image=0.6),
    "3 seeds, far arms": dict(far=True),
    "3 seeds, spreads scattered": dict(scatter=5.0),
    "3 seeds, one arm three times as wide": dict(wide=1),
    "3 seeds, baseline three times as wide": dict(wide=0),
    "3 seeds, heavy tails": dict(tails=3),
    "3 seeds, 50 images": dict(num_images=50),
    "3 seeds, 10,000 images": dict(num_images=10_000, spread=0.04),
    "3 seeds, 3 arms": dict(num_arms=3),
    "3 seeds, 4 arms, baseline three times as wide": dict(num_arms=4, wide=0),
    "5 seeds": dict(num_seeds=5),
    "5 seeds, arm x image .6": dict(num_seeds=5, arm_image=0.6),
    "5 seeds, far arms": dict(num_seeds=5, far=True),
    "5 seeds, spreads scattered": dict(num_seeds=5, scatter=5.0),
    "5 seeds, heavy tails": dict(num_seeds=5, tails=3),
    "10 seeds": dict(num_seeds=10),
    "10 seeds, arm x image .6": dict(num_seeds=10, arm_image=0.6),
    "10 seeds, far arms": dict(num_seeds=10, far=True),
    "20 seeds": dict(num_seeds=20),
}
GAIN = 2.6  # points, of the last mixture


def simulate(
    rng: np.random.Generator,
    num_seeds: int = 3,
    num_images: int = 797,
    num_arms: int = 12,
    arm_image: float = 0.0,
    spread: float = 0.06,
    far: bool = False,
    scatter: float = 0.0,
    wide: int | None = None,
    tails: int = 0,
    gain: float = 0.0,
) -> tuple[dict[str, dict[int, np.ndarray]], dict[str, str], dict[str, float]]:
    """Returns a study's values, the families, and the true differences in points.

    Args:
        arm_image, spread: standard deviations, of the probit, by image and by seed of each arm.
        far: whether the last four arms are far below and spread four times as wide.
        scatter: degrees of freedom by which the arms' variances differ from each other; 0 for not at all.
        wide: the arm that spreads three times as wide. tails: degrees of freedom of the seeds; 0 for normal ones.
        gain: of the last mixture.
    """
    sd = np.full(num_arms, spread)
    if scatter:
        sd *= np.sqrt(scatter / rng.chisquare(scatter, num_arms))
    if wide is not None:
        sd[wide] *= 3
    top1 = np.full(num_arms, 93.4)
    last = num_arms - 1
    if far:
        sd[-4:] *= 4
        top1[-4:], last = (90, 54, 77, 83), num_arms - 5
    top1[last] += gain
    image_sd = 1.0  # of the difficulty
    # Over images and seeds an arm is right as often as the probit of its place over the spread of all that varies.
    total = np.sqrt(1 + image_sd**2 + arm_image**2 + sd**2)
    place = special.ndtri(top1 / 100) * total
    seeds = rng.standard_normal((num_arms, num_seeds))
    if tails:
        seeds = rng.standard_t(tails, (num_arms, num_seeds)) * np.sqrt((tails - 2) / tails)
    of_image = image_sd * rng.standard_normal(num_images)
    mean = place[:, None] + of_image + arm_image * rng.standard_normal((num_arms, num_images))
    latent = mean[:, None] + (sd[:, None] * seeds)[..., None]
    hits = latent + rng.standard_normal(latent.shape, np.float32) > 0
    names = ["real", *(f"arm{i}" for i in range(1, num_arms))]
    values = {
        name: dict(enumerate(np.multiply(of, 100.0, dtype=np.float32))) for name, of in zip(names, hits, strict=True)
    }
    families = {name: "synthetic_alone" if far and i >= num_arms - 4 else "mixture" for i, name in enumerate(names)}
    return values, families, {name: top1[i] - top1[0] for i, name in enumerate(names) if i}


def false_claim(verdict: str, truth: float, margin: float) -> bool:
    """Whether a verdict is false of a true difference."""
    claimed = {"better": 1, "worse": -1}.get(verdict)
    return abs(truth) >= margin if verdict == "equivalent" else claimed is not None and np.sign(truth) != claimed


def crossed_holm(values: Mapping[str, Mapping[int, np.ndarray]]) -> dict[str, str]:
    """The verdicts of the test before: each arm alone, up to twice S - 1 degrees of freedom, Holm's correction."""
    p, means = {}, {}
    base = np.stack([*values["real"].values()])
    for arm in values:
        if arm == "real":
            continue
        d = np.stack([*values[arm].values()]) - base
        s, n = d.shape
        mean, rows, columns = d.mean(), d.mean(axis=1), d.mean(axis=0)
        of_seeds = n * max(np.square(rows - mean).sum() / (s - 1), (100 / n) ** 2 / 12)
        residual = np.square(d - rows[:, None] - columns + mean).sum() / ((s - 1) * (n - 1))
        beyond = max(s * np.square(columns - mean).sum() / (n - 1) - residual, 0.0)
        dof = (s - 1) * min(max((of_seeds + beyond) / max(of_seeds, residual), 1.0) ** 2, 2.0)
        p[arm], means[arm] = 2 * stats.t.sf(abs(mean) / np.sqrt((of_seeds + beyond) / d.size), dof), mean
    verdicts, worst = {}, 0.0
    for i, arm in enumerate(sorted(p, key=p.get)):
        worst = max(worst, min(1.0, p[arm] * (len(p) - i)))
        verdicts[arm] = "undecided" if worst >= 0.05 else "better" if means[arm] > 0 else "worse"
    return verdicts


def measure(rule: str, cell: Mapping, num_studies: int, seed: int = 0) -> tuple[float, float, float]:
    """Returns the part of the null studies, of the others that claim something false, and the power to find GAIN."""
    false, found = [0, 0], 0
    for of_gain, gain in enumerate((0.0, GAIN)):
        rng = np.random.default_rng((seed, of_gain))
        for _ in range(num_studies // 2):
            values, families, truths = simulate(rng, gain=gain, **cell)
            if rule == "crossed + Holm":
                verdicts = crossed_holm(values)
            else:
                decided = decisions.decide(values, "real", families, rule=rule)
                verdicts = {arm: one.verdict for arm, one in decided.items()}
            false[of_gain] += any(false_claim(verdicts[arm], truth, decisions.MARGIN) for arm, truth in truths.items())
            found += sum(verdicts[arm] == "better" for arm, truth in truths.items() if truth > 0)
    half = num_studies // 2
    return false[0] / half, false[1] / half, found / half


def main() -> None:
    """Measures and prints a line for each kind of study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=4000, help="of each kind, half of them with a true gain")
    parser.add_argument("--rules", default="auto,crossed + Holm", help="which, by ','")
    parser.add_argument("--cells", default="", help="only those whose name has this")
    args = parser.parse_args()
    started = time.perf_counter()
    for name, cell in CELLS.items():
        if args.cells in name:
            # As many answers in every cell at most, so that those of 10,000 images take no longer than others.
            size = cell.get("num_seeds", 3) * cell.get("num_images", 797)
            studies = min(args.studies, max(args.studies // 10, int(args.studies * 2400 / size)))
            rates = [
                "{}: false {:.3f} / {:.3f}, found {:.2f}".format(rule, *measure(rule, cell, studies))
                for rule in args.rules.split(",")
            ]
            print(f"{name:<46} {studies:>5}  {'; '.join(rates)}", flush=True)
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
