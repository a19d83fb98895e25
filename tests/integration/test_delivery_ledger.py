"""The ledger itself: for each criterion a record that breaks it, and a daemon that is wrong on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.database import fresh_database
from tests.integration.delivery import DeliveryTestCase
from tests.integration.ledger import REFUSED, UNKNOWN, Entry, Ledger, Stored, View

GUEST, ADMIN = ("guest", 5), ("admin", 1)


def said(number: int, sender: tuple[str, int] = GUEST, *, cmids: bool = True, gid: int = 5) -> Entry:
    text = f"{sender[0]} says {number}"
    return Entry(text if cmids else None, gid, sender, text)


def row(entry: Entry, seq: int, **other: Any) -> Stored:
    return replace(Stored(entry.gid, seq, entry.sender, entry.cmid, entry.text), **other)


def shown(one: Stored) -> dict[str, Any]:
    """As it stands in a frame."""
    sender = {"type": one.sender[0], "id": one.sender[1], "name": "", "avatar": ""}
    return {"gid": one.gid, "seq": one.seq, "sender": sender, "cmid": one.cmid, "msg": one.text}


class CriteriaTests(SynchronousTestCase):
    """Two messages of a guest and one of an admin, acknowledged, stored and seen; then one thing is wrong."""

    def setUp(self) -> None:
        self.ledger = Ledger()
        self.view = View("the guest")
        self.ledger.views.append(self.view)
        self.entries = [said(1), said(2, cmids=False), said(1, ADMIN)]
        self.stored = [row(entry, seq) for seq, entry in enumerate(self.entries, 1)]
        for one, entry in zip(self.stored, self.entries, strict=True):
            self.ledger.send(entry)
            self.ledger.acknowledge(entry, one.seq, entry.sender[0], dup=False)
            self.view.add(shown(one))
        self.view.follows.add(5)

    def found(self, *beginnings: str) -> None:
        """Just these faults are found."""
        faults = self.ledger.faults_in(self.stored)
        self.assertEqual(len(faults), len(beginnings), faults)
        for fault, beginning in zip(faults, beginnings, strict=True):
            self.assertTrue(fault.startswith(beginning), fault)

    def send(self, entry: Entry) -> Entry:
        self.ledger.send(entry)
        return entry

    def test_nothing_wrong(self) -> None:
        """A server that keeps its promises has no faults."""
        self.found()

    def test_acknowledged_but_not_stored(self) -> None:
        """A message that is lost after its acknowledgement is noticed, with and without a cmid."""
        for lost in (self.stored[1], self.stored[0]):
            self.stored.remove(lost)
            self.view.seen.pop((5, lost.seq))
        self.found("acknowledged but not stored", "acknowledged but not stored", "a gap")

    def test_stored_otherwise(self) -> None:
        """A message that stands under another seq than was said, or lost its cmid, is noticed."""
        self.entries[0].seqs[0] = 9
        self.found("stored otherwise")
        self.entries[0].seqs[0] = 1
        self.stored[0] = row(self.entries[0], 1, cmid=None)
        self.view.seen[5, 1] = {self.stored[0]}
        self.found("stored otherwise")

    def test_acknowledged_differently(self) -> None:
        """A repeat that is told another seq than the first one is noticed."""
        self.send(self.entries[0])
        self.ledger.acknowledge(self.entries[0], 2, "guest", dup=True)
        self.found("stored otherwise")

    def test_altered(self) -> None:
        """A message whose words were changed on the way is noticed."""
        self.stored[0] = row(self.entries[0], 1, text="something else")
        self.view.seen[5, 1] = {self.stored[0]}
        self.found("acknowledged but not stored", "stored but never sent")

    def test_twice(self) -> None:
        """A repeat that makes a second message is noticed; so is one that is stored twice without a cmid."""
        self.stored += [row(self.entries[0], 4), row(self.entries[1], 5)]
        for one in self.stored[3:]:
            self.view.add(shown(one))
        self.found("stored otherwise", "stored otherwise", "stored 2 times", "stored 2 times", "stored 2 times")

    def test_one_cmid_for_two_messages(self) -> None:
        """Two messages under one cmid are noticed."""
        other = self.send(said(7))
        other.cmid = self.entries[0].cmid
        self.stored.append(row(other, 4))
        self.view.add(shown(self.stored[3]))
        self.ledger.acknowledge(other, 4, "guest", dup=False)
        self.found("stored 2 times")

    def test_refused_but_stored(self) -> None:
        """A message that is stored although its sender was told that it is not is noticed."""
        refused = self.send(said(3))
        self.ledger.refuse(refused)
        self.assertEqual(refused.state, REFUSED)
        self.found()
        self.stored.append(row(refused, 4))
        self.view.add(shown(self.stored[3]))
        self.found("refused but stored")

    def test_unknown_is_not_refused(self) -> None:
        """What is unknown may be stored or not, also when a repeat of it was refused."""
        unknown = self.send(said(3))
        self.ledger.lose(unknown)
        self.send(unknown)
        self.ledger.refuse(unknown)
        self.assertEqual(unknown.state, UNKNOWN)
        self.assertEqual(self.ledger.open, [unknown])
        self.found()
        self.stored.append(row(unknown, 4))
        self.view.add(shown(self.stored[3]))
        self.found()

    def test_without_a_cmid_nothing_stays_open(self) -> None:
        """Who gives no cmid cannot repeat: what is unknown stays so, and is stored once or not at all."""
        unknown = self.send(said(3, cmids=False))
        self.assertEqual(self.ledger.open, [unknown])
        self.ledger.lose(unknown)
        self.assertEqual(self.ledger.open, [])
        self.found()
        self.stored += [row(unknown, 4), row(unknown, 5)]
        for one in self.stored[3:]:
            self.view.add(shown(one))
        self.found("stored 2 times")

    def test_never_sent(self) -> None:
        """A message that nobody of them sent is noticed."""
        self.stored.append(row(said(8, ADMIN), 4))
        self.view.add(shown(self.stored[3]))
        self.found("stored but never sent")

    def test_a_gap(self) -> None:
        """A number that was given to no message is noticed: a client would ask for it for ever."""
        late = self.send(said(3))
        self.ledger.acknowledge(late, 5, "guest", dup=False)
        self.stored.append(row(late, 5))
        self.view.add(shown(self.stored[3]))
        self.found("a gap")

    def test_out_of_order(self) -> None:
        """A sender's message that stands before one that was acknowledged earlier is noticed."""
        first, second = self.send(said(3)), self.send(said(4))
        self.ledger.acknowledge(second, 5, "guest", dup=False)
        self.ledger.acknowledge(first, 4, "guest", dup=False)
        self.stored += [row(first, 4), row(second, 5)]
        for one in self.stored[3:]:
            self.view.add(shown(one))
        self.found("acknowledged after a later one")

    def test_a_repeat_comes_late(self) -> None:
        """The acknowledgement of a repeat names an old place, and is no disorder."""
        self.send(self.entries[0])
        self.ledger.acknowledge(self.entries[0], 1, "guest", dup=True)
        self.found()

    def test_pushed_but_not_stored(self) -> None:
        """A push of what is not in the database is noticed."""
        self.view.push(shown(row(said(9), 4)))
        self.found("the guest saw what is not stored")

    def test_pushed_otherwise(self) -> None:
        """A push with other words than are stored is noticed, also where the stored ones came too."""
        self.view.push(shown(row(self.entries[2], 3, text="something else")))
        self.found("the guest saw what is not stored")

    def test_pushed_out_of_order(self) -> None:
        """A push behind a later one of the conversation, or twice, is noticed; not where the connection is another."""
        for one in (self.stored[2], self.stored[0], self.stored[0]):
            self.view.push(shown(one))
        self.found("pushed to the guest after a later one", "pushed to the guest after a later one")
        self.view.disorder.clear()
        self.view.connected()
        self.view.push(shown(self.stored[0]))
        self.found()

    def test_not_seen(self) -> None:
        """A client that misses a message after it has caught up is noticed; one that has not caught up is not."""
        del self.view.seen[5, 2]
        self.found("the guest never saw")
        self.view.follows.clear()
        self.found()


class EarlyTests(DeliveryTestCase):
    async def test_the_ledger_notices_an_early_acknowledgement(self) -> None:
        """A server that says "stored" before COMMIT, and is killed, does not get through these tests."""
        await self.run_daemon(database=await fresh_database(), program=("-m", "tests.integration.early"))
        load = self.make_load()
        await load.begin(100)
        await self.daemon.kill()
        await load.gone()
        found = "\n".join(self.faults())
        self.assertIn("acknowledged but not stored", found)
        self.assertIn("saw what is not stored", found)
