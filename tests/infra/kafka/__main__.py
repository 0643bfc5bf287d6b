"""Run a command with a broker: `python -m tests.infra.kafka COMMAND…`.

The command finds it in `MIGRATION_LEDGER_KAFKA_BOOTSTRAP`. With `--missing` instead of a command it
says what this machine lacks for that, or nothing.
"""

import asyncio
import os
import sys

from tests.infra.kafka.artifacts import CannotFetch, libraries, missing
from tests.infra.kafka.server import archive_classes, running_kafka


async def _run(command: list[str]) -> int:
    await archive_classes()
    async with running_kafka() as kafka:
        environment = {**os.environ, "MIGRATION_LEDGER_KAFKA_BOOTSTRAP": kafka.bootstrap}
        sys.stderr.write(f"Apache Kafka at {kafka.bootstrap}, log in {kafka.log_path}\n")
        child = await asyncio.create_subprocess_exec(*command, env=environment)
        return await child.wait()


def main(arguments: list[str]) -> int:
    """Do what the module says; returns the exit status."""
    if arguments == ["--missing"]:
        sys.stdout.write(missing() or "")
        return 0
    try:
        libraries()
    except CannotFetch as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return asyncio.run(_run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
