"""One connection: descriptors, large statements, addresses."""

from __future__ import annotations

import os
from typing import Any, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from chatproto.errors import StartError, StorageError
from chatproto.storage.connect import Settings
from chatproto.storage.link import FOREVER, Link, Rows
from tests.database import DatabaseTestCase

reactor: Any = installed


def ask(link: Link, sql: str, *params: object) -> Deferred[Rows]:
    answer: Deferred[Rows] = Deferred()
    link.execute(sql, params, answer, applied=None, deadline=FOREVER)
    return answer


class LinkTests(DatabaseTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.settings = Settings(self.dsn, name="test", limit=5)

    async def link(self) -> Link:
        link = await self.settings.open(Link(reactor))
        self.addCleanup(link.close)
        return link

    async def test_descriptors(self) -> None:
        """A server that cuts a daemon off again and again for weeks does not use up its file descriptors."""

        async def cut_off() -> None:
            link = await self.settings.open(Link(reactor))
            await self.assertFailure(ask(link, "SELECT pg_terminate_backend(pg_backend_pid())"), StorageError)
            self.assertFalse(link.open)
            self.assertNotIn(link, reactor.getReaders())

        await cut_off()
        before = os.listdir("/proc/self/fd")
        for _ in range(200):
            await cut_off()
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))

    async def test_refused_descriptors(self) -> None:
        """Neither do attempts to connect that fail."""
        refused = Settings(self.dsn, name="test", limit=5)
        refused.parameters["dbname"] = "no such database"

        async def attempt() -> None:
            with self.assertRaisesRegex(StorageError, "does not exist"):
                await refused.open(Link(reactor))

        await attempt()
        before = os.listdir("/proc/self/fd")
        for _ in range(20):
            await attempt()
        self.assertEqual(len(os.listdir("/proc/self/fd")), len(before))

    async def test_lost_while_idle(self) -> None:
        """The end of a connection that does nothing is noticed without a statement, and told once."""
        told: Deferred[str] = Deferred()
        link = await self.settings.open(Link(reactor, lost=lambda link, why: told.callback(why)))
        other = await self.link()
        await ask(other, "SELECT pg_terminate_backend(%s)", link._connection.get_backend_pid())
        await told
        self.assertFalse(link.open)

    async def test_large(self) -> None:
        """A statement and an answer far larger than any socket buffer arrive whole."""
        text = "0123456789abcdef" * (1 << 18)
        self.assertEqual(await ask(await self.link(), "SELECT %s", text), [(text,)])

    async def test_last_result(self) -> None:
        """Several statements in one string are one transaction, and answer with the last one's rows."""
        link = await self.link()
        self.assertEqual(await ask(link, "SELECT 1; SELECT 2"), [(2,)])
        await ask(link, "CREATE TABLE t (n integer)")
        with self.assertRaises(StorageError):
            await ask(link, "INSERT INTO t VALUES (1); SELECT 1/0")
        self.assertEqual(await ask(link, "SELECT * FROM t"), [])

    async def test_given_options_stay(self) -> None:
        """An operator's own settings in the database address hold beside ours."""
        separator = "&" if "?" in self.dsn else "?"
        settings = Settings(f"{self.dsn}{separator}options=-c%20work_mem%3D7MB", name="test", limit=5)
        link = await settings.open(Link(reactor))
        self.addCleanup(link.close)
        self.assertEqual(
            await ask(link, "SELECT current_setting('work_mem'), current_setting('lock_timeout')"), [("7MB", "3s")]
        )


class AddressTests(TestCase):
    async def test_name(self) -> None:
        """A host name is looked up without stopping the daemon, and all its addresses are tried."""
        met: Deferred[str] = Deferred()

        class Closing(Protocol):
            def connectionMade(self) -> None:
                if not met.called:
                    met.callback("met")
                cast(Any, self.transport).loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Closing), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        settings = Settings(f"host=localhost port={port.getHost().port} user=x dbname=y", name="test", limit=5)
        with self.assertRaises(StorageError):
            await settings.open(Link(reactor))
        self.assertEqual(await met, "met")

    async def test_silent(self) -> None:
        """A host that takes the connection and says nothing is given up."""
        port = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        settings = Settings(f"host=127.0.0.1 port={port.getHost().port} user=x dbname=y", name="test", limit=0.1)
        with self.assertRaisesRegex(StorageError, "did not answer within 0.1 s"):
            await settings.open(Link(reactor))

    def test_unreadable(self) -> None:
        """A mistyped database address is refused without showing the password in it."""
        with self.assertRaises(StartError) as caught:
            Settings("host=x password=hush thisisnokey", name="test", limit=5)
        self.assertNotIn("hush", str(caught.exception))
