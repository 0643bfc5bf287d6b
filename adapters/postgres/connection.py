"""Connections to PostgreSQL, and the one place that turns its errors into ours."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from adapters.transactions import LOST, transaction
from domain.model.errors import DiskFull, Halted, LedgerError, Rejected, Unavailable

SCHEMA = "migration_ledger"

_CONNECT_TIMEOUT = 10.0  # seconds
_ACQUIRE_TIMEOUT = 30.0  # seconds
_CLOSE_TIMEOUT = 2.0  # seconds
# The server gives a statement up before the client does, so that it is not left running.
_STATEMENT_TIMEOUT = 60  # seconds
_COMMAND_TIMEOUT = _STATEMENT_TIMEOUT + 5.0  # seconds

# Lets the statements of this transaction take as long as they need; callers give a `timeout`, too.
NO_TIMEOUT = "SET LOCAL statement_timeout = 0"

# Lets this transaction wait for something else than the database.
NO_IDLE_TIMEOUT = "SET LOCAL idle_in_transaction_session_timeout = 0"

_SETTINGS = {
    "application_name": "migration-ledger",
    "search_path": SCHEMA,
    # append() relies on each of its statements seeing what was committed before it.
    "default_transaction_isolation": "read committed",
    "statement_timeout": f"{_STATEMENT_TIMEOUT}s",
    "idle_in_transaction_session_timeout": f"{_STATEMENT_TIMEOUT}s",
    # Every statement is short and goes by an index. Plans are made once and must be those for large
    # tables, because tables grow faster than statistics follow; planning for each array of keys
    # again takes longer than reading them.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "off",
}
_RECOVERING = {"migration_ledger.recovering": "on"}

_BUSY = (
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    # A lock, or a database that lets nobody in while it is being replaced.
    asyncpg.ObjectNotInPrerequisiteStateError,
    OSError,
)
_NO_SCHEMA = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
)
# What working() raises, see migrations/0005_timelines.sql.
_HALTED = "MLH01"
_NO_TEXT = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
_NOT_LET_IN = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
)


class ConnectionLost(Unavailable):
    """The connection ended during a call; what was being committed may or may not be."""


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn errors of the driver into errors of the ledger.

    Args:
        where: what to call the database in messages; never with a password.
    """
    try:
        yield
    except LOST as error:
        said = _said(error)
        raise ConnectionLost(f"lost the connection to PostgreSQL at {where}: {said}") from error
    except _NOT_LET_IN as error:
        raise Unavailable(f"PostgreSQL at {where} did not let us in: {_said(error)}") from error
    except asyncpg.DiskFullError as error:
        raise DiskFull(f"PostgreSQL at {where}", _said(error)) from error
    except _BUSY as error:
        reason = _said(error) or "no answer in time"
        raise Unavailable(f"PostgreSQL at {where}: {reason}") from error
    except _NO_SCHEMA as error:
        raise Unavailable(
            f"the database {where} lacks tables of this program ({_said(error)}); run `db upgrade`"
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise Rejected(f"PostgreSQL at {where} refuses: {_said(error)}") from error
    except asyncpg.PostgresError as error:
        raise _refused(error, where) from error
    except asyncpg.InterfaceError as error:
        if isinstance(error, ValueError):  # wrong arguments: a defect, not a broken connection
            raise
        raise ConnectionLost(f"no connection to PostgreSQL at {where}: {_said(error)}") from error


def _refused(error: asyncpg.PostgresError, where: str) -> LedgerError:
    if error.sqlstate == _HALTED:
        return Halted(_said(error))
    if isinstance(error, _NO_TEXT):
        return Rejected("a text has the character NUL (U+0000), which is in no name")
    return LedgerError(f"PostgreSQL at {where}: {_said(error)}")


def _said(error: BaseException) -> str:
    """What an error says, without the DETAIL of PostgreSQL, which holds values of rows."""
    return str(error.args[0]) if error.args else ""


class Database:
    """A pool of connections to one database.

    Attributes:
        where: host, port and name of the database, for messages.
    """

    def __init__(self, url: str, pool: Any, settings: Mapping[str, str]) -> None:
        self._url = url
        self._pool = pool
        self._settings = settings
        self.where = where(url)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection of the pool; each statement is its own transaction.

        A caller that is cancelled cuts it. The driver would wait until the server has ended the
        statement, and a server that hangs does not.
        """
        with translated(self.where):
            connection = await self._pool.acquire(timeout=_ACQUIRE_TIMEOUT)
            try:
                yield connection
            except asyncio.CancelledError:
                # A connection that has ended is the pool's again and refuses this, which must not
                # take the place of the cancellation.
                with suppress(asyncpg.InterfaceError):
                    connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A connection of the pool in a transaction that the block's end commits."""
        async with self.connection() as connection, transaction(connection):
            yield connection

    @asynccontextmanager
    async def session(self, purpose: str) -> AsyncIterator[Any]:
        """A connection of its own, for what lives as long as a session: LISTEN, session locks.

        Args:
            purpose: what the server's list of connections says it is for.
        """
        with translated(self.where):
            connection = await self.open_session(purpose)
            try:
                yield connection
            finally:
                connection.terminate()

    async def open_session(self, purpose: str) -> Any:
        """A connection like that of `session`, which the caller has to terminate."""
        with translated(self.where):
            return await asyncpg.connect(
                self._url,
                timeout=_CONNECT_TIMEOUT,
                command_timeout=_COMMAND_TIMEOUT,
                server_settings={
                    **self._settings,
                    "application_name": f"migration-ledger {purpose}",
                },
            )


@asynccontextmanager
async def open_database(
    url: str, *, min_size: int = 1, max_size: int = 8, recovering: bool = False
) -> AsyncIterator[Database]:
    """Connect to a database.

    Args:
        url: ``postgresql://user:password@host:port/database``.
        min_size: connections that are kept open.
        max_size: connections that are opened at most.
        recovering: whether this is for a recovery, which goes on while work is halted.

    Raises:
        Unavailable: the server cannot be reached or does not let us in.
    """
    settings = _SETTINGS | _RECOVERING if recovering else _SETTINGS
    with translated(where(url)):
        pool: Any = await asyncpg.create_pool(
            url,
            min_size=min_size,
            max_size=max_size,
            timeout=_CONNECT_TIMEOUT,
            command_timeout=_COMMAND_TIMEOUT,
            server_settings=settings,
            reset=_nothing_to_reset,
        )
    try:
        yield Database(url, pool, settings)
    except asyncio.CancelledError:
        pool.terminate()
        raise
    finally:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await pool.close()
        except (TimeoutError, *LOST):
            pool.terminate()


async def _nothing_to_reset(_connection: object) -> None:
    """Give a connection back without the driver's query, which costs as much as a small statement.

    What is set, locked or listened to for longer than a transaction has a `session`. An open
    transaction is rolled back all the same.
    """


def where(url: str) -> str:
    """Host, port and name of the database of a URL, without its user and password."""
    parts = urlsplit(url)
    try:
        port = parts.port or 5432
    except ValueError:
        # The cause would quote a part of the URL, which may be one of the password.
        raise Rejected(
            "a database URL is malformed; in its password write #, / and ? as %23, %2F and %3F"
        ) from None
    return f"{parts.hostname or 'localhost'}:{port}/{parts.path.lstrip('/')}"
