"""The program, which stops itself where it has made a write and not yet sent it.

A process that is paused stops anywhere in its code; this is the worst place. The first argument is
the number of the write.
"""

import os
import signal
import sys
from itertools import count
from typing import Any

from adapters.cli.main import main
from adapters.qdrant import store

_fill_points = store.fill_points
_numbers = count(1)
_PAUSED_AT = int(sys.argv.pop(1))


def _fill_and_pause(*arguments: Any) -> None:
    _fill_points(*arguments)
    if next(_numbers) == _PAUSED_AT:
        os.kill(os.getpid(), signal.SIGSTOP)


store.fill_points = _fill_and_pause
main()
