"""Durations as people write them."""

import re
from datetime import timedelta

from domain.model.errors import Rejected

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST = timedelta(days=36_500)
"""So that it can be added to any date that people mean, and taken from it."""

_DURATION = re.compile(r"(?P<number>\d{1,11})\s*(?P<unit>[smhd])")


def duration(text: str) -> timedelta:
    """The duration that a text such as ``90s``, ``15m``, ``24h`` or ``7d`` stands for.

    Raises:
        Rejected: it is none, or longer than `LONGEST`; the message begins with the text.
    """
    parts = _DURATION.fullmatch(text.strip())
    try:
        if parts is not None:
            found = timedelta(**{_UNITS[parts["unit"]]: int(parts["number"])})
            if found <= LONGEST:
                return found
    except OverflowError:
        pass
    raise Rejected(
        f"{text!r}, not a duration such as 90s, 15m, 24h or 7d, of at most {LONGEST.days}d"
    )
