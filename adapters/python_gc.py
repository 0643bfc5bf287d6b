"""How often Python looks for garbage that refers to itself."""

import gc

YOUNG = 50_000
"""Objects that are made, and not given up, before the youngest are looked at; Python's is 700."""


def collect_less() -> None:
    """Look for cycles less often, and never among what was imported; called once by a process.

    A batch is hundreds of thousands of objects without cycles, which live for a moment. Looking at
    them again and again takes a third of the time in which they are read and applied.
    """
    gc.freeze()
    gc.set_threshold(YOUNG)
