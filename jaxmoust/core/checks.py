"""Checks of plain numbers and names, with the sentence that says what was got and what is allowed."""

import difflib
from collections.abc import Collection


def check_choice(name: str, value: str, allowed: Collection[str]) -> None:
    """Refuses a value that is not among those allowed. Raises ValueError."""
    if value not in allowed:
        close = difflib.get_close_matches(str(value), allowed, n=1)
        meant = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"got {name}={value!r}; known: {', '.join(map(repr, sorted(allowed)))}{meant}")


def check_rate(name: str, value: float | int) -> None:
    """Refuses a number outside [0, 1), such as the rate of a dropout. Raises ValueError."""
    if not 0 <= value < 1:
        raise ValueError(f"got {name}={value}, expected 0 <= {name} < 1.")


def check_not_negative(**values: float | int) -> None:
    """Refuses a number below 0, where 0 is off. Raises ValueError."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"got {name}={value}, expected a number >= 0 (0 = off).")


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Refuses a value of which something does not hold. Raises ValueError."""
    if not holds:
        raise ValueError(f"{name} {value!r}: expected {allowed}.")
