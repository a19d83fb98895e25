"""PostgreSQL goes away while the daemon stays: nothing is lost, everybody is told in time, and work goes on by itself.

Where the time matters, all times but the last are a fifth of what they are by default: an outage of 30 s, the limit
for queries of 5 s, the lease of 20 s. Work has to go on within 2 s of the return of PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.database import OwnClusterTestCase, execute, fresh_database, named
from tests.integration.case import all_of
from tests.integration.client import Client, ConnectionGone, Frame
from tests.integration.delivery import DeliveryTestCase, Stopwatch
from tests.integration.hurried import hurried
from tests.integration.ledger import UNKNOWN
from tests.integration.writers import Load

HURRY = 5
OUTAGE = 30.0 / HURRY
LIMIT = 5.0 / HURRY
BACK = 2.0


class TerminatedTests(DeliveryTestCase):
    async def test_connections_are_terminated(self) -> None:
        """Somebody ends the daemon's connections to PostgreSQL, again and again: the load goes on, nobody is told."""
        dsn = await fresh_database()
        await self.run_daemon(database=dsn)
        load = self.make_load()
        await load.begin(100)
        for _ in range(5):
            execute(
                named(dsn, "postgres"),
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'chatproto %%'"
                " AND datname = %s",
                dsn.rpartition("/")[2].partition("?")[0],
            )
            await load.more(50)
        await load.settle()
        self.stayed(load)
        self.keeps_its_promises(350)


class OutageTestCase(OwnClusterTestCase, DeliveryTestCase):
    async def begin(self) -> Load:
        options = ("--query-timeout", f"{LIMIT:g}", "--login-timeout", "1m")
        await self.run_daemon(*options, database=self.dsn, **hurried(HURRY))
        load = self.make_load()
        await load.begin(200)
        return load

    async def settled(self, load: Load) -> None:
        """Nothing is under way any more, on the same connections."""
        await load.settle()
        self.stayed(load)


class AwayTests(OutageTestCase):
    """The outage of 30 s, shortened."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.watch = Stopwatch()
        self.later(self.watch.stop)

    async def in_time(self, replies: list[Deferred[Frame]], sends: list[Deferred[None]]) -> None:
        """All of them are errors of the database, within the limit; the log knows each."""
        asked = self.watch.seconds
        for reply in await all_of(*replies):
            self.assertEqual(reply["code"], -9995, reply)
            await self.daemon.logged(reply["data"]["trace_id"])
        await all_of(*sends)
        self.assertLessEqual(self.watch.seconds - asked, 1.5 * LIMIT)

    async def outlast(self, load: Load, stranger: Client, seconds: float) -> None:
        """Every command is answered with an error in time, again and again; connections and heartbeats stay."""
        admin, guest = load.admins[0], load.guests[0]
        began = self.watch.seconds
        while self.watch.seconds - began < seconds:
            told = len(load.ledger.acknowledged)
            replies = [
                admin.client.request(32000),
                admin.client.request(32100, gid=guest.gid, group_id=self.group_id),
                guest.client.request(22100),
                load.guests[1].client.request(22060),
                load.guests[2].client.request(22200),
                stranger.request(21000, call_type=1, group_id=self.group_id),
            ]
            await self.in_time(replies, [writer.send(writer.entry()) for writer in load.writers])
            for writer in load.writers:
                self.assertEqual((await writer.client.beat())["code"], 200)
            self.assertEqual(len(load.ledger.acknowledged), told)
        self.stayed(load)
        # What was under way when it began may be stored.
        self.assertNotEqual(load.ledger.of(UNKNOWN), [])

    async def outage(
        self, seconds: float, away: Callable[[], Awaitable[None]], back: Callable[[], Awaitable[None]]
    ) -> None:
        load = await self.begin()
        stranger = await self.client("stranger").connect(self.daemon.port)
        await away()
        # What had been committed before is told now.
        for writer in load.writers:
            await writer.client.beat()
        await self.outlast(load, stranger, seconds)
        await self.daemon.ready(503)
        self.assertEqual((await self.daemon.http("/healthz"))[0], 200)
        await back()
        # It is back when it answers: connections that were given up meanwhile come first.
        await deferToThread(execute, self.dsn, "SELECT 1")
        returned = self.watch.seconds
        await load.more(1)
        self.assertLessEqual(self.watch.seconds - returned, BACK)
        await self.daemon.ready()
        await load.more(100)
        await self.guest("newcomer")
        await self.settled(load)
        self.keeps_its_promises(300)

    async def test_away(self) -> None:
        """Without PostgreSQL, commands get an error in time, heartbeats go on, and it recovers by itself."""

        async def stop() -> None:
            await deferToThread(self.cluster.stop)

        async def start() -> None:
            await deferToThread(self.cluster.start)

        await self.outage(OUTAGE, stop, start)
        # Longer than its lease, after which a node starts no command before it is back.
        await self.daemon.logged("was given up and is back")

    async def test_frozen(self) -> None:
        """The same where PostgreSQL is there, and does not answer."""

        async def freeze() -> None:
            self.cluster.pause()

        async def thaw() -> None:
            self.cluster.resume()

        await self.outage(2 * LIMIT, freeze, thaw)


class RestartTests(OutageTestCase):
    async def test_a_restart_in_the_middle_of_a_load(self) -> None:
        """PostgreSQL restarts: connections stay, and the load goes on as if nothing had been."""
        load = await self.begin()
        await deferToThread(self.cluster.restart)
        await load.more(200)
        await self.settled(load)
        self.keeps_its_promises(400)

    async def test_killed(self) -> None:
        """PostgreSQL crashes in the middle of a load, and comes back."""
        load = await self.begin()
        await deferToThread(self.cluster.kill)
        await deferToThread(self.cluster.start)
        await load.more(100)
        await self.settled(load)
        self.keeps_its_promises(300)

    async def test_a_client_that_was_cut_off_meanwhile(self) -> None:
        """Somebody loses the connection while PostgreSQL is away; the session ends once it is back."""
        load = await self.begin()
        load.rest()
        await deferToThread(self.cluster.stop)
        admin = load.admins[0]
        await admin.client.drop()
        await deferToThread(self.cluster.start)
        await self.daemon.ready()
        other = load.admins[1].client
        gone = lambda data: data["aix"] == admin.admin_id and data["status"] == 0  # noqa: E731
        await other.push(33099, gone)
        with self.assertRaises(ConnectionGone):
            await admin.client.request(33000)
