"""The connections that the ledger appends by.

They are its own, because taking one from the pool and giving it back takes a caller that is alone
half as long as the append.
"""

from collections.abc import Sequence
from typing import Any

from adapters.postgres.appending import EncodedCommand, Outcome, append_alone, append_batch
from adapters.postgres.connection import Database, translated


class Appender:
    """Appends commands, each call in a transaction of its own.

    Calls at the same time have a connection each. It is kept for the next call unless something
    fails.

    Args:
        database: of the ledger.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._spare: list[Any] = []

    async def append(self, commands: Sequence[EncodedCommand]) -> list[Outcome]:
        """Append commands with different keys.

        Raises:
            ConnectionLost: they may or may not have been appended.
        """
        if self._spare:
            connection = self._spare.pop()
        else:
            connection = await self._database.open_session("appender")
        try:
            with translated(self._database.where):
                if len(commands) == 1:
                    outcomes = [await append_alone(connection, commands[0])]
                else:
                    outcomes = await append_batch(connection, commands)
        except BaseException:
            connection.terminate()
            self.close()  # what broke one connection may have broken the others
            raise
        self._spare.append(connection)
        return outcomes

    def close(self) -> None:
        """End the connections that nothing is using."""
        while self._spare:
            self._spare.pop().terminate()
