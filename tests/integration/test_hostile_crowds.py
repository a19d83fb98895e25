"""Very many at once who want nothing good: others are served, and when they have gone nothing of them is left."""

from __future__ import annotations

import os
import re
import shutil
import socket
import ssl
import struct
from collections.abc import Callable

from tests.database import fresh_database, scratch
from tests.integration.case import ROOMY, ClientsTestCase
from tests.integration.client import Client
from tests.integration.daemon import Daemon, eventually
from tests.integration.raw import handshake
from tests.test_listening import certificate

CROWD = 400
LOGIN_TIMEOUT = 2


def hello() -> bytes:
    """How a TLS connection begins."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(received, sent, server_hostname="chat.example")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()
    raise AssertionError("a handshake of one side")


def leave(client: socket.socket) -> None:
    client.close()


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class CrowdTests(ClientsTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        keys = scratch()
        self.addCleanup(shutil.rmtree, keys)
        key = keys / "key.pem"
        certificate(key)
        self.daemon = Daemon(
            *ROOMY,
            *("--login-timeout", str(LOGIN_TIMEOUT)),
            *("--listen", f"ssl:0:privateKey={key}:interface=127.0.0.1"),
            database=await fresh_database(),
        )
        self.addCleanup(self.daemon.close)
        await self.daemon.start()
        self.tls_port = int(re.findall(r"port=(\d+)", self.daemon.log)[1])
        self.group_id = self.daemon.add_group()
        self.alice = await self.admin(self.daemon.add_admin(self.group_id, "Alice"), "alice")
        self.gina: Client = await self.guest("gina")
        await self.talk()
        self.files_before = self.files()
        self.addCleanup(self.clean_log)

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    async def talk(self) -> None:
        await self.gina.good_request(22300, msg="are you still served?")
        await self.alice.push(32399)

    def crowd(self, port: int, head: bytes) -> list[socket.socket]:
        """All begin to connect at once, then each sends its part."""
        clients = []
        for _ in range(CROWD):
            client = socket.socket()
            self.addCleanup(client.close)
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
            clients.append(client)
        for client in clients:
            client.setblocking(True)
            client.settimeout(10)
            if head:
                client.sendall(head)
        return clients

    async def there(self) -> bool:
        return self.files() >= self.files_before + CROWD

    async def gone(self) -> bool:
        return self.files() <= self.files_before

    async def withstand(self, port: int, head: bytes, go: Callable[[socket.socket], None] | None) -> None:
        """:param go: how each leaves; None: they stay until the server has had enough."""
        clients = self.crowd(port, head)
        await eventually(self.there, "all of the crowd")
        await self.talk()
        if go is not None:
            for client in clients:
                go(client)
        await eventually(self.gone, "as few files as before")
        await self.talk()

    async def test_who_say_nothing(self) -> None:
        """Connections without a word end by themselves, and others are served meanwhile."""
        await self.withstand(self.daemon.port, b"", None)

    async def test_who_leave_at_once(self) -> None:
        """A crowd that leaves in one moment, in order or not, is forgotten."""
        for go in (leave, reset):
            await self.withstand(self.daemon.port, handshake()[:-2], go)
            await self.withstand(self.daemon.port, handshake(), go)

    async def test_who_do_not_log_in(self) -> None:
        """A handshake is not enough to stay."""
        await self.withstand(self.daemon.port, handshake(), None)
        await self.daemon.logged("of nobody from 127.0.0.1 ended: 4004", CROWD)

    async def test_tls(self) -> None:
        """So it is where TLS is spoken: without a word, with half a greeting, with a whole one and nothing more."""
        for head in (b"", hello()[:100], hello()):
            await self.withstand(self.tls_port, head, None)
        await self.withstand(self.tls_port, hello(), reset)
