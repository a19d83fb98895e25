"""The embedded PostgreSQL: a server of our own in the data directory, so that there is nothing to set up.

``DATA/pg`` is the cluster, ``DATA/pg.lock`` is locked (flock) by the process that owns it, ``DATA/pg.log`` is what
the server wrote. The server is a direct child that ends with this process, however that ends, and listens on a Unix
socket in a directory of mode 0700 only: who can reach it is let in without a password.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from twisted.python.logfile import LogFile

from chatproto.embedded.directory import (
    STOP_SIGNALS,
    answers,
    barrier,
    give,
    is_ready,
    pid_file,
    remove_socket_directory,
    socket_directory,
    vacate,
)
from chatproto.embedded.programs import Child, ProcessReactor, Programs, find, reason, run, spawn, until
from chatproto.errors import StartError

DATABASE = "chatproto"
"""The name of the database and of its owner."""

# Recovery after a crash reads at most max_wal_size (1 GB), which takes a slow disk minutes.
_START_LIMIT = 300.0
_JOIN_LIMIT = 30.0

# Appended to postgresql.conf when the cluster is made: an operator may change them there.
_DEFAULTS = """
# chatproto
max_connections = 100
shared_buffers = 128MB
jit = off                          # our statements are short
log_checkpoints = off
"""

# On the command line: these hold whatever postgresql.conf says.
_FIXED = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",
    # We write the log ourselves, with a bound on its size.
    "log_destination": "stderr",
    "logging_collector": "off",
    # Statements and details hold what people wrote to each other.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
}

_LOG_BYTES = 4_000_000
_LOGS_KEPT = 2

_STOPPED = "the embedded PostgreSQL was stopped while it started"


class EmbeddedPostgres:
    """A PostgreSQL server that lives and dies with this process. Linux only.

    :param data: the data directory of chatproto; made if missing.
    :param settings: more of postgresql.conf, which win over the file.
    :param died: called with one line when the server ends and nobody asked it to. ``start`` starts it again, with the
        same DSN; the directory stays locked until ``stop``.
    :param patience: seconds to wait for another process that is about to give the directory back.
    """

    log = Logger()

    def __init__(
        self,
        data: Path,
        *,
        reactor: ProcessReactor,
        settings: Mapping[str, str] = MappingProxyType({}),
        died: Callable[[str], None] | None = None,
        patience: float = 5.0,
    ) -> None:
        self.data = data.absolute()
        self.directory = self.data / "pg"
        self._reactor = reactor
        self._settings = settings
        self._died = died
        self._patience = patience
        self._turn = DeferredLock()
        self._programs: Programs | None = None
        self._lock: int | None = None
        self._sockets: Path | None = None
        self._child: Child | None = None
        self._stopping = False
        self.running = False
        """Whether the server is up, as far as this process knows."""

    async def start(self, join: bool = False) -> str:
        """Start the server, making the cluster first if there is none.

        :param join: where another process owns the directory, use its server; ``stop`` then does nothing.
        :returns: a libpq URL of the database.
        :raises StartError: says in one line why not, and what to do.
        """
        if sys.platform != "linux":
            raise StartError("the embedded PostgreSQL needs Linux: give --database")
        await self._turn.acquire()
        held = self._lock is not None
        try:
            if not self.running:
                self._stopping = False
                try:
                    await self._start(join)
                except OSError as error:
                    raise StartError(f"the embedded PostgreSQL cannot start: {error}; see --data") from error
            return f"postgresql://{DATABASE}@/{DATABASE}?host={quote(os.fsencode(str(self._sockets)), safe='/')}"
        except Exception:
            await self._end()
            if not held:
                self._release()
            raise
        finally:
            self._turn.release()

    async def stop(self) -> None:
        """Stop the server, also one that is just starting. Close all connections first."""
        self._stopping = True
        if self._child is not None:
            self._child.signal(signal.SIGINT)
        await self._turn.acquire()
        try:
            await self._end()
            self._release()
        finally:
            self._turn.release()

    async def _start(self, join: bool) -> None:
        # Traversable, because a root process may have to run PostgreSQL as somebody else. What is inside is 0700.
        self.data.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        if self._lock is None and not await self._take(join):
            self.running = True
            return
        if self._programs is None:
            self._programs = await find(self._reactor)
        identity = self._programs.identity
        closed = barrier(self.directory, identity.owner)
        if closed is not None:
            raise StartError(
                f"PostgreSQL, which runs as {identity.argument} here, cannot reach {closed}: chmod o+x {closed}, run as"
                " an ordinary user, or give another --data"
            )
        await vacate(self._reactor, self.directory, self._sockets)
        await self._make_cluster(self._programs)
        await self._serve(self._programs)

    async def _end(self) -> None:
        self.running = False
        child, self._child = self._child, None
        if child is not None:
            for number, limit in STOP_SIGNALS:
                child.signal(number)
                if await until(self._reactor, lambda: child.status is not None, limit):
                    break
                self.log.warn("PostgreSQL has not stopped {limit} s after {signal}", limit=limit, signal=number.name)
            await until(self._reactor, lambda: child.complete, 5)

    def _release(self) -> None:
        if self._lock is not None:
            remove_socket_directory(self._sockets)
            os.close(self._lock)
            self._lock = None
        self._sockets = None

    # Who owns the directory.

    async def _take(self, join: bool) -> bool:
        """Lock the directory. With ``join``, False where another process has it and its server is ready."""
        lock = os.open(self.data / "pg.lock", os.O_RDWR | os.O_CREAT, 0o600)
        taken = joined = False

        def attempt() -> bool:
            nonlocal taken, joined
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken = True
            except BlockingIOError:
                joined = join and self._find_running()
            return taken or joined or self._stopping

        try:
            await until(self._reactor, attempt, _JOIN_LIMIT if join else self._patience)
            if self._stopping:
                raise StartError(_STOPPED)
            if taken:
                os.ftruncate(lock, 0)
                os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
                self._lock = lock
            elif not joined:
                owner = os.pread(lock, 20, 0).decode(errors="replace").strip() or "?"
                raise StartError(
                    f"{self.data} is in use by another chatproto (process {owner}): stop it, or give another --data"
                )
        finally:
            if self._lock is None:
                os.close(lock)
        return taken

    def _find_running(self) -> bool:
        """Find the socket of the server that another process runs; whether it is ready."""
        lines = pid_file(self.directory)
        if not is_ready(lines):
            return False
        self._sockets = Path(lines[4])
        return answers(self._sockets)

    # The cluster and its server.

    async def _make_cluster(self, programs: Programs) -> None:
        """Make the cluster if there is none: aside, so that ``pg`` is whole or missing."""
        if self.directory.exists():
            self._check_cluster(programs)
            give(self.directory, programs.identity.owner)
            return
        new = self.data / "pg.new"
        await vacate(self._reactor, new)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        give(new, programs.identity.owner)
        # The builtin provider sorts alike on every machine; before 17 there is only libc's.
        builtin = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        locale = builtin if programs.major >= 17 else ("--locale=C.UTF-8", "--lc-messages=C")
        fsync = self._settings.get("fsync", "on")
        hurry = ("--no-sync",) if fsync == "off" else ()
        options = (f"--username={DATABASE}", "--encoding=UTF8", "--auth-local=trust", "--auth-host=reject")
        await self._run(programs, "initdb", "-D", str(new), *options, *locale, *hurry)
        create = f"CREATE DATABASE {DATABASE}\n".encode()
        strict = ("-c", "exit_on_error=on", "-c", f"fsync={fsync}")
        await self._run(programs, "postgres", "--single", "-D", str(new), *strict, "template1", input=create)
        with (new / "postgresql.conf").open("a") as file:
            file.write(_DEFAULTS)
            file.flush()
            os.fsync(file.fileno())
        new.rename(self.directory)
        # Else a power cut could take the whole directory, with what was committed in it meanwhile.
        data = os.open(self.data, os.O_RDONLY)
        os.fsync(data)
        os.close(data)

    def _check_cluster(self, programs: Programs) -> None:
        version = self.directory / "PG_VERSION"
        if not version.exists():
            raise StartError(f"{self.directory} is not a PostgreSQL cluster: move it away, or give another --data")
        made_by = version.read_text().strip()
        if made_by != str(programs.major):
            raise StartError(
                f"{self.directory} was made by PostgreSQL {made_by}, but {programs.directory} is {programs.version}:"
                f" install PostgreSQL {made_by}, move the data with pg_upgrade, or give another --data"
            )

    async def _run(self, programs: Programs, name: str, *arguments: str, input: bytes = b"") -> None:
        def started(child: Child) -> None:
            self._child = child

        await run(self._reactor, programs.identity, programs.directory / name, *arguments, input=input, started=started)
        if self._stopping:
            raise StartError(_STOPPED)

    async def _serve(self, programs: Programs) -> None:
        """Run the server and wait until it is ready."""
        if self._sockets is None:
            self._sockets = socket_directory(self.directory)
            give(self._sockets, programs.identity.owner)
        # A list, whose entries are quoted like SQL names.
        quoted = '"' + str(self._sockets).replace('"', '""') + '"'
        settings = {**self._settings, **_FIXED, "unix_socket_directories": quoted}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = LogFile("pg.log", str(self.data), _LOG_BYTES, defaultMode=0o600, maxRotatedFiles=_LOGS_KEPT)
        said = ""

        def output(data: bytes) -> None:
            nonlocal said
            said = (said + data.decode(errors="replace"))[-2000:]
            log.write(data)
            log.flush()

        def exited() -> None:
            if self.running and not self._stopping:
                self.running = False
                self._child = None
                line = f"PostgreSQL is gone: {child.status or 'somebody stopped it'} (see {log.path})"
                self.log.error("{line}", line=line)
                if self._died is not None:
                    self._died(line)

        def settled() -> bool:
            lines = pid_file(self.directory)
            ready = is_ready(lines) and lines[0] == str(child.pid)
            return child.status is not None or self._stopping or ready

        child = self._child = Child(output, exited=exited, completed=log.close)
        program = programs.directory / "postgres"
        # Where we are killed: SIGINT cuts the clients off and leaves everything on disk.
        spawn(
            self._reactor, child, programs.identity, program, "-D", str(self.directory), *arguments, death=signal.SIGINT
        )
        in_time = await until(self._reactor, settled, _START_LIMIT)
        if self._stopping:
            raise StartError(_STOPPED)
        if child.status is not None:
            await until(self._reactor, lambda: child.complete, 5)
            raise StartError(f"PostgreSQL cannot start: {reason(said) or child.status} (see {log.path})")
        if not in_time:
            raise StartError(f"PostgreSQL was not ready after {_START_LIMIT:.0f} s (see {log.path})")
        self.running = True
        self.log.info("PostgreSQL {version} serves {path}", version=programs.version, path=self.directory)
