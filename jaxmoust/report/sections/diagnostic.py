"""What one diagnostic of a study found, as the sections of the page read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Diagnostic:
    """A finished diagnostic.

    Args:
        name: in the experiment. set, seed: the synthetic set that it looked at. set_title: its name for people; "" for
            the same. result: its result.json.
        folder: where it left what is drawn. top1_alone: of the classifiers that trained on that set alone, one a seed,
            where an arm did.
    """

    name: str
    set: str
    seed: int
    result: Mapping[str, Any]
    folder: Path
    top1_alone: tuple[float, ...] = ()
    set_title: str = ""

    @property
    def title(self) -> str:
        """The set, and the diagnostic's name where it is another."""
        title = self.set_title or self.set
        return title if self.set == self.name else f"{title} ({self.name})"
