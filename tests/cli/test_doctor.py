"""The doctor: each thing that can be wrong is named with what to do, and what is right is not complained of."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import stat
from importlib import resources
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from chatproto.cli import doctor
from chatproto.cli.doctor import FAIL, OK, WARN, Check
from chatproto.config import Config
from chatproto.storage import migrations
from chatproto.web.site import make_site
from tests.database import DatabaseTestCase, execute, named, scratch
from tests.files import bucket

RANDOM = b"5f1d0c9be8a7463210fedcba98765432"


class InDirectory(SynchronousTestCase):
    """A data directory as a start makes it."""

    def setUp(self) -> None:
        self.data = scratch()
        self.addCleanup(shutil.rmtree, self.data, ignore_errors=True)

    def write(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        path = self.data / name
        path.write_bytes(content)
        path.chmod(mode)
        return path


class FileStoreTests(InDirectory):
    def check(self, status: str, *words: str, **options: Any) -> None:
        found = doctor.file_store(Config(data=self.data, **options))
        self.assertEqual(status, found.status, found)
        for word in words:
            self.assertIn(word, f"{found.found} {found.advice}")
        self.assertEqual(status == OK, not found.advice)

    def test_fine(self) -> None:
        """Files can be kept where the daemon would keep them, and the doctor makes nothing."""
        self.check(OK, f"{self.data}/files")
        self.check(OK, f"{self.data}/deep/er", files=self.data / "deep" / "er")
        self.assertEqual([], list(self.data.iterdir()))

    def test_a_file(self) -> None:
        """A file in its place is told, also further up."""
        path = self.write("file", b"")
        self.check(FAIL, "no directory", "--files", files=path)
        self.check(FAIL, "no directory", files=path / "deeper")

    def test_no_way_in(self) -> None:
        if os.geteuid() == 0:
            raise SkipTest("root gets in everywhere")
        self.data.chmod(0o500)
        self.check(FAIL, "not ours to write", "chown")

    def test_full(self) -> None:
        """A disk on which no file would be taken is told before somebody sends one."""
        self.check(WARN, "left", "--min-free", min_free=1 << 60)

    def test_bucket(self) -> None:
        """A bucket that can be written to is found so, and nothing stays in it."""
        if bucket.MISSING:
            raise SkipTest(bucket.MISSING)
        self.patch(os, "environ", {**os.environ, **bucket.ENVIRONMENT})
        name = bucket.new_bucket(f"doctor-{os.getpid()}")
        self.check(OK, "can be written", files=f"s3://{name}/x", bucket_endpoint=bucket.endpoint())
        self.assertEqual(bucket.names(name), [])
        self.check(FAIL, "NoSuchBucket", files="s3://nothing", bucket_endpoint=bucket.endpoint())
        self.check(FAIL, "cannot be reached", "--bucket-endpoint", files="s3://x", bucket_endpoint="http://127.0.0.1:9")


class DataDirectoryTests(InDirectory):
    def check(self, path: Path, status: str, *words: str) -> None:
        found = doctor.data_directory(path)
        self.assertEqual(status, found.status, found)
        for word in words:
            self.assertIn(word, f"{found.found} {found.advice}")
        self.assertEqual(status == OK, not found.advice)

    def test_fine(self) -> None:
        """The directory of a running daemon is in order."""
        self.check(self.data, OK, str(self.data))

    def test_not_there_yet(self) -> None:
        """Before the first start there is none, and the doctor makes none."""
        self.check(self.data / "deep" / "new", OK, "first start")
        self.assertEqual([], list(self.data.iterdir()))

    def test_a_file(self) -> None:
        """A file in its place is told."""
        self.check(self.write("file", b""), FAIL, "no directory", "--data")

    def test_open_to_others(self) -> None:
        """Others who may write there could put anything in, those who may list it learn little."""
        self.data.chmod(0o777)
        self.check(self.data, FAIL, "0777", f"chmod go-w {self.data}")
        self.data.chmod(0o755)
        self.check(self.data, WARN, "0755", f"chmod go-r {self.data}")
        # Which a root process makes, so that PostgreSQL, run as somebody else, gets through.
        self.data.chmod(0o711)
        self.check(self.data, OK)

    def test_no_way_in(self) -> None:
        """A directory of somebody else is told before a start fails there."""
        if os.geteuid() == 0:
            raise SkipTest("root gets in everywhere")
        self.data.chmod(0o500)
        self.check(self.data, FAIL, "not ours to write", "chown")
        self.check(self.data / "new", FAIL, "cannot be made")


class KeyTests(InDirectory):
    def checks(self, **options: Any) -> list[Check]:
        return doctor.keys(Config(data=self.data, **options))

    def test_before_the_first_start(self) -> None:
        """There is nothing to complain of, and no secret is made."""
        self.assertEqual([("server key", OK), ("shop key", OK)], [(one.name, one.status) for one in self.checks()])
        self.assertEqual([], list(self.data.iterdir()))

    def test_fine(self) -> None:
        """Two good keys are two lines, and nothing of either is in them."""
        self.write("secret", RANDOM)
        found = self.checks(jwt_secret_files=(self.write("shop", RANDOM[::-1]),))
        self.assertEqual([OK, OK], [one.status for one in found])
        self.assertNotIn(RANDOM.decode(), repr(found))

    def test_server_key_open(self) -> None:
        """A secret that others may read is no start, and said with the command that mends it."""
        path = self.write("secret", RANDOM, 0o644)
        server, _ = self.checks()
        self.assertEqual((FAIL, f"chmod 600 {path}"), (server.status, server.advice))

    def test_server_key_short(self) -> None:
        """A secret that was cut is no start."""
        self.write("secret", RANDOM[:20])
        server, _ = self.checks()
        self.assertEqual(FAIL, server.status)
        self.assertIn("put it back", server.advice)

    def test_easy_to_guess(self) -> None:
        """A key that somebody typed is long enough for a start, and no good."""
        self.write("secret", b"secret" * 8)
        found = self.checks(jwt_secret_files=(self.write("shop", b"1234" * 8),))
        self.assertEqual([WARN, WARN], [one.status for one in found])
        self.assertIn("openssl rand", found[1].advice)

    def test_shop_keys(self) -> None:
        """Each key of the shop has its own line: open to others, the server's too, missing, no key."""
        self.write("secret", RANDOM)
        readable = self.write("readable", RANDOM[::-1], 0o640)
        same = self.write("same", RANDOM)
        found = self.checks(jwt_secret_files=(readable, same))
        self.assertEqual([OK, WARN, WARN], [one.status for one in found])
        self.assertEqual(f"chmod 600 {readable}", found[1].advice)
        self.assertIn("server's secret too", found[2].found)
        for broken in (self.data / "missing", self.write("short", b"short")):
            server, shop = self.checks(jwt_secret_files=(broken,))
            self.assertEqual((OK, FAIL), (server.status, shop.status))
            self.assertIn(str(broken), shop.found)

    def test_public_key(self) -> None:
        """A public key may be read by anybody; one that does not fit the algorithm is told."""
        path = self.write("shop.pem", b"-----BEGIN PUBLIC KEY-----\n", 0o644)
        _, shop = self.checks(jwt_public_key_files=(path,), jwt_algorithm="ES256")
        self.assertEqual(FAIL, shop.status)
        self.assertIn("public key", f"{shop.found} {shop.advice}")


