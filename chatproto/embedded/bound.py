"""Become a program that does not outlive its parent. Run as a file of its own, it needs nothing but Python::

    python -I -S bound.py PARENT SIGNAL IDENTITY PROGRAM [ARGUMENT ...]

PARENT is the process id of the caller, SIGNAL the number that the kernel sends when the caller is gone
(prctl(2), PR_SET_PDEATHSIG). IDENTITY is ``-`` (stay who we are), ``namespace:UID:GID`` (a user namespace in which
our own ids are called UID and GID, so that even root has no privilege and still owns its files; user_namespaces(7))
or ``user:NAME`` (root only: become that user). PROGRAM is an absolute path.

Exits with 126 and one line on stderr where it cannot.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000


def _call(name: str, *arguments: int) -> None:
    """Call a function of libc; OSError where it returns -1."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) == -1:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _enter_namespace(uid: int, gid: int) -> None:
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    if outside_uid == 0:
        os.setgroups([])
    _call("unshare", CLONE_NEWUSER)
    # setgroups has to be given up before a gid may be mapped from inside.
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {outside_uid} 1"),
        ("gid_map", f"{gid} {outside_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def _become(name: str) -> None:
    user = pwd.getpwnam(name)
    os.initgroups(name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def main(parent: int, death: int, identity: str, program: str, arguments: list[str]) -> None:
    # A session of its own: Ctrl-C in the terminal is for the parent alone, which stops us in its own order.
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    kind, *names = identity.split(":")
    if kind == "namespace":
        _enter_namespace(int(names[0]), int(names[1]))
    elif kind == "user":
        _become(names[0])
    # Only now: a change of credentials clears it. The parent may have gone before, and then nothing is sent.
    _call("prctl", PR_SET_PDEATHSIG, death, 0, 0, 0)
    if os.getppid() != parent:
        raise OSError("the parent is gone")
    try:
        os.execv(program, [program, *arguments])
    except OSError as error:
        raise OSError(error.errno, error.strerror, program) from error


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
    except (OSError, KeyError) as error:
        print(error, file=sys.stderr)
        sys.exit(126)
