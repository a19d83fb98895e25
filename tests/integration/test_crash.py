"""Faults in the middle of a load: what was acknowledged is there, nothing is there twice, and everybody goes on."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.database import OwnClusterTestCase, fresh_database
from tests.integration.case import ROOMY, ClientsTestCase, all_of
from tests.integration.client import ConnectionGone
from tests.integration.daemon import Daemon
from tests.integration.ledger import ACKNOWLEDGED, REFUSED, UNKNOWN, Load

FAST = (*ROOMY, "--rate", "100000", "--burst", "100000")


class LoadTestCase(ClientsTestCase):
    load: Load

    def later(self, coroutine: Any) -> None:
        self.addCleanup(lambda: Deferred.fromCoroutine(coroutine()))

    async def run_daemon(self, *options: str, **places: Any) -> Daemon:
        self.daemon = Daemon(*FAST, *options, **places)
        self.later(self.daemon.close)
        return await self.daemon.start()

    def make_load(self) -> Load:
        group_id = self.group_id = self.daemon.add_group()
        admin_ids = [self.daemon.add_admin(group_id, name) for name in ("Alice", "Bob")]
        self.load = Load(group_id, admin_ids, lambda: self.daemon.port)
        self.later(self.load.leave)
        return self.load

    def faults(self) -> list[str]:
        return self.load.ledger.faults(self.daemon.dsn, self.group_id)

    def keeps_its_promises(self, acknowledged: int) -> None:
        """At least so many messages were acknowledged, and everything is as docs/protocol.md 2.5 has it."""
        self.assertEqual(self.faults(), [])
        self.assertEqual(self.load.ledger.of(UNKNOWN), [])
        self.assertGreaterEqual(len(self.load.ledger.of(ACKNOWLEDGED)), acknowledged)


class KillTests(LoadTestCase):
    async def test_kill_in_the_middle_of_a_load(self) -> None:
        """kill -9 of the default daemon, its PostgreSQL included: not one acknowledged message is lost or doubled."""
        await self.run_daemon()
        load = self.make_load()
        await load.begin(300)
        await self.daemon.kill()
        for writer in load.writers:
            await writer.client.closed()
        self.assertNotEqual(load.ledger.of(UNKNOWN), [])
        await self.daemon.start()
        await load.resume()
        self.keeps_its_promises(300)

    async def test_kill_twice_with_work_between(self) -> None:
        """Clients that write on after a crash, and meet the next one, see the same conversation in the end."""
        await self.run_daemon(database=await fresh_database())
        load = self.make_load()
        await load.begin(100)
        for _ in range(2):
            await self.daemon.kill()
            await self.daemon.start()
            await load.resume()
            for writer in load.writers:
                writer.write()
            await load.more(100)
        await load.resume()
        self.keeps_its_promises(300)

    async def test_the_ledger_notices_an_early_acknowledgement(self) -> None:
        """A server that says "stored" before COMMIT, and is killed, does not get through this test."""
        await self.run_daemon(database=await fresh_database(), program=("-m", "tests.integration.early"))
        load = self.make_load()
        await load.begin(100)
        await self.daemon.kill()
        load.rest()
        for writer in load.writers:
            await writer.client.closed()
        found = "\n".join(self.faults())
        self.assertIn("acknowledged but not stored", found)
        self.assertIn("saw what is not stored", found)


class TermTests(LoadTestCase):
    async def test_term_in_the_middle_of_a_load(self) -> None:
        """SIGTERM: within 10 seconds exit code 0; who was connected is told 1001, and nothing acknowledged is lost."""
        await self.run_daemon()
        load = self.make_load()
        await load.begin(300)
        self.daemon.signal(signal.SIGTERM)
        await self.daemon.until(lambda: self.daemon.exit_code is not None, "end", 10)
        self.assertEqual(self.daemon.exit_code, 0)
        for writer in load.writers:
            self.assertEqual((await writer.client.closed())[0], 1001)
        self.clean_log()
        await self.daemon.start()
        await load.resume()
        self.keeps_its_promises(300)
        self.clean_log()

    async def test_what_was_received_is_answered(self) -> None:
        """What the server had read before SIGTERM is stored and acknowledged before 1001."""
        await self.run_daemon(database=await fresh_database())
        load = self.make_load()
        await load.begin(10)
        load.rest()
        for writer in load.writers:
            await writer.settle()
        guest = load.guests[0].client
        burst = [guest.request(22300, msg=f"{n}", cmid=f"burst-{n}") for n in range(50)]
        last = guest.request(22100)
        # Heartbeats pass everything that waits: once this one is answered, the burst has been read.
        await guest.beat()
        self.daemon.signal(signal.SIGTERM)
        replies = await all_of(*burst, last)
        self.assertEqual([reply["code"] for reply in replies], [200] * 51)
        self.assertEqual((await guest.closed())[0], 1001)
        self.assertEqual(await self.daemon.ended(), 0)

    async def test_what_comes_after_term_is_refused(self) -> None:
        """A command that comes while the server waits for earlier ones gets -9993 or no answer: nothing is lost."""
        await self.run_daemon()
        load = self.make_load()
        await load.begin(100)
        self.daemon.signal(signal.SIGTERM)
        for writer in load.writers:
            await writer.client.closed()
        codes = {frame["code"] for writer in load.writers for frame in writer.client.frames if frame["code"] < 0}
        self.assertLessEqual(codes, {-9993})
        await self.daemon.ended()
        refused = load.ledger.of(REFUSED)
        await self.daemon.start()
        await load.resume()
        self.assertEqual(load.ledger.of(REFUSED), refused)
        self.keeps_its_promises(100)


class DatabaseTests(OwnClusterTestCase, LoadTestCase):
    """The database goes away while the daemon stays."""

    async def begin(self) -> Load:
        await self.run_daemon("--query-timeout", "1", database=self.dsn)
        load = self.make_load()
        await load.begin(200)
        return load

    async def settled(self, load: Load) -> None:
        """Nothing is under way any more, on the same connections."""
        load.rest()
        for writer in load.writers:
            await writer.settle()
            self.assertIsNone(writer.client.end)
        for writer in load.writers:
            await writer.catch_up()

    async def test_a_restart_in_the_middle_of_a_load(self) -> None:
        """PostgreSQL restarts: connections stay, and the load goes on as if nothing had been."""
        load = await self.begin()
        await deferToThread(self.cluster.restart)
        await load.more(200)
        await self.settled(load)
        self.keeps_its_promises(400)

    async def test_away_for_a_while(self) -> None:
        """Without PostgreSQL, commands get an error in time, heartbeats go on, and it recovers by itself."""
        load = await self.begin()
        load.rest()
        await deferToThread(self.cluster.stop)
        admin, guest = load.admins[0].client, load.guests[0].client
        for reply in await all_of(admin.request(32000), guest.request(22100), guest.request(22300, msg="lost")):
            self.assertEqual(reply["code"], -9995)
            await self.daemon.logged(reply["data"]["trace_id"])
        for writer in load.writers:
            self.assertEqual((await writer.client.beat())["code"], 200)
        await self.daemon.ready(503)
        self.assertEqual((await self.daemon.http("/healthz"))[0], 200)
        await deferToThread(self.cluster.start)
        await self.daemon.ready()
        for writer in load.writers:
            writer.write()
        await load.more(100)
        await self.settled(load)
        self.keeps_its_promises(300)

    async def test_killed(self) -> None:
        """PostgreSQL crashes in the middle of a load, and comes back."""
        load = await self.begin()
        await deferToThread(self.cluster.kill)
        await deferToThread(self.cluster.start)
        await load.more(100)
        await self.settled(load)
        self.keeps_its_promises(300)

    async def test_frozen_for_a_while(self) -> None:
        """PostgreSQL hangs: sends become unknown in time, heartbeats go on; repeated, each is stored once."""
        load = await self.begin()
        self.cluster.pause()
        await load.ledger.until(lambda: bool(load.ledger.of(UNKNOWN)))
        self.assertEqual((await load.guests[0].client.beat())["code"], 200)
        self.assertEqual(await load.admins[0].client.code(32000), -9995)
        load.rest()
        self.cluster.resume()
        await self.settled(load)
        self.keeps_its_promises(200)

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
