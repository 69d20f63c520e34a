"""Times, bytes and counts as people read them."""


def duration(seconds: float | None) -> str:
    """A time with three digits and its unit, or nothing when unknown."""
    if seconds is None:
        return ""
    if seconds >= 1:
        return f"{_digits(seconds)} s"
    if seconds >= 1e-3:
        return f"{_digits(1e3 * seconds)} ms"
    return f"{_digits(1e6 * seconds)} µs"


def size(value: float | None) -> str:
    """Bytes with their unit, or nothing when unknown."""
    return _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def count(value: float | None) -> str:
    """A number with its thousands, or nothing when unknown."""
    return _scaled(value, ("", "k", "M", "G", "T"))


def _scaled(value: float | None, units: tuple[str, ...]) -> str:
    if value is None:
        return ""
    power = 0
    while value >= 999.5 and power < len(units) - 1:
        value, power = value / 1000, power + 1
    number = f"{value:.0f}" if power == 0 else _digits(value)
    return f"{number} {units[power]}".strip()


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
