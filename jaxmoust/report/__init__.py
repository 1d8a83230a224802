"""The page of a study: sentences, tables, charts and pictures of its results.

In a notebook: `results("runs/mine")` and `figures("runs/mine")["accuracy"]`. Their libraries are imported when they are
called.
"""

from pathlib import Path
from typing import Any


def results(workdir: str | Path) -> Any:
    """Returns the runs of a study, results.csv, as a pandas DataFrame; text columns hold "" where there is nothing.

    Raises: ValueError: there is no results.csv, or it has no rows.
    """
    import pandas as pd

    from jaxmoust.analysis.equivalence.results_csv import AT, read_rows
    from jaxmoust.report.page import TEXT_COLUMNS

    table = pd.DataFrame(read_rows([Path(workdir) / "results.csv"])).drop(columns=AT)
    for name in table.columns.difference(list(TEXT_COLUMNS)):
        table[name] = pd.to_numeric(table[name], errors="coerce")
    return table


def figures(workdir: str | Path) -> dict[str, Any]:
    """Returns the figures of a study's page by name, as objects of Altair, which a notebook shows.

    Raises: ValueError: no study has finished there.
    """
    from jaxmoust.report.charts import base

    if not (charts := base.load(Path(workdir) / "report" / "figures")):
        raise ValueError(f"{str(workdir)!r} holds no report/figures: give the folder of a study that has finished.")
    return charts
