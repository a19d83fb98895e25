"""The daemon ends in the middle of a load: what was acknowledged is there, nothing is there twice."""

from __future__ import annotations

import signal
from contextlib import closing
from functools import partial

import psycopg2

from tests.database import fresh_database
from tests.integration.case import all_of
from tests.integration.client import Client
from tests.integration.daemon import eventually
from tests.integration.delivery import DeliveryTestCase
from tests.integration.ledger import REFUSED, UNKNOWN, stored_in
from tests.relay import Relay


class KillTests(DeliveryTestCase):
    async def test_kill_in_the_middle_of_a_load(self) -> None:
        """kill -9 of the default daemon, its PostgreSQL included, twice: nothing acknowledged is lost or doubled."""
        await self.run_daemon()
        load = self.make_load()
        await load.begin(200)
        for _ in range(2):
            await self.daemon.kill()
            await load.gone()
            self.assertNotEqual(load.ledger.of(UNKNOWN), [])
            await self.daemon.start()
            await load.resume()
            load.write()
            await load.more(100)
        await load.settle()
        self.keeps_its_promises(400)


class LostAnswerTests(DeliveryTestCase):
    """Between the daemon and PostgreSQL stands a relay that keeps the answer to a commit."""

    async def run_behind_relay(self, *options: str) -> Relay:
        direct = await fresh_database()
        relay = Relay(direct)
        self.addCleanup(relay.close)
        await self.run_daemon(*options, database=relay.listen())
        # What the test itself asks blocks this process, and so the relay.
        self.daemon.database = direct
        return relay

    async def kept(self, relay: Relay, marker: bytes) -> None:
        """From now on no commit of this kind is answered; returns when the first one is done."""
        before, lost = len(stored_in(self.daemon.dsn, self.group_id)), relay.swallowed
        relay.swallow(marker, for_ever=True, cut=False)

        async def committed() -> bool:
            return relay.swallowed > lost and len(stored_in(self.daemon.dsn, self.group_id)) > before

        await eventually(committed, "a commit whose answer is kept")

    def stored_and_unknown(self) -> int:
        """How much is in the database that its sender does not know of."""
        unknown = {entry.name for entry in self.load.ledger.of(UNKNOWN)}
        return sum(one.name in unknown for one in stored_in(self.daemon.dsn, self.group_id))

    async def test_kill_between_commit_and_answer(self) -> None:
        """Killed after a batch was committed, before anybody was told: repeated, each of its messages stands once."""
        relay = await self.run_behind_relay()
        load = self.make_load()
        await load.begin(100)
        await self.kept(relay, b"append_messages")
        await self.daemon.kill()
        await load.gone()
        self.assertGreater(self.stored_and_unknown(), 0)
        relay.swallow(None)
        await self.daemon.start()
        await load.resume()
        self.keeps_its_promises(100)

    async def test_kill_between_the_start_of_a_service_and_its_answer(self) -> None:
        """The same for a first message, which is committed together with the decision who serves."""
        relay = await self.run_behind_relay()
        load = self.make_load()
        await load.come()
        load.write(load.guests)
        await self.kept(relay, b"COMMIT")
        await self.daemon.kill()
        await load.gone()
        self.assertGreater(self.stored_and_unknown(), 0)
        relay.swallow(None)
        await self.daemon.start()
        await load.resume()
        self.keeps_its_promises(3)

    async def test_a_lost_answer(self) -> None:
        """The line to PostgreSQL breaks after a commit: the daemon finds out by itself what is stored.

        Where it cannot within the time limit it says that it does not know.
        """
        relay = await self.run_behind_relay("--query-timeout", "2")
        load = self.make_load()
        await load.begin(50)
        for lost in range(1, 4):
            relay.swallow(b"append_messages")
            await load.ledger.until(partial(self.swallowed, relay, lost))
            await load.more(50)
        self.assertEqual((load.ledger.of(UNKNOWN), load.ledger.of(REFUSED)), ([], []))
        await self.kept(relay, b"append_messages")
        await load.ledger.until(lambda: bool(load.ledger.of(UNKNOWN)))
        self.assertGreater(self.stored_and_unknown(), 0)
        relay.swallow(None)
        await load.settle()
        self.stayed(load)
        self.keeps_its_promises(200)

    def swallowed(self, relay: Relay, answers: int) -> bool:
        return relay.swallowed == answers


class TermTests(DeliveryTestCase):
    async def test_term_in_the_middle_of_a_load(self) -> None:
        """SIGTERM: within 10 seconds exit code 0; who was connected is told 1001, and nothing acknowledged is lost.

        A command that comes while the server waits for earlier ones gets -9993 or no answer.
        """
        await self.run_daemon()
        load = self.make_load()
        await load.begin(300)
        self.daemon.signal(signal.SIGTERM)
        await self.daemon.until(lambda: self.daemon.exit_code is not None, "end", 10)
        self.assertEqual(self.daemon.exit_code, 0)
        await load.gone()
        self.assertEqual({(await writer.client.closed())[0] for writer in load.writers}, {1001})
        codes = {frame["code"] for writer in load.writers for frame in writer.client.frames if frame["code"] < 0}
        self.assertLessEqual(codes, {-9993})
        refused = load.ledger.of(REFUSED)
        self.clean_log()
        await self.daemon.start()
        await load.resume()
        self.assertEqual(load.ledger.of(REFUSED), refused)
        self.keeps_its_promises(300)
        self.clean_log()

    async def test_what_is_answered_last_is_told(self) -> None:
        """What a sender has in a row is told together: also those to whom that is news hear of it before 1001."""
        await self.run_daemon(database=await fresh_database())
        self.group_id = self.daemon.add_group()
        alice = await self.admin(self.daemon.add_admin(self.group_id, "Alice"), "alice")
        guest = await self.guest("guest")
        await guest.good_request(22300, msg="Hello")
        await alice.push(32401)
        with closing(psycopg2.connect(self.daemon.dsn)) as stranger:
            stranger.cursor().execute("LOCK TABLE message IN EXCLUSIVE MODE")
            sent = [guest.request(22300, msg=str(number)) for number in range(10)]
            await guest.beat()
            self.daemon.signal(signal.SIGTERM)
            await eventually(partial(self.draining, alice), "the end to begin")
        self.assertEqual([reply["code"] for reply in await all_of(*sent)], [200] * 10)
        self.assertEqual((await alice.closed())[0], 1001)
        told = [frame["data"]["message_info"]["msg"] for frame in alice.frames if frame["code"] == 32399]
        self.assertEqual(told[-10:], [str(number) for number in range(10)])
        self.assertEqual(await self.daemon.ended(), 0)

    async def draining(self, client: Client) -> bool:
        return await client.code(33000) == -9993

    async def test_what_was_received_is_answered(self) -> None:
        """What the server had read before SIGTERM is stored and acknowledged before 1001."""
        await self.run_daemon(database=await fresh_database())
        load = self.make_load()
        await load.begin(10)
        await load.settle()
        guest = load.guests[0]
        burst = [guest.send(guest.entry()) for _ in range(50)]
        last = guest.client.request(22100)
        # Heartbeats pass everything that waits: once this one is answered, the burst has been read.
        await guest.client.beat()
        self.daemon.signal(signal.SIGTERM)
        await all_of(*burst)
        self.assertEqual((await last)["code"], 200)
        self.assertEqual((load.ledger.of(UNKNOWN), load.ledger.of(REFUSED)), ([], []))
        self.assertEqual((await guest.client.closed())[0], 1001)
        self.assertEqual(await self.daemon.ended(), 0)
        self.assertEqual([line for line in self.faults() if "never saw" not in line], [])
