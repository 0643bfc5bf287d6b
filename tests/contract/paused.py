"""A writer that stops inside its transaction, as a program of its own.

`python -m tests.contract.paused SECONDS`, with the URL of the database on standard input, appends
one event, says "appended" before it commits, and stops itself with SIGSTOP. Woken, it commits and
says "committed", or "refused" if the server has ended its transaction, which it does after SECONDS.
"""

import asyncio
import os
import signal
import sys

from adapters.postgres.appending import append_batch, encode_command
from adapters.postgres.connection import open_database
from domain.model.errors import Unavailable
from domain.model.recorded import Command
from tests.contract.builders import application, command

KEY = "paused"


def paused_command() -> Command:
    """What the writer appends."""
    return command(KEY, application(1000))


PAUSED = application(1000).id
"""The stream that it is in."""


async def append_and_stop(url: str, seconds: int) -> None:
    async with open_database(url, max_size=1) as database:
        try:
            async with database.transaction() as connection:
                await connection.execute(
                    f"SET LOCAL idle_in_transaction_session_timeout = '{seconds}s'"
                )
                await append_batch(connection, [encode_command(paused_command())])
                sys.stdout.write("appended\n")
                sys.stdout.flush()
                os.kill(os.getpid(), signal.SIGSTOP)
        except Unavailable:
            sys.stdout.write("refused\n")
        else:
            sys.stdout.write("committed\n")


if __name__ == "__main__":
    asyncio.run(append_and_stop(sys.stdin.readline().strip(), int(sys.argv[1])))
