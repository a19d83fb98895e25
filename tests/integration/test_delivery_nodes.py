"""Two daemons on one database, of which one stands still for longer than its lease."""

from __future__ import annotations

import signal

from tests.database import fresh_database
from tests.integration.daemon import Daemon, eventually
from tests.integration.delivery import CALM, DeliveryTestCase
from tests.integration.hurried import hurried


class FrozenTests(DeliveryTestCase):
    async def run_node(self, dsn: str) -> Daemon:
        return await self.run_daemon("--query-timeout", "1", database=dsn, **hurried(10))

    async def test_stopped_and_continued(self) -> None:
        """A daemon that is stopped for longer than its lease, and continued, writes nothing stale and loses nothing.

        Its clients stay connected, are told that they may have missed something, and go on; those of the other
        daemon notice nothing. (A minute with a lease of 20 s; here all of it is a tenth as long.)
        """
        dsn = await fresh_database()
        frozen = await self.run_node(dsn)
        other = await self.run_node(dsn)
        load = self.make_load(frozen, other, pause=CALM)
        await load.begin(200)
        here = [writer for writer in load.writers if writer.port() == frozen.port]
        elsewhere = {writer.name for writer in load.writers if writer not in here}
        frozen.signal(signal.SIGSTOP)
        self.addCleanup(self.thaw, frozen)

        async def given_up() -> bool:
            return self.sessions(frozen) == 0

        await eventually(given_up, "the end of the sessions of a node that is frozen")
        before = len(load.ledger.acknowledged)
        await load.more(100)
        self.assertLessEqual({to for to, _, _ in load.ledger.acknowledged[before:]}, elsewhere)
        frozen.signal(signal.SIGCONT)
        await frozen.logged("was given up and is back")
        for writer in here:
            await writer.client.push(39099 if writer in load.admins else 29099)
        await load.more(100)
        await load.settle()
        self.stayed(load)
        self.assertEqual(self.sessions(frozen), len(here))
        self.assertNotIn("was given up", other.log)
        self.keeps_its_promises(400)

    def sessions(self, daemon: Daemon) -> int:
        """How many connections of a daemon are on line, as the database has it."""
        [(sessions,)] = self.daemon.sql(
            "SELECT count(*) FROM session s JOIN node n ON n.id = s.node_id WHERE n.name = %s AND s.ended_at IS NULL",
            (daemon.data / "node").read_text(),
        )
        return int(sessions)

    def thaw(self, daemon: Daemon) -> None:
        if daemon.exit_code is None:
            daemon.signal(signal.SIGCONT)