class ProcessTests(SynchronousTestCase):
    def test_nvx(self) -> None:
        """Running without Autobahn's native code is told, with what it costs."""
        self.assertEqual(OK, doctor.nvx(True).status)
        slow = doctor.nvx(False)
        self.assertEqual(WARN, slow.status)
        self.assertIn("AUTOBAHN_USE_NVX", slow.advice)

    def test_file_limit(self) -> None:
        """A limit of open files below the connections that may come is told, with the number that is needed."""
        _, soft = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.assertEqual(OK, doctor.file_limit(1).status)
        if soft == resource.RLIM_INFINITY:
            return
        low = doctor.file_limit(soft)
        self.assertEqual(WARN, low.status)
        self.assertIn(f"LimitNOFILE={soft + 200}", low.advice)

    def test_clock(self) -> None:
        """Clocks that differ by more than two seconds are told, a slow answer is no difference."""
        self.assertEqual(OK, doctor.clock(1000.0, 999.0, 1004.0).status)
        self.assertEqual(OK, doctor.clock(1001.9, 1000.0, 1000.0).status)
        for theirs, word in ((1002.5, "ahead"), (996.0, "behind")):
            found = doctor.clock(theirs, 999.0, 1000.0)
            self.assertEqual(WARN, found.status)
            self.assertIn(word, found.found)
            self.assertIn("NTP", found.advice)


