"""The daemon for its operator: start, options, exit codes, signals, the log, health and TLS."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import signal
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ClientEndpoint
from twisted.internet.ssl import ClientContextFactory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.database import OwnClusterTestCase, fresh_database, scratch
from tests.integration.case import ROOMY, ClientsTestCase, all_of
from tests.integration.client import Client
from tests.integration.daemon import SHOP_SECRET, Daemon, token

SAID = re.compile(r"^chatproto: .*$", re.MULTILINE)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


class StartTests(TestCase):
    def daemon(self, *options: str, **places: object) -> Daemon:
        daemon = Daemon(*options, **places)  # type: ignore[arg-type]
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.close()))
        return daemon

    async def fails(self, daemon: Daemon, code: int, reason: str) -> str:
        """It ends with *code*, and one line says why."""
        daemon.run()
        self.assertEqual(await daemon.ended(), code, daemon.log)
        said = SAID.findall(daemon.log)
        self.assertEqual(len(said), 1, daemon.log)
        self.assertRegex(said[0], reason)
        self.assertNotIn("Traceback", daemon.log)
        return said[0]

    async def test_the_line_at_the_start(self) -> None:
        """It says version, port, database, bus and data, and no secret."""
        dsn = await fresh_database()
        secret = "pass-word"
        with_password = dsn.replace("chatproto@", f"chatproto:{secret}@")
        self.assertIn(secret, with_password)
        daemon = await self.daemon(database=with_password).start()
        [line] = [line for line in daemon.lines if "listens on" in line]
        for word in (r"chatproto \d+\.\d+", f"port={daemon.port}", "database postgresql://chatproto:\\*\\*\\*@"):
            self.assertRegex(line, word)
        for word in ("bus local", f"data in {daemon.data}"):
            self.assertIn(word, line)
        self.assertNotIn(secret, daemon.log)
        self.assertNotIn(SHOP_SECRET, daemon.log)
        self.assertEqual(await daemon.stop(), 0)

    async def test_interrupt_ends_it_as_term_does(self) -> None:
        """Ctrl-C: exit code 0, and the embedded PostgreSQL goes with it."""
        daemon = await self.daemon().start()
        postgres = int((daemon.data / "pg" / "postmaster.pid").read_text().splitlines()[0])
        daemon.signal(signal.SIGINT)
        self.assertEqual(await daemon.ended(), 0)
        self.assertRaises(ProcessLookupError, os.kill, postgres, 0)
        self.assertNotIn("Traceback", daemon.log)

    async def test_wrong_options(self) -> None:
        """Exit code 2, with one line that names what is wrong, before anything is opened."""
        for options, reason in (
            (("--graze", "2"), "graze"),
            (("--grace", "soon"), "--grace.*soon"),
            (("--listen", "nowhere"), "--listen.*nowhere"),
            (("--ping-after", "60"), "--ping-after 60.*--dead-after 50"),
            (("--database", "mysql://x"), "--database"),
            (("--jwt-algorithm", "none"), "--jwt-algorithm"),
            (("extra",), "extra"),
        ):
            daemon = self.daemon(*options)
            await self.fails(daemon, 2, reason)
            self.assertEqual([path.name for path in daemon.data.iterdir()], ["shop.key"])

    async def test_wrong_environment(self) -> None:
        """A misspelt variable is no silence: exit code 2."""
        await self.fails(self.daemon(environment={"CHATPROTO_GRAZE": "2"}), 2, "CHATPROTO_GRAZE.*CHATPROTO_GRACE")

    async def test_a_port_in_use(self) -> None:
        """Exit code 1, and one line names the port."""
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            place.listen()
            port = place.getsockname()[1]
            daemon = self.daemon(listen=f"tcp:{port}:interface=127.0.0.1", database=await fresh_database())
            await self.fails(daemon, 1, f"cannot start: cannot listen.*{port}")

    async def test_a_database_that_nobody_runs(self) -> None:
        """Exit code 1 within reasonable time, and the line keeps the password."""
        daemon = self.daemon(database=f"postgresql://chatproto:pass-word@127.0.0.1:{free_port()}/chatproto")
        line = await self.fails(daemon, 1, "cannot start: ")
        self.assertNotIn("pass-word", daemon.log)
        self.assertIn("127.0.0.1", line)

    async def test_a_database_that_is_not_there(self) -> None:
        """A server without this database says so."""
        dsn = (await fresh_database()).replace("chatproto_test", "nothing")
        await self.fails(self.daemon(database=dsn), 1, "cannot start: .*nothing")

    async def test_a_key_that_is_not_there(self) -> None:
        """Exit code 1 or 2, and the line names the file."""
        daemon = self.daemon("--jwt-secret-file", "/nowhere/shop.key", database=await fresh_database())
        daemon.run()
        self.assertIn(await daemon.ended(), (1, 2))
        self.assertRegex("\n".join(SAID.findall(daemon.log)), "/nowhere/shop.key")

    async def test_two_on_one_directory(self) -> None:
        """A second daemon on the same data refuses, and the first goes on."""
        first = await self.daemon().start()
        second = self.daemon(data=first.data)
        await self.fails(second, 1, "cannot start: .*")
        self.assertEqual((await first.http("/readyz"))[0], 200)
        self.assertEqual(await first.stop(), 0)

    async def test_it_starts_again_on_what_it_left(self) -> None:
        """What was written by one run is there in the next, after a clean end."""
        daemon = await self.daemon().start()
        group_id = daemon.add_group("kept")
        self.assertEqual(await daemon.stop(), 0)
        await daemon.start()
        self.assertEqual(daemon.sql("SELECT name FROM service_group WHERE id = %s", group_id), [("kept",)])


class RunningTestCase(ClientsTestCase):
    async def run_daemon(self, *options: str, **places: object) -> Daemon:
        self.daemon = Daemon(*ROOMY, *options, **places)  # type: ignore[arg-type]
        self.addCleanup(lambda: Deferred.fromCoroutine(self.daemon.close()))
        return await self.daemon.start()


class HangUpTests(RunningTestCase):
    async def test_a_new_secret(self) -> None:
        """After HUP the shop's new secret opens, the old one no longer; who is connected stays."""
        daemon = await self.run_daemon(database=await fresh_database())
        self.group_id = daemon.add_group()
        admin_id = daemon.add_admin(self.group_id, "Alice")
        alice = await self.admin(admin_id, "alice")
        new = "another secret of the shop, 32+ bytes"
        other = await self.client("other").connect(daemon.port)
        self.assertEqual(await other.code(31000, call_type=3, token=token(admin_id=admin_id, secret=new)), -31001)
        daemon.secret_file.write_text(new)
        daemon.signal(signal.SIGHUP)
        await daemon.logged("keys and certificates were read again")
        self.assertEqual(await other.code(31000, call_type=3, token=token(admin_id=admin_id)), -31001)
        self.assertEqual(await other.code(31000, call_type=3, token=token(admin_id=admin_id, secret=new)), 200)
        self.assertEqual(await alice.code(33000), 200)
        self.assertNotIn(new, daemon.log)

    async def test_a_broken_secret(self) -> None:
        """After HUP with a key that cannot be used the old one stays, and the log says so."""
        daemon = await self.run_daemon(database=await fresh_database())
        admin_id = daemon.add_admin(daemon.add_group(), "Alice")
        daemon.secret_file.write_text("short")
        daemon.signal(signal.SIGHUP)
        await daemon.logged("keys and certificates stay as they were: .*shop.key")
        await self.admin(admin_id, "alice")

    async def test_a_new_certificate(self) -> None:
        """TLS: after HUP new connections see the new certificate; an old one lives on."""
        place = scratch()
        self.addCleanup(shutil.rmtree, place)
        key, chain = place / "key.pem", place / "cert.pem"
        make_certificate(key, chain, "first.example")
        listen = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={chain}"
        daemon = await self.run_daemon(listen=listen, database=await fresh_database())
        first, seen = await self.secure()
        self.assertEqual(seen.names, ["first.example"])
        make_certificate(key, chain, "second.example")
        daemon.signal(signal.SIGHUP)
        await daemon.logged("keys and certificates were read again")
        _, seen = await self.secure()
        self.assertEqual(seen.names, ["second.example"])
        self.assertEqual((await first.beat())["code"], 200)
        chain.write_text("rubbish")
        daemon.signal(signal.SIGHUP)
        await daemon.logged("keys and certificates stay as they were: .*cert.pem")
        _, seen = await self.secure()
        self.assertEqual(seen.names, ["second.example"])

    async def secure(self) -> tuple[Client, Seen]:
        seen = Seen()
        endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", self.daemon.port, seen)
        client = await self.client("secure").connect(self.daemon.port, endpoint=endpoint)
        await client.beat()
        return client, seen


