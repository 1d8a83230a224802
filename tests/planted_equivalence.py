"""Runs planted by a known learning curve and a known law, with the noise of seeds; as cells and as rows."""

import numpy as np

from jaxmoust.analysis.equivalence.learning_curve import Cells

ALPHA, BETA, GAMMA = 120.0, 0.35, 3.0  # an error of 25 % at 125 images, 6 % at 32,000
REAL_SIZES = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)
BASES, RATIOS = (250, 1000, 4000), (0.5, 1, 2, 4, 10)
STUDY, EFFECTIVE = (2e-4, 1.0), (0.7, 1.5)  # (a, b) and (eta, kappa)


def error(n):
    """The planted learning curve, percent."""
    return ALPHA * np.asarray(n, float) ** -BETA + GAMMA


def study_gain(n_base, n_syn, a=STUDY[0], b=STUDY[1]):
    """n_real_plus of the study's law."""
    return n_base / b * np.log1p(n_syn / n_base * np.exp(-a * n_base))


def effective_gain(n_base, n_syn, eta=EFFECTIVE[0], kappa=EFFECTIVE[1]):
    """n_real_plus of the effective sample size."""
    return kappa * n_syn**eta


def plant(
    seed=0, gain=study_gain, num_seeds=5, sd=0.8, real=REAL_SIZES, bases=BASES, ratios=RATIOS, of_real=error
) -> tuple[Cells, Cells]:
    """Real and mixed cells; sd is a run's spread in points at an error of 20 %, and grows as the error's root."""
    rng = np.random.default_rng(seed)

    def runs(n):
        told = of_real(n)
        return np.clip(told + sd * np.sqrt(max(told, 0.0) / 20) * rng.standard_normal(num_seeds), 0, 100)

    grid = [(n, round(n * ratio)) for n in bases for ratio in ratios]
    alone = Cells(np.array(real), np.zeros(len(real), int), [runs(n) for n in real])
    n_base, n_syn = np.array(grid).T
    return alone, Cells(n_base, n_syn, [runs(n + gain(n, s)) for n, s in grid])


def rows(alone: Cells, mixed: Cells, generator="edm", **fields) -> list[dict]:
    """The cells as rows of results.csv: arms real_N, and edm_N_M."""
    found = []
    for cells in (alone, mixed):
        for n, s, errors in zip(cells.n_base, cells.n_synthetic, cells.errors, strict=True):
            arm = f"{generator}_{n}_{s}" if s else f"real_{n}"
            kind = {"generator": generator if s else "none", "fine_tuning": "none", "sampler": "random"}
            share = {"share": s / (s + n), "steps": 500}
            for i, e in enumerate(errors):
                size = {"n_base": int(n), "n_synthetic": int(s), "top1": float(100 - e)}
                found.append({"arm": arm, "seed": i, **kind, **size, **share, **fields})
    return found
