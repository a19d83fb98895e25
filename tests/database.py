"""PostgreSQL for the tests: one server per run, and a fresh migrated database for each test.

The server is run by a process of its own (this module as a program), so that trial's reactor stays clean between tests.
It ends, and removes its files, when its standard input closes: whatever becomes of the tests, nothing stays behind.

``CHATPROTO_TEST_DATABASE=postgresql://…`` names a server to use instead; its user must be allowed to create databases.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.trial.unittest import TestCase

from chatproto.embedded import EmbeddedPostgres
from chatproto.embedded.directory import pid_file, servers_in
from chatproto.storage.migrations import migrate
from chatproto.storage.pool import Pool

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = os.environ.get("CHATPROTO_TEST_DATABASE")

# Nothing of it has to survive anything.
FAST = MappingProxyType(
    {
        "fsync": "off",
        "full_page_writes": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "autovacuum": "off",
        "max_connections": "300",  # some tests are several processes, each with pools of its own
    }
)
_ROOM = 1 << 30

_numbers = count(1)


def scratch() -> Path:
    """A new empty directory with a short path, in memory where there is room for it. The caller removes it."""
    memory = "/dev/shm"
    try:
        room = os.statvfs(memory)
        roomy = room.f_bavail * room.f_frsize > _ROOM and os.access(memory, os.W_OK)
    except OSError:
        roomy = False
    return Path(tempfile.mkdtemp(prefix="chatproto-test-", dir=memory if roomy else None))


def named(dsn: str, database: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def execute(dsn: str, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own, blocking, outside a transaction."""
    connection = psycopg2.connect(dsn, connect_timeout=10)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cast("list[tuple[Any, ...]]", cursor.fetchall()) if cursor.description else []
    finally:
        connection.close()


class Host:
    """The other process, seen from here: it keeps a server and its template until this process is gone.

    :param arguments: as :func:`main` takes them.
    """

    def __init__(self, *arguments: str) -> None:
        # A session of its own: Ctrl-C is for trial, and the host follows when trial has ended.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.database", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._commands = cast("IO[str]", self._process.stdin)
        self._answers = cast("IO[str]", self._process.stdout)
        atexit.register(self.close)
        self.template = self._answer()
        """The DSN of the migrated database that fresh ones are copied from."""

    def ask(self, command: str) -> None:
        self._commands.write(f"{command}\n")
        self._commands.flush()
        self._answer()

    def close(self) -> None:
        """End the server and remove its files."""
        atexit.unregister(self.close)
        self._process.communicate()

    def _answer(self) -> str:
        line = self._answers.readline().strip()
        if not line.startswith("ok"):
            self.close()
            raise RuntimeError(f"the PostgreSQL of the tests failed: {line or 'see above'}")
        return line.removeprefix("ok").strip()


class Cluster:
    """A server that a test may stop, freeze and kill. Every method blocks, the reactor too."""

    def __init__(self, settings: Mapping[str, str] = FAST) -> None:
        self._data = scratch()
        self._frozen: list[int] = []
        self._host = Host(str(self._data), json.dumps(dict(settings)))
        self.template = self._host.template

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return int(pid_file(self._data / "pg")[0])

    def stop(self) -> None:
        """Shut the server down; its clients are cut off."""
        self._host.ask("stop")

    def start(self) -> None:
        """Start it again, with the same databases under the same DSNs; nothing where it runs."""
        self._host.ask("start")

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """End the server as a crash does."""
        self._host.ask("kill")

    def pause(self) -> None:
        """Freeze every process of the server: connections stay open, and nothing answers."""
        # The postmaster first, so that it does not fork meanwhile.
        self._freeze(self.pid)
        for pid in servers_in(self._data / "pg"):
            self._freeze(pid)

    def resume(self) -> None:
        """Undo ``pause``; nothing where there was none."""
        frozen, self._frozen = self._frozen, []
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """End the server and remove its files."""
        self.resume()
        self._host.close()

    def _freeze(self, pid: int) -> None:
        if pid not in self._frozen:
            os.kill(pid, signal.SIGSTOP)
            self._frozen.append(pid)


@cache
def shared_template() -> str:
    """The template on the server that all tests share."""
    if OUTSIDE:
        return Host(OUTSIDE).template
    return Cluster().template


@cache
def breakable_cluster() -> Cluster:
    """The cluster for the tests that break it. It is whole again after each of them."""
    return Cluster()


