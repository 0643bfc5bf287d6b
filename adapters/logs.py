"""Logs of processes: an event name and its fields, one line each, on standard error."""

import logging
from pathlib import Path

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FieldsFormatter(logging.Formatter):
    """Writes ``time LEVEL logger event field=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line, with the fields that the caller gave as `extra`."""
        fields = (f" {k}={v}" for k, v in vars(record).items() if k not in _STANDARD)
        return super().formatMessage(record) + "".join(fields)


def log_to(file: Path | None, level: int) -> None:
    """Log everything of ours, and what goes wrong in the Kafka client.

    Args:
        file: where to append; None for standard error.
        level: as `logging` has it.
    """
    handler = logging.StreamHandler() if file is None else logging.FileHandler(file)
    handler.setFormatter(FieldsFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The client tells each step of joining a group, and calls it an error that a topic which is
    # about to be created is not there yet.
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    logging.getLogger("aiokafka.cluster").setLevel(logging.CRITICAL)
