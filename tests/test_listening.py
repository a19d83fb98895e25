"""Where the server listens: endpoint strings, and certificates that are read again."""

from __future__ import annotations

import datetime
import os
import resource
import socket
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from chatproto.errors import StartError
from chatproto.listening import (
    AT_ONCE,
    LOOK_AGAIN,
    OTHER_FILES,
    SPARE,
    TELL_EVERY,
    Acceptor,
    Certificates,
    endpoint,
    file_limit,
    room_for,
)

reactor: Any = installed


def certificate(
    key_file: Path, chain_file: Path | None = None, encryption: KeySerializationEncryption | None = None
) -> str:
    """Write a key and a certificate for it, into one file where there is no *chain_file*; returns the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "chat.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    if chain_file is None:
        key_file.write_bytes(private + pem)
    else:
        key_file.write_bytes(private)
        chain_file.write_bytes(pem)
    return pem.decode()


class EndpointTests(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.key, self.chain = self.directory / "key.pem", self.directory / "chain.pem"

    async def listening(self, description: str) -> tuple[int, Certificates | None]:
        """Listen; returns the port."""
        server, certificates = endpoint(reactor, description)
        port = await server.listen(Factory.forProtocol(Protocol))
        self.addCleanup(port.stopListening)
        return port.getHost().port, certificates

    async def shown(self, port: int) -> str:
        """The certificate that a client sees there."""
        return str(await deferToThread(ssl.get_server_certificate, ("127.0.0.1", port), timeout=10))

    def refused(self, description: str) -> str:
        return str(self.assertRaises(StartError, endpoint, reactor, description))

    async def test_plain(self) -> None:
        """What Twisted understands is understood."""
        port, certificates = await self.listening("tcp:0:interface=127.0.0.1")
        self.assertGreater(port, 0)
        self.assertIsNone(certificates)

    def test_no_endpoint(self) -> None:
        """What is no endpoint is one clear line that shows it."""
        for wrong in ("8420", "tcp:x", "nothing:1", "tcp:1:colour=red", "ssl:", "ssl:x:privateKey=k", "ssl:8443"):
            line = self.refused(wrong)
            self.assertIn(repr(wrong), line)
            self.assertNotIn("\n", line)

    def test_unknown_argument(self) -> None:
        """An argument that ssl: does not know is named."""
        self.assertIn("dhParameters", self.refused("ssl:8443:privateKey=k:dhParameters=d"))

    async def test_tls(self) -> None:
        """The certificate is shown; key and certificate may stand in one file, and names may hold colons."""
        wanted = certificate(self.key, self.chain)
        port, _ = await self.listening(f"ssl:0:privateKey={self.key}:certKey={self.chain}:interface=127.0.0.1")
        self.assertEqual(await self.shown(port), wanted)
        both = self.directory / "a:b.pem"
        wanted = certificate(both)
        name = str(both).replace(":", "\\:")
        port, _ = await self.listening(f"ssl:port=0:interface=127.0.0.1:privateKey={name}")
        self.assertEqual(await self.shown(port), wanted)

    async def test_read_again(self) -> None:
        """A renewed certificate is shown to new connections without a restart."""
        certificate(self.key)
        port, certificates = await self.listening(f"ssl:0:privateKey={self.key}:interface=127.0.0.1")
        wanted = certificate(self.key)
        assert certificates is not None
        certificates.read_again()
        self.assertEqual(await self.shown(port), wanted)

    async def test_bad_file(self) -> None:
        """A broken file is one clear line, and the certificate in use stays in use."""
        wanted = certificate(self.key)
        port, certificates = await self.listening(f"ssl:0:privateKey={self.key}:interface=127.0.0.1")
        assert certificates is not None
        self.key.write_text("no certificate")
        line = str(self.assertRaises(StartError, certificates.read_again))
        self.assertIn(str(self.key), line)
        self.assertNotIn("\n", line)
        self.assertEqual(await self.shown(port), wanted)

    def test_files_that_cannot_be_used(self) -> None:
        """A missing file, a key that does not fit, and a key with a password are found at the start."""
        missing = self.directory / "missing.pem"
        self.assertIn("No such file", self.refused(f"ssl:0:privateKey={missing}"))
        certificate(self.key, self.chain)
        certificate(self.key, self.directory / "other.pem")
        self.assertIn(str(self.chain), self.refused(f"ssl:0:privateKey={self.key}:certKey={self.chain}"))
        certificate(self.key, self.chain, BestAvailableEncryption(b"password"))
        self.assertIn("the key has a password", self.refused(f"ssl:0:privateKey={self.key}:certKey={self.chain}"))


class _Counted(Factory):
    """Tells when the next connection has come."""

    def __init__(self) -> None:
        self.came = 0
        self.next: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> Protocol:
        self.came += 1
        waiting, self.next = self.next, Deferred()
        waiting.callback(None)
        return Protocol()


class AcceptorTests(TestCase):
    """A port of this process, whose limit of files is what the test says."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.clock = Clock()
        self.factory = _Counted()
        self.count = 0
        self.acceptor = Acceptor(self.clock, lambda: self.count)
        self.addCleanup(self.acceptor.stop)
        server, _ = endpoint(reactor, "tcp:0:interface=127.0.0.1")
        self.port = await server.listen(self.factory)
        self.addCleanup(self.port.stopListening)
        self.acceptor.watch(self.port)
        self.logged: list[Any] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def connect(self) -> None:
        client = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        self.addCleanup(client.close)

    def told(self) -> int:
        return sum("newcomers wait" in str(event.get("log_format")) for event in self.logged)

    def full(self) -> None:
        """As many connections as there are files for."""
        self.count = file_limit() - SPARE

    async def test_room(self) -> None:
        """Who comes while there is room is let in, up to the last place."""
        self.count = file_limit() - SPARE - 1
        came = self.factory.next
        self.connect()
        await came
        self.assertEqual((self.factory.came, self.told()), (1, 0))

    async def test_none(self) -> None:
        """Without room newcomers wait, with one line in the log and no busy loop, and are let in when there is some."""
        self.full()
        came = self.factory.next
        self.connect()
        for _ in range(20):
            self.port.doRead()
        self.assertNotIn(self.port, reactor.getReaders())
        self.clock.pump([LOOK_AGAIN] * 20)
        self.assertNotIn(self.port, reactor.getReaders())
        self.assertEqual((self.factory.came, self.told()), (0, 1))
        self.count = 0
        self.clock.advance(LOOK_AGAIN)
        await came
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_no_file(self) -> None:
        """Also when something else has used all files up, nobody is accepted, and nobody is turned away."""
        self.connect()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (SPARE + 1, hard))
        taken = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            self.port.doRead()
            shut = self.port not in reactor.getReaders()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for descriptor in taken:
                os.close(descriptor)
        self.assertTrue(shut)
        came = self.factory.next
        self.clock.advance(LOOK_AGAIN)
        await came
        self.assertEqual((self.factory.came, self.told()), (1, 1))

    async def test_told_once_a_minute(self) -> None:
        """However often it fills up, the log gets one line a minute."""
        for seconds in (0.0, 1.0, TELL_EVERY, 1.0):
            self.clock.advance(seconds)
            self.full()
            self.port.doRead()
            self.count = 0
            self.clock.advance(LOOK_AGAIN)
        self.assertEqual(self.told(), 2)

    async def test_few_at_once(self) -> None:
        """When thousands come, others get their turn between them."""
        self.port.numberAccepts = 1000
        for _ in range(AT_ONCE + 10):
            self.connect()
        self.port.doRead()
        self.assertEqual(self.factory.came, AT_ONCE)

    async def test_stop(self) -> None:
        """A server that stops opens no port again."""
        self.full()
        self.port.doRead()
        self.acceptor.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_room_for(self) -> None:
        """There is room for as many connections as were asked for, or as there are files for."""
        limit = file_limit()
        self.assertEqual(room_for(limit - OTHER_FILES - 1), limit - OTHER_FILES - 1)
        self.assertEqual(room_for(limit), limit - OTHER_FILES)
