"""The data directory of a PostgreSQL for :mod:`chatproto.embedded`: what its files and processes tell, and clearing
away what a killed owner left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

from twisted.logger import Logger

from chatproto.embedded.programs import ProcessReactor, until
from chatproto.errors import StartError

STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
"""How to stop a server: signals and the seconds that each has. SIGINT is the fast shutdown, SIGQUIT the immediate one
(PostgreSQL manual, "Shutting Down the Server")."""

# sun_path of unix(7) has 108 bytes, one of them for the terminating NUL.
_LONGEST_SOCKET_PATH = 107
_SOCKET = ".s.PGSQL.5432"
_TEMPORARY = "/tmp"
_TEMPORARY_PREFIX = "chatproto-pg-"

_log = Logger()


def pid_file(directory: Path) -> list[str]:
    """The lines of postmaster.pid: pid, data directory, start time, port, socket directory, address, shared memory,
    status; fewer while the server starts, none without one."""
    try:
        text = (directory / "postmaster.pid").read_text(errors="surrogateescape")
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines()]


def is_ready(lines: list[str]) -> bool:
    """Whether these lines of postmaster.pid are of a server that takes connections."""
    return len(lines) >= 8 and lines[7] == "ready"


def answers(sockets: Path) -> bool:
    """Whether a server listens on the socket in this directory."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(sockets / _SOCKET))
        except OSError:
            return False
    return True


def servers_in(directory: Path) -> list[int]:
    """The processes of PostgreSQL that work in this directory: each has it as its working directory."""
    try:
        there = directory.stat()
    except FileNotFoundError:
        return []
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _works_in(entry, there)]


def _works_in(process: Path, there: os.stat_result) -> bool:
    # Processes come and go meanwhile, and those of other users are none of ours.
    with suppress(OSError):
        here = (process / "cwd").stat()
        same = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        return same and (process / "comm").read_text().strip() == "postgres"
    return False


async def vacate(reactor: ProcessReactor, directory: Path, keep: Path | None = None) -> None:
    """End what a killed owner left running in a directory, and remove what it left lying there.

    The caller must hold the lock of the directory.

    :param keep: a socket directory to leave in place.
    :raises StartError: where something still runs there.
    """
    lines = pid_file(directory)
    for number, limit in STOP_SIGNALS:
        left = servers_in(directory)
        if not left:
            break
        _log.warn("stopping the PostgreSQL that a killed process left behind ({pids})", pids=left)
        first = [pid for pid in left if lines and lines[0] == str(pid)]
        for pid in first or left:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        await until(reactor, lambda: not servers_in(directory), limit)
    sockets = Path(lines[4]) if len(lines) > 4 and lines[4] else None
    if servers_in(directory) or (sockets is not None and answers(sockets)):
        raise StartError(f"another PostgreSQL, which cannot be stopped from here, uses {directory}: stop it first")
    # PostgreSQL refuses to start where the process id in a lock file belongs to a zombie or to something unrelated.
    for path in {directory, sockets or directory}:
        (path / _SOCKET).unlink(missing_ok=True)
        (path / f"{_SOCKET}.lock").unlink(missing_ok=True)
    if sockets != keep:
        remove_socket_directory(sockets)
    (directory / "postmaster.pid").unlink(missing_ok=True)


def socket_directory(directory: Path) -> Path:
    """Where the socket of the server in this directory may be: there, or in a new directory of mode 0700 under /tmp."""
    path = os.fsencode(directory / _SOCKET)
    # libpq and PostgreSQL take a comma for the next entry of a list.
    if len(path) <= _LONGEST_SOCKET_PATH and b"," not in path:
        return directory
    return Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir=_TEMPORARY))


def remove_socket_directory(path: Path | None) -> None:
    """Remove the directory under /tmp that was made for a socket; leave any other alone."""
    if path is not None and str(path.parent) == _TEMPORARY and path.name.startswith(_TEMPORARY_PREFIX):
        shutil.rmtree(path, ignore_errors=True)


def barrier(path: Path, owner: tuple[int, int]) -> Path | None:
    """The outermost directory above a path that this user (uid, gid) may not pass through."""
    for directory in reversed(path.parents):
        status = directory.stat()
        if status.st_uid == owner[0]:
            passable = status.st_mode & 0o100
        elif status.st_gid == owner[1]:
            passable = status.st_mode & 0o010
        else:
            passable = status.st_mode & 0o001
        if not passable:
            return directory
    return None


def give(path: Path, owner: tuple[int, int]) -> None:
    """Give a tree of ours to the user (uid, gid) that PostgreSQL runs as; only root ever has to."""
    if path.lstat().st_uid != owner[0] and os.geteuid() == 0:
        for directory, _, files in os.walk(path, topdown=False):
            for name in files:
                os.chown(os.path.join(directory, name), *owner, follow_symlinks=False)
            os.chown(directory, *owner)
