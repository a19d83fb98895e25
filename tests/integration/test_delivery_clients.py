"""Clients that break off or say things twice, a row that somebody keeps locked, and a queue that is full."""

from __future__ import annotations

import socket
import struct
from functools import partial
from typing import Any

import psycopg2
from twisted.internet.defer import gatherResults

from tests.database import fresh_database
from tests.integration.daemon import Daemon, token
from tests.integration.delivery import CALM, DeliveryTestCase
from tests.integration.ledger import ACKNOWLEDGED, REFUSED
from tests.integration.raw import RawClient
from tests.integration.writers import GuestWriter, Writer

RESETS = 25


def reset(client: RawClient) -> None:
    """End the connection at once, with a TCP reset."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


class ResetTests(DeliveryTestCase):
    async def test_a_reset_right_after_each_send(self) -> None:
        """Whose connection breaks right after each send finds each message stored once, after repeating it."""
        await self.run_daemon(database=await fresh_database())
        load = self.make_load()
        await load.begin(20)
        guest, admin = load.guests[0], load.admins[0]
        await load.ledger.until(lambda: bool(admin.targets()))
        for _ in range(RESETS):
            self.break_off(guest, call_type=1, api_key=21000, group_id=self.group_id, guest_token=guest.guest_token)
            self.break_off(admin, call_type=3, api_key=31000, token=token(admin_id=admin.admin_id), v=2)
        await load.settle()
        self.stayed(load)
        self.keeps_its_promises(20 + 2 * RESETS)

    def break_off(self, writer: Writer, **login: Any) -> None:
        """Another device of *writer* logs in, sends, and is gone."""
        device = RawClient(self.daemon.port).open()
        self.assertEqual(device.ask(**login)["code"], 200)
        entry = writer.entry()
        self.load.ledger.send(entry)
        device.send(**writer.request(entry))
        reset(device)
        self.load.ledger.lose(entry)


class TwiceTests(DeliveryTestCase):
    """One person, two connections, the same messages at the same time."""

    async def everything_twice(self, first: Daemon, second: Daemon) -> None:
        load = self.make_load(first, second, guests=1)
        [guest], [alice, bob] = load.guests, load.admins
        # The load's only guest gives no cmids, its second admin is somebody else: here both sides are one person twice.
        guest.cmids = True
        bob.admin_id = alice.admin_id
        tab = GuestWriter(load.ledger, "other tab", self.group_id, lambda: second.port)
        await load.come()
        tab.guest_token = guest.guest_token
        await tab.come()
        self.later(tab.client.drop)
        await self.say_twice(guest, tab, 40)
        await load.catch_up()
        bob._guests = alice._guests = frozenset([guest.gid])
        await self.say_twice(alice, bob, 40)
        for writer in (*load.writers, tab):
            await writer.settle()
            await writer.catch_up()
        self.keeps_its_promises(80)
        # Of both answers one says that the message stood already.
        self.assertEqual(len(load.ledger.acknowledged), 80)
        self.assertEqual(sum(len(entry.seqs) for entry in load.ledger.of(ACKNOWLEDGED)), 160)

    async def say_twice(self, one: Writer, other: Writer, messages: int) -> None:
        entries = [one.entry() for _ in range(messages)]
        # The first one starts the service. Then each side meets its own messages and those of the other.
        sends = [one.send(entry) for entry in entries]
        sends += [other.send(entry) for entry in (entries[0], *reversed(entries[1:]))]
        await gatherResults(sends)

    async def test_one_cmid_from_two_connections(self) -> None:
        """A message that comes from two tabs of a guest, or two devices of an admin, at once is stored once."""
        await self.run_daemon(database=await fresh_database())
        await self.everything_twice(self.daemon, self.daemon)

    async def test_one_cmid_on_two_daemons(self) -> None:
        """The same where the two are connected to different daemons on one database."""
        dsn = await fresh_database()
        first = await self.run_daemon(database=dsn)
        second = await self.run_daemon(database=dsn)
        await self.everything_twice(first, second)


class StuckTests(DeliveryTestCase):
    async def test_a_row_that_somebody_keeps_locked(self) -> None:
        """A stranger locks a conversation for longer than all limits: its senders are told, others write on."""
        await self.run_daemon("--query-timeout", "1", database=await fresh_database())
        load = self.make_load(pause=CALM)
        await load.begin(50)
        stuck = load.guests[0]
        stranger = psycopg2.connect(self.daemon.dsn)
        self.addCleanup(stranger.close)
        cursor = stranger.cursor()
        cursor.execute(
            "SELECT last_seq FROM conversation WHERE group_id = %s AND guest_id = %s FOR UPDATE",
            (self.group_id, stuck.gid),
        )
        [(last_seq,)] = cursor.fetchall()
        others = {guest.name for guest in load.guests[1:]}
        for _ in range(2):
            before = len(load.ledger.acknowledged)
            # Who writes only there is told again and again; all others write on meanwhile.
            await load.ledger.until(partial(self.told, stuck, self.errors(stuck) + stuck.window))
            heard = load.ledger.acknowledged[before:]
            self.assertLessEqual(others, {to for to, _, _ in heard})
            self.assertEqual([seq for _, entry, seq in heard if entry.gid == stuck.gid and seq > last_seq], [])
        stranger.rollback()
        await load.ledger.until(lambda: load.ledger.acknowledged[-1][0] == stuck.name)
        await load.settle()
        self.stayed(load)
        self.keeps_its_promises(100)

    def errors(self, writer: Writer) -> int:
        """How many sends of *writer* were answered with an error, certain or not."""
        own = [entry for entry in self.load.ledger.entries.values() if entry.sender == writer.sender]
        return sum(entry.refused + entry.lost for entry in own)

    def told(self, writer: Writer, errors: int) -> bool:
        return self.errors(writer) >= errors


class FullTests(DeliveryTestCase):
    async def test_a_full_queue(self) -> None:
        """With more messages than the journal takes, some are refused and certainly not stored; the rest is."""
        await self.run_daemon("--batch-size", "5", "--queue-size", "10", database=await fresh_database())
        load = self.make_load()
        await load.begin(200)
        await load.settle()
        self.assertNotEqual(load.ledger.of(REFUSED), [])
        self.stayed(load)
        self.keeps_its_promises(200)
