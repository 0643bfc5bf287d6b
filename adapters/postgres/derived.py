"""Whether what `append` keeps beside the events agrees with them: versions of streams, answers.

The hash chain does not cover these tables; an append relies on them.
"""

from adapters.postgres.chain import Altered
from adapters.postgres.connection import NO_TIMEOUT, Database

_TIMEOUT = 3600.0  # seconds, as every stream and every key is looked at

# A stream whose version is not that of its last event.
_STREAM = """
SELECT stream, coalesce(s.version, 0) AS kept, coalesce(e.version, 0) AS recorded
FROM streams s
FULL JOIN (SELECT stream, max(version) AS version FROM events GROUP BY stream) e USING (stream)
WHERE s.version IS DISTINCT FROM e.version
ORDER BY stream LIMIT 1
"""

# A key that was answered with events that are beyond the end of the ledger.
_ANSWER = """
SELECT c.key, c.position + c.count - 1 AS last FROM commands c, tip t
WHERE c.count > 0 AND c.position + c.count - 1 > t.position
ORDER BY c.position LIMIT 1
"""


async def verify_derived(database: Database) -> None:
    """Compare streams and answers with the events.

    Raises:
        Altered: one disagrees; it is named.
    """
    async with database.transaction() as connection:
        await connection.execute(NO_TIMEOUT)
        stream = await connection.fetchrow(_STREAM, timeout=_TIMEOUT)
        answer = await connection.fetchrow(_ANSWER, timeout=_TIMEOUT)
    if stream is not None:
        raise Altered(
            f"stream {stream['stream']} has version {stream['kept']} in table streams, and "
            f"{stream['recorded']} by its events"
        )
    if answer is not None:
        raise Altered(
            f"key {answer['key']!r} was answered with event {answer['last']}, which is beyond the "
            "end of the ledger"
        )
