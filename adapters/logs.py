"""Logs of processes: an event name and its fields, one line each, on standard error."""

import logging

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class FieldsFormatter(logging.Formatter):
    """Writes ``time LEVEL logger event field=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The line, with the fields that the caller gave as `extra`."""
        fields = (f" {k}={v}" for k, v in vars(record).items() if k not in _STANDARD)
        return super().formatMessage(record) + "".join(fields)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Log everything of ours, and what goes wrong in the Kafka client."""
    handler = logging.StreamHandler()
    handler.setFormatter(FieldsFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    # The client tells each step of joining a group, and calls it an error that a topic which is
    # about to be created is not there yet.
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    logging.getLogger("aiokafka.cluster").setLevel(logging.CRITICAL)
