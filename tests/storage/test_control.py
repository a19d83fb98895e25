"""What other processes tell by NOTIFY, through losses of the connection."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue

from chatproto.storage.control import Control
from tests.database import OwnClusterTestCase, execute


class ControlTests(OwnClusterTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.heard: DeferredQueue[str] = DeferredQueue()
        self.again: DeferredQueue[None] = DeferredQueue()

    async def listening(self, channel: str = "chatproto") -> Control:
        control = Control(self.dsn, reactor, channel, self.heard.put, lambda: self.again.put(None))
        self.addCleanup(lambda: Deferred.fromCoroutine(control.close()))
        await control.start()
        await self.again.get()
        return control

    async def test_heard(self) -> None:
        """What the command line changes reaches a running daemon at once, in order, nothing of other channels."""
        await self.listening('odd "name"')
        execute(self.dsn, "SELECT pg_notify('other', 'no')")
        for word in ("ban 7", "unban 7"):
            execute(self.dsn, "SELECT pg_notify('odd \"name\"', %s)", word)
        self.assertEqual([await self.heard.get(), await self.heard.get()], ["ban 7", "unban 7"])

    async def test_restart(self) -> None:
        """After PostgreSQL was restarted the daemon listens again, and knows that it may have missed something."""
        await self.listening()
        for _ in range(2):
            self.cluster.restart()
            await self.again.get()
            execute(self.dsn, "NOTIFY chatproto, 'ban 7'")
            self.assertEqual(await self.heard.get(), "ban 7")

    async def test_fault(self) -> None:
        """One change that cannot be taken in is logged and does not end the listening."""

        def heard(payload: str) -> None:
            self.heard.put(payload)
            if payload == "bad":
                raise LookupError(payload)

        control = Control(self.dsn, reactor, "chatproto", heard, lambda: None)
        self.addCleanup(lambda: Deferred.fromCoroutine(control.close()))
        await control.start()
        execute(self.dsn, "NOTIFY chatproto, 'bad'")
        execute(self.dsn, "NOTIFY chatproto, 'good'")
        self.assertEqual([await self.heard.get(), await self.heard.get()], ["bad", "good"])
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    async def test_close(self) -> None:
        """After the end nothing is heard, and no connection stays."""
        control = await self.listening()
        await control.close()
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'chatproto control'"
        while execute(self.dsn, sql) != [(0,)]:
            pass
        self.assertEqual(self.heard.pending, [])
