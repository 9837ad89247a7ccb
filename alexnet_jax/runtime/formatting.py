"""Numbers for people: percentages, bytes and counts."""

import math


def format_percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage: 0.12345 is '12.35%'; '' for None, 'NaN' for what is not finite."""
    if fraction is None:
        return ''
    return f'{fraction:.{digits}%}' if math.isfinite(fraction) else 'NaN'


def format_top5(error: float | None, classes: int | None) -> str:
    """A top-5 error as a percentage; '-' where five guesses cannot miss, as there are not more classes."""
    return '-' if error is not None and classes is not None and classes <= 5 else format_percent(error)


def format_bytes(count: float) -> str:
    """A number of bytes in decimal units: '6.3 GB', '243.9 MB'."""
    return f'{count / 1e9:,.1f} GB' if count >= 1e9 else f'{max(count, 0) / 1e6:.1f} MB'


def format_count(count: int | None) -> str:
    """A whole number with separators, '60,965,224'; '' for 0 and None."""
    return f'{count:,}' if count else ''
