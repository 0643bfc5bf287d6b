"""Let PostgreSQL's files hold nothing of objects that were deleted."""

from adapters.postgres.connection import NO_TIMEOUT, SCHEMA, Database

_TIMEOUT = 3600.0  # seconds, as the table is written anew

# Dead rows stay in the files of a table until it is written anew; a plain VACUUM only lets their
# place be used again.
_REWRITE = f"VACUUM (FULL) {SCHEMA}.objects"

# What was inserted is in the write-ahead log too. Segments before the next one are not needed after
# a checkpoint, and are removed rather than used again where `wal_recycle` is off.
_NEXT_SEGMENT = "SELECT pg_switch_wal()"
_CHECKPOINT = "CHECKPOINT"


async def vacuum(database: Database) -> None:
    """Write the table of objects anew and let go of the log; writers wait meanwhile.

    Needs an owner of the table who may also do checkpoints, as the embedded server's user.
    """
    async with database.session("vacuum") as connection:
        await connection.execute(NO_TIMEOUT.replace("LOCAL ", ""))
        for statement in (_REWRITE, _NEXT_SEGMENT, _CHECKPOINT):
            await connection.execute(statement, timeout=_TIMEOUT)
