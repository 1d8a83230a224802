"""The checks of arguments in this folder, with errors of one form: got, allowed, remedy."""

import difflib
import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any


def check_choice(name: str, value: Any, allowed: Iterable[Any], of: str = "") -> None:
    """Refuses a value that is not one of those allowed.

    Raises: ValueError: with the choices.
    """
    if value not in (choices := list(allowed)):
        shown = ", ".join(str(choice) or "''" for choice in choices)
        raise ValueError(f"Got {name}={value!r}{of}, expected {shown}. Choose one.{meant(value, choices)}")


def meant(value: Any, allowed: Iterable[Any]) -> str:
    """A sentence with the choice that is closest to one that does not exist; "" where none is close."""
    close = difflib.get_close_matches(str(value), map(str, allowed), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_number(
    name: str, value: Any, allowed: str, is_allowed: Callable[[float], bool] = math.isfinite, of: str = ""
) -> float:
    """Returns a number as a plain float.

    Args:
        name: what the error calls it.
        value: what was given.
        allowed: the range in words, such as "0 <= beta < 1".
        is_allowed: the same as a function; numbers that are not finite are never allowed.
        of: what it is a number of, such as " of a ramp".
    Raises: ValueError: not a number, or one that is not allowed.
    """
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and is_allowed(number)):
        raise ValueError(f"Got {name}={value!r}{of}, expected {allowed}.")
    return number


def check_whole(name: str, value: Any, low: int = 1) -> int:
    """Returns a whole number as a plain integer.

    Raises: ValueError: not a whole number from `low` (2^62 at most, where positions end).
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) < 2**62:
        raise ValueError(f"Got {name}={value!r}, expected a whole number from {low}.")
    return int(value)


def listed(items: Iterable[Any], most: int = 5) -> str:
    """Writes the first few items, and how many more there are: "'a', 'b' and 3 more"."""
    items = list(items)
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more