class HangsUp(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()  # type: ignore[misc]


class PortTests(TestCase):
    async def listen(self, factory: Any) -> int:
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    async def check(self, endpoint: str) -> Check:
        return await doctor.port(endpoint, reactor)

    async def test_free(self) -> None:
        """A free port is free again after it was looked at."""
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            number = held.getsockname()[1]
        endpoint = f"tcp:{number}:interface=127.0.0.1"
        for _ in range(2):
            found = await self.check(endpoint)
            self.assertEqual((OK, f"{endpoint} is free"), (found.status, found.found))

    async def test_running(self) -> None:
        """Our own daemon there is what should be there."""
        number = await self.listen(make_site(lambda: True))
        found = await self.check(f"tcp:{number}:interface=127.0.0.1")
        self.assertEqual(OK, found.status)
        self.assertIn("daemon is running", found.found)

    async def test_somebody_else(self) -> None:
        """Anything else there is told, and how to find it."""
        number = await self.listen(Factory.forProtocol(HangsUp))
        found = await self.check(f"tcp:{number}:interface=127.0.0.1")
        self.assertEqual(FAIL, found.status)
        self.assertIn(f":{number}'", found.advice)

    async def test_tls_key_missing(self) -> None:
        """A TLS endpoint whose key cannot be read is told before a start fails."""
        found = await self.check("ssl:0:privateKey=/nowhere/key.pem:certKey=/nowhere/cert.pem")
        self.assertEqual(FAIL, found.status)
        self.assertIn("/nowhere", found.found)

    async def test_no_port(self) -> None:
        """What is no TCP port is left alone."""
        found = await self.check("unix:/nowhere/socket")
        self.assertEqual(OK, found.status)
        self.assertIn("not looked at", found.found)


class DatabaseTests(DatabaseTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.data = scratch()
        self.addCleanup(shutil.rmtree, self.data, ignore_errors=True)

    async def checks(self, dsn: str | None) -> list[Check]:
        return await doctor.database(Config(data=self.data, database=dsn), reactor)

    async def test_fine(self) -> None:
        """Version, schema and clock are three lines; a server that may forget is told."""
        database, schema, clock = await self.checks(self.dsn)
        self.assertIn("PostgreSQL", database.found)
        [(fsync,)] = execute(self.dsn, "SELECT current_setting('fsync')")
        self.assertEqual(OK if fsync == "on" else WARN, database.status)
        newest = len(migrations.read(resources.files("chatproto.storage") / "schema"))
        self.assertEqual((OK, f"version {newest}"), (schema.status, schema.found))
        self.assertEqual(OK, clock.status)

    async def test_empty(self) -> None:
        """A database that nobody has used yet is no fault, and stays empty."""
        name = f"{self.dsn.rpartition('/')[2].partition('?')[0]}_empty"
        execute(self.dsn, f"CREATE DATABASE {name}")
        self.addCleanup(execute, self.dsn, f"DROP DATABASE {name}")
        dsn = named(self.dsn, name)
        _, schema, _ = await self.checks(dsn)
        self.assertEqual((WARN, "empty"), (schema.status, schema.found))
        self.assertEqual([(None,)], execute(dsn, "SELECT to_regclass('schema_version')"))

    async def test_newer(self) -> None:
        """A schema of a later release is used while it allows it, and refused where it does not."""
        execute(self.dsn, "INSERT INTO schema_version (version, name, oldest_code) VALUES (900, 'later', '0.1.0')")
        _, schema, _ = await self.checks(self.dsn)
        self.assertEqual(OK, schema.status)
        self.assertIn("newer than this code", schema.found)
        execute(self.dsn, "UPDATE schema_version SET oldest_code = '99.0' WHERE version = 900")
        _, schema, _ = await self.checks(self.dsn)
        self.assertEqual(FAIL, schema.status)
        self.assertIn("99.0", schema.found)

    async def test_missing(self) -> None:
        """A database that is not there is told, in the server's own words."""
        [found] = await self.checks(named(self.dsn, "nothing"))
        self.assertEqual(FAIL, found.status)
        self.assertIn("does not exist", found.found)
        self.assertIn("--database", found.advice)

    async def test_embedded_not_made_yet(self) -> None:
        """Before the first start the doctor says which PostgreSQL it will be, and makes nothing."""
        [found] = await self.checks(None)
        self.assertEqual(OK, found.status)
        self.assertIn("first start by PostgreSQL", found.found)
        self.assertEqual([], list(self.data.iterdir()))

    async def test_all(self) -> None:
        """The whole examination is one list, which says "not ok" exactly when something fails."""
        config = Config(data=self.data, database=self.dsn, listen=("tcp:0:interface=127.0.0.1",), max_connections=1)
        checks = await doctor.examine(config, reactor)
        names = ["data", "server key", "shop key", "database", "schema", "clock", "file store", "NVX", "files", "port"]
        self.assertEqual(names, [one.name for one in checks])
        self.assertTrue(doctor.as_json(checks)["ok"])
        broken = [*checks, Check("port", FAIL, "taken", "give another")]
        self.assertFalse(doctor.as_json(broken)["ok"])
        last = doctor.as_text(broken).splitlines()[-2:]
        self.assertEqual(["FAIL  port        taken", "                  -> give another"], last)
        self.assertEqual(stat.S_IMODE(self.data.stat().st_mode), 0o700)
