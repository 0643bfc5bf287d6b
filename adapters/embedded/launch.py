"""Becomes a server that ends with the process that started it.

Run by path, with the standard library alone, because it stands between us and every child:
``python -I -S launch.py PARENT SIGNAL USER REACH... -- PROGRAM ARGUMENT...``. It asks the kernel
for SIGNAL when its parent ends, becomes USER (``uid:gid``, or ``-`` to stay), and executes PROGRAM.
A ``preexec_fn`` could do the same, but it runs Python between fork and exec, which a process with
threads must not do.

USER must be able to reach the paths REACH. Where it cannot, because they lie below a private folder
such as ``/root``, it keeps the one capability that opens them, CAP_DAC_OVERRIDE. PostgreSQL asks
``access()`` about its own program, and the kernel answers that question without capabilities unless
the secure bit NO_SETUID_FIXUP is set (capabilities(7)).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522

CANNOT_RUN = 126


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    """Raises OSError with the C library's errno when a call failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(what: str, option: int, *values: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*values, *(0,) * (4 - len(values)))]
    _checked(_libc.prctl(option, *padded), what)


def _first_out_of_reach(uid: int, gid: int, paths: list[str]) -> str | None:
    """The first of ``paths`` that the user cannot enter or execute without any capability."""
    own_uid, own_gid = os.geteuid(), os.getegid()
    os.setegid(gid)
    os.seteuid(uid)
    try:
        for path in paths:
            if not os.access(path, os.X_OK, effective_ids=True):
                return path
        return None
    finally:
        os.seteuid(own_uid)
        os.setegid(own_gid)


def _become(uid: int, gid: int, reach: list[str]) -> None:
    """Changes to the user for good, with CAP_DAC_OVERRIDE only where a path asks for it."""
    os.setgroups([])
    blocked = _first_out_of_reach(uid, gid, reach)
    if blocked is None:
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        return
    try:
        _prctl("keep capabilities", _PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        header = _Header(_CAPABILITY_VERSION_3, 0)
        only = 1 << _CAP_DAC_OVERRIDE
        sets = (_Sets * 2)(_Sets(only, only, only), _Sets(0, 0, 0))
        _checked(_libc.capset(ctypes.byref(header), sets), "capset")
        _prctl("raise CAP_DAC_OVERRIDE", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)
    except OSError as exc:
        raise SystemExit(
            f"user {uid} cannot reach {blocked}, and may not be given CAP_DAC_OVERRIDE ({exc}). "
            "Choose another --data-dir, one that every user can enter, or run as a user that is "
            "not root."
        ) from exc


def main(arguments: list[str]) -> None:
    """Sets the death signal, drops root, and executes the program.

    Args:
        arguments: see the module.
    """
    # What the interpreter ignores stays ignored in the program. SIGINT comes blocked: one that the
    # interpreter takes may be lost when the program takes its place, one that waits ends us here.
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT,))
    end = arguments.index("--")
    parent, death_signal, user, *reach = arguments[:end]
    program = arguments[end + 1 :]
    if user != "-":
        uid, gid = user.split(":")
        _become(int(uid), int(gid), reach)
    # After the change of user, which clears it (prctl(2)).
    _prctl("set the death signal", _PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != int(parent):
        raise SystemExit("the parent ended before the program began")
    os.execv(program[0], program)  # noqa: S606  (no shell is the point)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, SystemExit) as error:
        sys.stderr.write(f"launch: {error}\n")
        raise SystemExit(CANNOT_RUN) from None