class Seen(ClientContextFactory):
    """Trusts everybody, and notes whom."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def getContext(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_PEER, self._note)
        return context

    def _note(self, connection: SSL.Connection, found: crypto.X509, error: int, depth: int, good: int) -> bool:
        name = found.get_subject().CN
        if name is not None and name not in self.names:
            self.names.append(name)
        return True


def make_certificate(key_file: Path, chain_file: Path, name: str) -> None:
    """A key and a certificate for *name* that it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    chain_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


class HealthTests(OwnClusterTestCase, RunningTestCase):
    async def test_alive_and_ready(self) -> None:
        """On the port of the chat: /healthz is 200 as long as it runs, /readyz 503 while PostgreSQL is away."""
        daemon = await self.run_daemon("--query-timeout", "1", database=self.dsn)
        self.assertEqual(await daemon.http("/healthz"), (200, "ok\n"))
        self.assertEqual(await daemon.http("/readyz"), (200, "ok\n"))
        self.assertEqual((await daemon.http("/nothing"))[0], 404)
        await deferToThread(self.cluster.stop)
        await daemon.ready(503)
        self.assertEqual(await daemon.http("/readyz"), (503, "no connection to the database\n"))
        self.assertEqual((await daemon.http("/healthz"))[0], 200)
        await deferToThread(self.cluster.start)
        await daemon.ready()


