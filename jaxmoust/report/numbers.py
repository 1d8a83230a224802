"""How the page and the terminal write numbers: differences with their sign, percentages, p values, durations."""

MINUS = "\N{MINUS SIGN}"


def points(value: float) -> str:
    """Returns a difference with its sign and two decimals; what rounds to nothing has no sign."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", MINUS)


def percent(value: float, digits: int = 2, most: float = 100.0) -> str:
    """Returns a percentage, or what else has these bounds, cut at 0 and `most`."""
    return f"{min(max(value, 0.0), most):.{digits}f}"


def interval_text(
    mean: float, interval: tuple[float, float] | None, signed: bool = False, digits: int = 2, most: float = 100.0
) -> str:
    """Returns "91.30 [90.12, 92.48]"; the mean alone without an interval; what has no sign as `percent` does."""
    shown = [points(x) if signed else percent(x, digits, most) for x in (mean, *(interval or ()))]
    return f"{shown[0]} [{', '.join(shown[1:])}]" if interval else shown[0]


def p_text(p: float) -> str:
    """Returns a p value to two digits or so: 0.31, 0.012, < 0.001."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def p_equals(p: float) -> str:
    """Returns "p = 0.31" or "p < 0.001"."""
    return f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"


def seconds_text(seconds: float) -> str:
    """Returns 0.4 s, 38 s, 4 min 05 s or 2 h 07 min."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s" if seconds >= 10 else f"{seconds:.1f} s"