async def fresh_database(template: str | None = None) -> str:
    """Make a database with all migrations applied and nothing in it, and return its DSN.

    :param template: DSN of the database to copy; default is that of the shared server.
    """
    source = template or shared_template()
    name = f"chatproto_test_{os.getpid()}_{next(_numbers)}"
    copied = urlsplit(source).path.lstrip("/")
    execute(named(source, "postgres"), f'CREATE DATABASE "{name}" TEMPLATE "{copied}" STRATEGY FILE_COPY')
    return named(source, name)


async def drop_database(dsn: str) -> None:
    """Drop a database; who is still connected is cut off."""
    name = urlsplit(dsn).path.lstrip("/")
    execute(named(dsn, "postgres"), f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


class DatabaseTestCase(TestCase):
    """A test with a fresh database, ``self.dsn``. What it connects it closes in ``tearDown`` or a clean-up."""

    dsn: str

    async def setUp(self) -> None:  # type: ignore[override]
        self.dsn = await fresh_database()
        self.addCleanup(lambda: Deferred.fromCoroutine(drop_database(self.dsn)))


class OwnClusterTestCase(TestCase):
    """A test with a fresh database, ``self.dsn``, on a server that it may break, ``self.cluster``."""

    dsn: str
    cluster: Cluster

    async def setUp(self) -> None:  # type: ignore[override]
        self.cluster = breakable_cluster()
        self.dsn = await fresh_database(self.cluster.template)
        self.addCleanup(lambda: Deferred.fromCoroutine(self._mend()))

    async def _mend(self) -> None:
        self.cluster.resume()
        self.cluster.start()
        await drop_database(self.dsn)


# What follows runs in the host process.


class _Commands(LineOnlyReceiver):
    """Reads one command a line, and answers each with a line that starts with "ok" where it was done."""

    delimiter = b"\n"

    def __init__(self, run: Callable[[str], Coroutine[Deferred[Any], Any, str]]) -> None:
        self._run = run
        self.closed: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        done = Deferred.fromCoroutine(self._run(line.decode()))
        done.addErrback(lambda failure: f"{line.decode()}: {failure.getErrorMessage()}")
        done.addCallback(self.answer)

    def answer(self, text: str) -> None:
        self.sendLine(" ".join(text.split()).encode())

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(None)


async def migrated(reactor: Any, dsn: str) -> str:
    """Apply all migrations to a database, and give its DSN back."""
    pool = Pool(dsn, clock=reactor, size=1)
    await pool.start()
    try:
        await migrate(pool)
    finally:
        await pool.close()
    return dsn


async def host_cluster(reactor: Any, data: Path, settings: dict[str, str]) -> None:
    """Serve a cluster of our own in ``data`` until standard input closes, then remove it."""
    gone: list[Deferred[str]] = []
    server = EmbeddedPostgres(data, reactor=reactor, settings=settings, died=lambda line: gone.pop().callback(line))

    async def run(command: str) -> str:
        if command == "stop":
            await server.stop()
        elif command == "start":
            await server.start()
        elif command == "kill":
            gone.append(Deferred())
            os.kill(int(pid_file(server.directory)[0]), signal.SIGKILL)
            await gone[0]
        return "ok"

    commands = _Commands(run)
    try:
        dsn = await migrated(reactor, await server.start())
        StandardIO(commands)
        commands.answer(f"ok {dsn}")
        await commands.closed
    finally:
        await server.stop()
        shutil.rmtree(data, ignore_errors=True)


async def host_outside(reactor: Any, server: str) -> None:
    """Keep a template on somebody's server until standard input closes."""
    dsn = named(server, f"chatproto_test_{os.getpid()}_template")
    await drop_database(dsn)
    execute(named(server, "postgres"), f'CREATE DATABASE "{urlsplit(dsn).path.lstrip("/")}"')

    async def run(command: str) -> str:
        raise ValueError("not on somebody else's server")

    commands = _Commands(run)
    try:
        await migrated(reactor, dsn)
        StandardIO(commands)
        commands.answer(f"ok {dsn}")
        await commands.closed
    finally:
        await drop_database(dsn)


def main(where: str, settings: str = "{}") -> None:
    """:param where: a directory for a cluster with ``settings`` (a JSON object), or the URL of a server."""

    async def host(reactor: Any) -> None:
        if "://" in where:
            await host_outside(reactor, where)
        else:
            await host_cluster(reactor, Path(where), json.loads(settings))

    react(lambda reactor: Deferred.fromCoroutine(host(reactor)))


if __name__ == "__main__":
    main(*sys.argv[1:])