class LogTests(RunningTestCase):
    async def test_a_normal_day(self) -> None:
        """One line per connection end, with who it was; no token, no text of a message, no traceback."""
        daemon = await self.run_daemon()
        self.group_id = daemon.add_group()
        admin_id = daemon.add_admin(self.group_id, "Alice")
        secrets = [token(admin_id=admin_id), token(sub="customer-77", name="Li Secretly")]
        alice = await self.client("alice").connect(daemon.port)
        await alice.good_request(31000, call_type=3, token=secrets[0], v=2)
        customer = await self.guest("customer", token=secrets[1])
        anonymous = await self.guest("anonymous")
        secrets.append(anonymous.data["guest_token"])
        for guest in (customer, anonymous):
            await guest.good_request(22300, msg="my card is 4111-1111")
            await alice.push(32399)
            await alice.good_request(32300, gid=guest.gid, msg="never-tell-anybody")
        await all_of(
            alice.request(32300, gid=customer.gid),
            alice.request(99),
            customer.request(22300, msg="wrong-kind-text", file_type=9),
            alice.ask('{"api_key":32300,"msg":"broken-frame-text', 0),
        )
        await customer.leave()
        await anonymous.drop()
        await alice.good_request(31020)
        await alice.closed()
        await daemon.logged(r"connection \w+ of ", 3)
        self.assertEqual(await daemon.stop(), 0)
        ends = re.findall(r"connection (\w+) of (\S+) from 127.0.0.1 ended: (\d+|no code)", daemon.log)
        self.assertEqual(len(ends), 3, daemon.log)
        self.assertEqual(
            {who: code for _, who, code in ends},
            {
                f"guest:{self.group_id}:{customer.gid}": "1000",
                f"guest:{self.group_id}:{anonymous.gid}": "no code",
                f"admin:{admin_id}": "1000",
            },
        )
        secrets += [secret.rpartition(".")[2] for secret in secrets[:2]]
        for secret in (*secrets, "4111", "never-tell", "wrong-kind", "broken-frame", "Li Secretly", SHOP_SECRET):
            self.assertNotIn(secret, daemon.log)
        self.clean_log()
