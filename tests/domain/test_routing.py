from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatproto import errors
from chatproto.domain import routing
from chatproto.domain.model import (
    ENDED,
    NEW,
    OFFLINE,
    ONLINE,
    QUEUED,
    SERVING,
    SUSPENDED,
    Handover,
    Person,
    QueuePlace,
    Role,
    Standing,
)
from chatproto.domain.routing import FRESH, PUT_BACK, Board, Desk, Thread

NOW = 1_000_000

ANN, BOB, CAT = 1, 2, 3


def desk(admin_id: int, **fields: Any) -> Desk:
    """An admin on line with room for two."""
    given_fields: dict[str, Any] = {
        "banned": False,
        "connected": True,
        "in_grace": False,
        "suspended": False,
        "capacity": 2,
        "load": 0,
        "last_assigned_at": 0,
    }
    return Desk(Person(Role.ADMIN, admin_id, f"admin {admin_id}", ""), **(given_fields | fields))


def thread(gid: int, state: str = NEW, **fields: Any) -> Thread:
    """The conversation of a guest; its id is another number than the gid."""
    given_fields: dict[str, Any] = {
        "admin_id": None,
        "last_admin_id": fields.get("admin_id"),
        "away": False,
        "queue_rank": FRESH if state == QUEUED else None,
        "queued_at": NOW - 1000 + gid if state == QUEUED else None,
        "unanswered_since": None,
        "reason": "",
    }
    return Thread(gid + 1000, gid, state, **(given_fields | fields))


def board(*parts: Desk | Thread, banned: bool = False) -> Board:
    """A group; the load of its desks is counted."""
    desks = {part.id: part for part in parts if isinstance(part, Desk)}
    threads = {part.id: part for part in parts if isinstance(part, Thread)}
    for served in threads.values():
        if served.admin_id in desks:
            desks[served.admin_id].load += 1
    return Board(5, NOW, banned, desks, threads)


class Case(SynchronousTestCase):
    def serves(self, group: Board, gid: int) -> int | None:
        """Who serves a guest."""
        found = group.of(gid)
        assert found is not None
        self.assertEqual(found.state == SERVING, found.admin_id is not None)
        return found.admin_id

    def waiting(self, group: Board) -> list[int]:
        """The gids of the queue, the head first."""
        return [waiting.gid for waiting in group.queue()]

    def refused(self, error: type[errors.ChatError], group: Board, rule: Callable[..., object], *args: Any) -> Any:
        """A rule says no and leaves everything as it was; returns the data of the error."""
        before = deepcopy(group)
        data = self.assertRaises(error, rule, group, *args).data
        self.assertEqual(group, before)
        return data


class Starting(Case):
    def test_last_admin(self) -> None:
        """A guest comes to who served or wrote last, even where a colleague has less to do."""
        group = board(desk(ANN), desk(BOB), thread(10, SERVING, admin_id=ANN), thread(11, ENDED, last_admin_id=ANN))
        routing.start(group, 11)
        self.assertEqual(self.serves(group, 11), ANN)
        self.assertEqual(group.desks[ANN].load, 2)
        self.assertEqual(group.desks[ANN].last_assigned_at, NOW)
        self.assertEqual(group.threads[1011].reason, "assigned")
        self.assertEqual(group.touched, {ANN})

    def test_last_admin_cannot(self) -> None:
        """If that one is off line, suspended, full, banned or elsewhere, a colleague serves."""
        for fields in (
            {"connected": False},
            {"connected": False, "in_grace": True},
            {"suspended": True},
            {"capacity": 0},
            {"banned": True},
        ):
            group = board(desk(ANN, **fields), desk(BOB), thread(11, ENDED, last_admin_id=ANN))
            routing.start(group, 11)
            self.assertEqual(self.serves(group, 11), BOB, fields)
        group = board(desk(BOB), thread(11, ENDED, last_admin_id=ANN))
        routing.start(group, 11)
        self.assertEqual(self.serves(group, 11), BOB)

    def test_fewest_guests(self) -> None:
        """A new guest comes to the admin with the fewest guests, however long ago that one got the last."""
        group = board(
            desk(ANN, last_assigned_at=5),
            desk(BOB, last_assigned_at=900),
            thread(10, SERVING, admin_id=ANN),
            thread(11),
        )
        routing.start(group, 11)
        self.assertEqual(self.serves(group, 11), BOB)

    def test_longest_without(self) -> None:
        """Among equals, whoever had the longest time without an assignment; never comes first."""
        group = board(desk(ANN, last_assigned_at=900), desk(BOB, last_assigned_at=5), thread(11), thread(12))
        routing.start(group, 11)
        self.assertEqual(self.serves(group, 11), BOB)
        group = board(desk(ANN, last_assigned_at=1), desk(BOB, last_assigned_at=0), thread(11))
        routing.start(group, 11)
        self.assertEqual(self.serves(group, 11), BOB)

    def test_picking_counts_as_assignment(self) -> None:
        """Taking, writing and transfer count: whoever just got a guest in any way is not the next among equals."""
        rules: Sequence[Callable[[Board], object]] = (
            lambda group: routing.take(group, ANN, 10),
            lambda group: routing.write(group, ANN, 10),
        )
        for rule in rules:
            group = board(desk(ANN, suspended=True, last_assigned_at=3), thread(10, QUEUED))
            rule(group)
            self.assertEqual(group.desks[ANN].last_assigned_at, NOW)
        group = board(desk(ANN), desk(BOB, last_assigned_at=3), thread(10, SERVING, admin_id=ANN))
        routing.transfer(group, ANN, 10, BOB, None)
        self.assertEqual(group.desks[BOB].last_assigned_at, NOW)

    def test_nobody_can(self) -> None:
        """Otherwise the guest waits, and is told at which place."""
        group = board(desk(ANN, capacity=0), desk(BOB, suspended=True), desk(CAT, connected=False), thread(11))
        routing.start(group, 11)
        self.assertEqual(self.waiting(group), [11])
        self.assertEqual(group.standing(group.threads[1011]), Standing(QUEUED, None, QueuePlace(1, 1, 2)))
        self.assertEqual(group.threads[1011].reason, "started")
        self.assertEqual(group.threads[1011].queued_at, NOW)

    def test_behind_others(self) -> None:
        """Where anybody waits, one more waits behind, also when the own admin of before has no queue of his own."""
        group = board(desk(ANN, capacity=0), thread(10, QUEUED), thread(11, ENDED, last_admin_id=ANN))
        routing.start(group, 11)
        self.assertEqual(self.waiting(group), [10, 11])

    def test_behind_a_later_clock(self) -> None:
        """The end of the queue is the end, also after the clock was set back or in the same millisecond."""
        group = board(thread(10, QUEUED, queued_at=NOW + 500), thread(9), thread(8))
        routing.start(group, 9)
        routing.start(group, 8)
        self.assertEqual(self.waiting(group), [10, 9, 8])

    def test_again(self) -> None:
        """To start twice changes nothing: not the place, not the admin, not for an admin within the 45 s."""
        for state in (thread(11, QUEUED), thread(11, SERVING, admin_id=ANN)):
            group = board(desk(ANN, connected=False, in_grace=True), thread(12, QUEUED), state)
            before = deepcopy(group)
            routing.start(group, 11)
            self.assertEqual(group, before)

    def test_away(self) -> None:
        """Whose admin is gone for good is routed anew, as if starting: behind those who wait."""
        lost = thread(11, SERVING, admin_id=ANN, away=True)
        group = board(desk(ANN, connected=False), desk(BOB), deepcopy(lost))
        routing.start(group, 11)
        self.assertEqual(self.serves(group, 11), BOB)
        self.assertEqual((group.desks[ANN].load, group.desks[BOB].load), (0, 1))
        self.assertEqual(group.touched, {ANN, BOB})
        group = board(desk(ANN, connected=False), desk(BOB, capacity=0), thread(12, QUEUED), deepcopy(lost))
        routing.start(group, 11)
        self.assertEqual(self.waiting(group), [12, 11])
        self.assertFalse(group.threads[lost.id].away)

    def test_away_without_writing(self) -> None:
        """Who asks for service while the admin is gone keeps the admin until the next message."""
        group = board(desk(ANN, connected=False), desk(BOB), thread(11, SERVING, admin_id=ANN, away=True))
        before = deepcopy(group)
        routing.start(group, 11, wrote=False)
        self.assertEqual(group, before)

    def test_unknown(self) -> None:
        """A guest who is not known here, or whose group is banned, has to log in again."""
        self.refused(errors.LoginAgain, board(desk(ANN)), routing.start, 11)
        self.refused(errors.LoginAgain, board(desk(ANN), thread(11), banned=True), routing.start, 11)


class Draining(Case):
    def test_first_come(self) -> None:
        """The longest waiting is served first, by rank, time and id; the rest keeps waiting."""
        group = board(
            desk(ANN, capacity=3),
            thread(10, QUEUED, queued_at=7),
            thread(11, QUEUED, queued_at=5),
            thread(13, QUEUED, queued_at=6),
            thread(12, QUEUED, queued_at=6),
            thread(14, QUEUED, queue_rank=PUT_BACK, queued_at=9),
        )
        self.assertEqual(self.waiting(group), [14, 11, 12, 13, 10])
        routing.drain(group)
        self.assertEqual([self.serves(group, gid) for gid in (14, 11, 12)], [ANN] * 3)
        self.assertEqual(self.waiting(group), [13, 10])

    def test_head_is_not_passed(self) -> None:
        """Who waits behind does not pass the head because the own admin of before is free."""
        group = board(desk(ANN, capacity=1), thread(10, QUEUED), thread(11, QUEUED, last_admin_id=ANN))
        routing.drain(group)
        self.assertEqual(self.serves(group, 10), ANN)
        self.assertEqual(self.waiting(group), [11])

    def test_shares(self) -> None:
        """All that fit are served at once, spread over those who can take."""
        group = board(desk(ANN, load=1, capacity=3), desk(BOB), *(thread(gid, QUEUED) for gid in range(10, 16)))
        routing.drain(group)
        self.assertEqual([desk.load for desk in group.desks.values()], [3, 2])
        self.assertEqual(self.waiting(group), [14, 15])


class Taking(Case):
    def test_head(self) -> None:
        """Without gid, the longest waiting comes; a suspended admin may take."""
        group = board(desk(ANN, suspended=True), thread(10, QUEUED), thread(11, QUEUED))
        self.assertEqual(routing.take(group, ANN, None), 1010)
        self.assertEqual(self.serves(group, 10), ANN)
        self.assertEqual(self.waiting(group), [11])

    def test_picks(self) -> None:
        """With gid, that one, wherever in the queue."""
        group = board(desk(ANN, suspended=True), thread(10, QUEUED), thread(11, QUEUED))
        self.assertEqual(routing.take(group, ANN, 11), 1011)
        self.assertEqual(self.serves(group, 11), ANN)
        self.assertEqual(self.waiting(group), [10])

    def test_refusals(self) -> None:
        """Nobody waits, then taken (one's own too), then full; in this order."""
        full = desk(ANN, capacity=0)
        self.refused(errors.NobodyWaits, board(deepcopy(full)), routing.take, ANN, None)
        for other in (thread(10), thread(10, ENDED)):
            self.refused(errors.NobodyWaits, board(deepcopy(full), other, thread(9, QUEUED)), routing.take, ANN, 10)
        self.refused(errors.NobodyWaits, board(deepcopy(full)), routing.take, ANN, 10)
        for server in (ANN, BOB):
            group = board(deepcopy(full), desk(BOB), thread(10, SERVING, admin_id=server))
            self.assertEqual(self.refused(errors.TakenByAnother, group, routing.take, ANN, 10), {"admin_id": server})
        self.refused(errors.TakerFull, board(deepcopy(full), thread(10, QUEUED)), routing.take, ANN, 10)
        self.refused(errors.TakerFull, board(deepcopy(full), thread(10, QUEUED)), routing.take, ANN, None)

    def test_no_longer_admin(self) -> None:
        """Who was banned or moved, or whose group was banned, has to log in again, whatever the command."""
        rules: Sequence[tuple[Callable[..., object], tuple[Any, ...]]] = (
            (routing.take, (None,)),
            (routing.write, (10,)),
            (routing.transfer, (10, BOB, None)),
            (routing.suspend, (True,)),
            (routing.end_by_admin, (10,)),
        )
        for rule, args in rules:
            self.refused(errors.LoginAgain, board(desk(ANN, banned=True), thread(10, QUEUED)), rule, ANN, *args)
            self.refused(errors.LoginAgain, board(desk(BOB, capacity=0), thread(10, QUEUED)), rule, ANN, *args)
            self.refused(errors.LoginAgain, board(desk(ANN), thread(10), banned=True), rule, ANN, *args)


class Writing(Case):
    def test_takes(self) -> None:
        """To write to who waits takes the guest, also past the capacity and while suspended."""
        group = board(desk(ANN, capacity=0, suspended=True), thread(10, QUEUED), thread(11, QUEUED))
        routing.write(group, ANN, 11)
        self.assertEqual(self.serves(group, 11), ANN)
        self.assertEqual(group.desks[ANN].load, 1)
        self.assertEqual(self.waiting(group), [10])

    def test_only_delivers(self) -> None:
        """To a guest whose service has ended, or was never served, it opens none."""
        for other in (thread(10), thread(10, ENDED, last_admin_id=BOB)):
            group = board(desk(ANN), other)
            before = deepcopy(group)
            routing.write(group, ANN, 10)
            self.assertEqual(group, before)

    def test_own(self) -> None:
        """To one's own guest nothing moves."""
        group = board(desk(ANN), thread(10, SERVING, admin_id=ANN))
        before = deepcopy(group)
        routing.write(group, ANN, 10)
        self.assertEqual(group, before)

    def test_refusals(self) -> None:
        """Not to nobody, and not to whom another admin serves, who is named."""
        self.refused(errors.SendNoSuchGuest, board(desk(ANN)), routing.write, ANN, 10)
        group = board(desk(ANN), desk(BOB), thread(10, SERVING, admin_id=BOB))
        self.assertEqual(self.refused(errors.SendServedByAnother, group, routing.write, ANN, 10), {"admin_id": BOB})


class Transferring(Case):
    def test_hands_over(self) -> None:
        """The guest is with the colleague, and the note with the time goes along."""
        group = board(desk(ANN), desk(BOB), thread(10, SERVING, admin_id=ANN))
        routing.transfer(group, ANN, 10, BOB, "wants a refund")
        self.assertEqual(self.serves(group, 10), BOB)
        self.assertEqual((group.desks[ANN].load, group.desks[BOB].load), (0, 1))
        self.assertEqual(group.handovers, {1010: Handover(ANN, BOB, "wants a refund", NOW)})
        self.assertEqual(group.threads[1010].reason, "transferred")
        self.assertEqual(group.threads[1010].last_admin_id, BOB)
        self.assertEqual(group.touched, {ANN, BOB})

    def test_drains(self) -> None:
        """The room that becomes free is filled from the queue."""
        group = board(desk(ANN, capacity=1), desk(BOB), thread(10, SERVING, admin_id=ANN), thread(11, QUEUED))
        group.desks[BOB].capacity = 1
        routing.transfer(group, ANN, 10, BOB, None)
        self.assertEqual(self.serves(group, 11), ANN)

    def test_refusals(self) -> None:
        """Not your guest comes first, then by number: no such admin, off line, suspended, full."""
        worst: dict[str, Any] = {"connected": False, "suspended": True, "capacity": 0}
        mine = thread(10, SERVING, admin_id=ANN)
        for other in (thread(10), thread(10, QUEUED), thread(10, ENDED), thread(10, SERVING, admin_id=BOB)):
            group = board(desk(ANN, capacity=0), desk(BOB, capacity=0), other)
            self.refused(errors.TransferNotYourGuest, group, routing.transfer, ANN, 10, 99, None)
        self.refused(errors.TransferNotYourGuest, board(desk(ANN)), routing.transfer, ANN, 10, BOB, None)
        for receiver, group in (
            (99, board(desk(ANN), deepcopy(mine))),
            (ANN, board(desk(ANN, capacity=0), deepcopy(mine))),
            (BOB, board(desk(ANN), desk(BOB, banned=True, **worst), deepcopy(mine))),
        ):
            self.refused(errors.TransferNoSuchAdmin, group, routing.transfer, ANN, 10, receiver, None)
        for error, fields in (
            (errors.TransferAdminOffline, worst),
            (errors.TransferAdminOffline, worst | {"in_grace": True}),
            (errors.TransferAdminSuspended, worst | {"connected": True}),
            (errors.TransferAdminFull, worst | {"connected": True, "suspended": False}),
        ):
            group = board(desk(ANN), desk(BOB, **fields), deepcopy(mine))
            self.refused(error, group, routing.transfer, ANN, 10, BOB, None)


class Suspending(Case):
    def test_keeps_and_gets_nobody(self) -> None:
        """A suspended admin keeps the guests, and new ones go elsewhere."""
        group = board(desk(ANN), thread(10, SERVING, admin_id=ANN), thread(11, ENDED, last_admin_id=ANN))
        routing.suspend(group, ANN, True)
        self.assertEqual(self.serves(group, 10), ANN)
        self.assertEqual(group.desks[ANN].status, SUSPENDED)
        self.assertEqual(group.touched, {ANN})
        routing.start(group, 11)
        self.assertEqual(self.waiting(group), [11])

    def test_resume_drains(self) -> None:
        """Resuming brings those who wait, as far as there is room."""
        group = board(desk(ANN, suspended=True), *(thread(gid, QUEUED) for gid in (10, 11, 12)))
        routing.suspend(group, ANN, False)
        self.assertEqual(self.waiting(group), [12])
        self.assertEqual(group.desks[ANN].status, ONLINE)

    def test_again(self) -> None:
        """Colleagues hear nothing where nothing changed."""
        for suspended in (True, False):
            group = board(desk(ANN, suspended=suspended))
            routing.suspend(group, ANN, suspended)
            self.assertEqual(group.touched, set())


class Ending(Case):
    def test_by_admin(self) -> None:
        """The service is over, the next in the queue comes."""
        group = board(desk(ANN, capacity=1), thread(10, SERVING, admin_id=ANN), thread(11, QUEUED))
        routing.end_by_admin(group, ANN, 10)
        ended = group.threads[1010]
        self.assertEqual((ended.state, ended.admin_id, ended.last_admin_id), (ENDED, None, ANN))
        self.assertEqual(ended.reason, "ended_by_admin")
        self.assertEqual(self.serves(group, 11), ANN)
        self.assertEqual(group.desks[ANN].load, 1)

    def test_not_yours(self) -> None:
        """Only who serves may end."""
        for other in (thread(10), thread(10, QUEUED), thread(10, ENDED), thread(10, SERVING, admin_id=BOB)):
            group = board(desk(ANN, capacity=0), desk(BOB, capacity=0), other)
            self.refused(errors.EndNotYourGuest, group, routing.end_by_admin, ANN, 10)
        self.refused(errors.EndNotYourGuest, board(desk(ANN)), routing.end_by_admin, ANN, 10)

    def test_by_guest(self) -> None:
        """A guest ends the service, or leaves the queue; the others move up."""
        group = board(desk(ANN, capacity=1), thread(10, SERVING, admin_id=ANN), thread(11, QUEUED), thread(12, QUEUED))
        routing.end_by_guest(group, 11)
        left = group.threads[1011]
        self.assertEqual(
            (left.state, left.queue_rank, left.queued_at, left.reason), (ENDED, None, None, "ended_by_guest")
        )
        self.assertEqual(group.standing(group.threads[1012]).queue, QueuePlace(1, 1, 1))
        routing.end_by_guest(group, 10)
        self.assertEqual(self.serves(group, 12), ANN)

    def test_nothing_to_end(self) -> None:
        """Without a service there is nothing to end."""
        for other in (thread(10), thread(10, ENDED)):
            self.refused(errors.NothingToEnd, board(other), routing.end_by_guest, 10)
        self.refused(errors.NothingToEnd, board(), routing.end_by_guest, 10)

    def test_by_itself(self) -> None:
        """What has ended meanwhile, or is not known, is left alone; the rest ends for the reason given."""
        group = board(
            desk(ANN), thread(10, SERVING, admin_id=ANN), thread(11, ENDED, reason="ended_by_guest"), thread(12, QUEUED)
        )
        routing.end(group, [1010, 1011, 1012, 9999], "timeout")
        self.assertEqual([t.state for t in group.threads.values()], [ENDED] * 3)
        self.assertEqual([t.reason for t in group.threads.values()], ["timeout", "ended_by_guest", "timeout"])
        self.assertEqual(group.desks[ANN].load, 0)


class ComingAndGoing(Case):
    def test_arriving_drains(self) -> None:
        """Whoever logs in gets those who wait; the suspended one does not."""
        group = board(desk(ANN), thread(10, QUEUED))
        routing.arrive(group, ANN)
        self.assertEqual(self.serves(group, 10), ANN)
        group = board(desk(ANN, suspended=True), thread(10, QUEUED))
        routing.arrive(group, ANN)
        self.assertEqual(self.waiting(group), [10])
        self.assertEqual(group.touched, {ANN})

    def test_coming_back(self) -> None:
        """Who comes back keeps who is still there, and they are no longer routed anew."""
        group = board(desk(ANN, capacity=1, suspended=True), desk(BOB), thread(10, SERVING, admin_id=ANN, away=True))
        routing.arrive(group, ANN)
        routing.start(group, 10)
        self.assertEqual(self.serves(group, 10), ANN)

    def test_not_in(self) -> None:
        """Banned or unknown admins, and those of a banned group, do not come in."""
        self.refused(errors.AdminBanned, board(), routing.arrive, ANN)
        self.refused(errors.AdminBanned, board(desk(ANN, banned=True)), routing.arrive, ANN)
        self.refused(errors.AdminGroupBanned, board(desk(ANN), banned=True), routing.arrive, ANN)

    def test_departing(self) -> None:
        """At once: off line and given nobody; the guests see nothing."""
        group = board(
            desk(ANN, connected=False, in_grace=True), thread(10, SERVING, admin_id=ANN, unanswered_since=5), thread(11)
        )
        before = deepcopy(group.threads)
        routing.depart(group, ANN)
        self.assertEqual(group.threads, before)
        self.assertEqual(group.touched, {ANN})
        self.assertEqual(group.desks[ANN].status, OFFLINE)
        routing.start(group, 11)
        self.assertEqual(self.waiting(group), [11])

    def test_lost(self) -> None:
        """After the grace those who wrote last lead the queue, the longest unanswered first; the others stay."""
        group = board(
            desk(ANN, connected=False, suspended=True, capacity=9),
            thread(10, SERVING, admin_id=ANN, unanswered_since=NOW - 5),
            thread(11, SERVING, admin_id=ANN),
            thread(12, SERVING, admin_id=ANN, unanswered_since=NOW - 50),
            thread(13, QUEUED, queued_at=NOW - 500),
            thread(14, SERVING, admin_id=BOB, unanswered_since=1),
        )
        routing.lose_if_gone(group, ANN)
        self.assertEqual(self.waiting(group), [12, 10, 13])
        self.assertEqual({group.threads[id_].reason for id_ in (1010, 1012)}, {"admin_lost"})
        self.assertEqual(self.serves(group, 11), ANN)
        self.assertTrue(group.threads[1011].away)
        self.assertEqual(group.desks[ANN].load, 1)
        self.assertFalse(group.desks[ANN].suspended)
        self.assertEqual(self.serves(group, 14), BOB)

    def test_lost_to_a_colleague(self) -> None:
        """Where a colleague can take, those who wrote last come there at once."""
        group = board(desk(ANN, connected=False), desk(BOB), thread(10, SERVING, admin_id=ANN, unanswered_since=5))
        routing.lose_if_gone(group, ANN)
        self.assertEqual(self.serves(group, 10), BOB)
        self.assertEqual(group.threads[1010].reason, "assigned")

    def test_back_in_time(self) -> None:
        """Who is back, or still within the 45 s, loses nobody."""
        for fields in ({}, {"connected": False, "in_grace": True}):
            group = board(desk(ANN, **fields), thread(10, SERVING, admin_id=ANN, unanswered_since=5))
            before = deepcopy(group)
            routing.lose_if_gone(group, ANN)
            self.assertEqual(group, before)

    def test_logging_out(self) -> None:
        """With the last connection there are no 45 s; with another one nothing happens."""
        group = board(desk(ANN, connected=False, in_grace=True), thread(10, SERVING, admin_id=ANN, unanswered_since=5))
        routing.log_out(group, ANN)
        self.assertEqual(self.waiting(group), [10])
        group = board(desk(ANN, suspended=True), thread(10, SERVING, admin_id=ANN, unanswered_since=5))
        routing.log_out(group, ANN)
        self.assertEqual(self.serves(group, 10), ANN)
        self.assertTrue(group.desks[ANN].suspended)

    def test_banned_or_moved(self) -> None:
        """A ban, or another group, takes the guests away at once, though the connections are still there."""
        for parts in ([desk(ANN, banned=True)], []):
            group = board(
                *parts,
                desk(BOB, capacity=1),
                thread(10, SERVING, admin_id=ANN, unanswered_since=5),
                thread(11, SERVING, admin_id=ANN),
            )
            routing.lose(group, ANN)
            self.assertEqual(self.serves(group, 10), BOB)
            self.assertTrue(group.threads[1011].away)
            self.assertIn(ANN, group.touched)
        # The thread that stayed has an admin whom the group no longer has.
        self.assertEqual(group.standing(group.threads[1011]), Standing(SERVING, None, None))

    def test_capacity_below_the_load(self) -> None:
        """A capacity set below the load takes nobody away, and lets nobody in."""
        group = board(
            desk(ANN, capacity=1),
            thread(10, SERVING, admin_id=ANN),
            thread(11, SERVING, admin_id=ANN),
            thread(12, QUEUED),
        )
        routing.drain(group)
        routing.end_by_admin(group, ANN, 10)
        self.assertEqual(self.waiting(group), [12])
        self.assertEqual(self.serves(group, 11), ANN)
        routing.end_by_admin(group, ANN, 11)
        self.assertEqual(self.serves(group, 12), ANN)


class Standings(Case):
    def test_served(self) -> None:
        """A served guest sees the admin, others a place, or neither."""
        group = board(
            desk(ANN, suspended=True), desk(BOB, banned=True), desk(CAT, connected=False),
            thread(10, SERVING, admin_id=ANN), thread(11, QUEUED), thread(12, QUEUED), thread(13, ENDED),
        )  # fmt: skip
        self.assertEqual(group.standing(group.threads[1010]), Standing(SERVING, group.desks[ANN].person, None))
        self.assertEqual(group.standing(group.threads[1012]), Standing(QUEUED, None, QueuePlace(2, 2, 1)))
        self.assertEqual(group.standing(group.threads[1013]), Standing(ENDED, None, None))


# Any sequence of events.

ADMINS = st.sampled_from((ANN, BOB, CAT))
GIDS = st.sampled_from(range(10, 17))


def event(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    return st.tuples(st.just(name), st.tuples(*arguments))


EVENTS = st.one_of(
    event("start", GIDS),
    event("guest_writes", GIDS),
    event("end_by_guest", GIDS),
    event("time_out", st.sets(GIDS, max_size=3)),
    event("take", ADMINS, st.none() | GIDS),
    event("write", ADMINS, GIDS),
    event("transfer", ADMINS, GIDS, ADMINS),
    event("end_by_admin", ADMINS, GIDS),
    event("suspend", ADMINS, st.booleans()),
    event("arrive", ADMINS),
    event("depart", ADMINS),
    event("grace_over", ADMINS),
    event("log_out", ADMINS),
    event("ban", ADMINS),
    event("unban", ADMINS),
    event("capacity", ADMINS, st.integers(0, 3)),
)
HISTORIES = st.lists(st.tuples(st.integers(0, 3), EVENTS), max_size=60)


class Shop:
    """A group through time, and the queue as the document has it: two lists.

    :ivar back: gids of those put back, sorted by the first unanswered message; *fresh* of those who are new.
    :ivar picked: gids that an admin took, by any way, in this event.
    :ivar unbound: of those, the ones whom capacity did not bind.
    """

    def __init__(self) -> None:
        self.board = board(
            desk(ANN, connected=False),
            desk(BOB, capacity=1),
            desk(CAT, capacity=3),
            *(thread(g) for g in range(10, 17)),
        )
        self.back: list[tuple[int, int]] = []
        self.fresh: list[int] = []
        self.picked: set[int] = set()
        self.unbound: set[int] = set()

    @property
    def order(self) -> list[int]:
        return [gid for _, gid in sorted(self.back)] + self.fresh

    def off_queue(self, gids: Iterable[int]) -> None:
        gone = set(gids)
        self.back = [entry for entry in self.back if entry[1] not in gone]
        self.fresh = [gid for gid in self.fresh if gid not in gone]

    def thread(self, gid: int) -> Thread:
        found = self.board.of(gid)
        assert found is not None
        return found

    def happens(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Do it; ChatError where it is refused. An admin who is not connected can ask for nothing."""
        asks = ("take", "write", "transfer", "end_by_admin", "suspend")
        if name in asks and not self.board.desks[arguments[0]].connected:
            return
        self.picked, self.unbound = set(), set()
        getattr(self, name)(*arguments)

    def start(self, gid: int) -> None:
        was = self.thread(gid)
        routed = was.state in (NEW, ENDED) or (was.state == SERVING and was.away)
        if was.state in (NEW, ENDED):
            was.unanswered_since = None
        if routed:
            self.fresh.append(gid)
        routing.start(self.board, gid)

    def guest_writes(self, gid: int) -> None:
        self.start(gid)
        waiting = self.thread(gid)
        if waiting.unanswered_since is None:
            waiting.unanswered_since = self.board.now

    def end_by_guest(self, gid: int) -> None:
        routing.end_by_guest(self.board, gid)
        self.off_queue([gid])

    def time_out(self, gids: set[int]) -> None:
        routing.end(self.board, [self.thread(gid).id for gid in gids], "timeout")
        self.off_queue(gids)

    def take(self, admin_id: int, gid: int | None) -> None:
        head = next(iter(self.order), None)
        taken = self.board.threads[routing.take(self.board, admin_id, gid)].gid
        assert taken == (gid if gid is not None else head), "not the head of the queue"
        self.picked = {taken}
        self.off_queue([taken])

    def write(self, admin_id: int, gid: int) -> None:
        was = self.thread(gid).state
        routing.write(self.board, admin_id, gid)
        written = self.thread(gid)
        written.unanswered_since = None
        if was == QUEUED:
            self.picked = self.unbound = {gid}
            self.off_queue([gid])

    def transfer(self, admin_id: int, gid: int, to_admin_id: int) -> None:
        routing.transfer(self.board, admin_id, gid, to_admin_id, None)
        self.picked = {gid}

    def end_by_admin(self, admin_id: int, gid: int) -> None:
        routing.end_by_admin(self.board, admin_id, gid)

    def suspend(self, admin_id: int, suspended: bool) -> None:
        routing.suspend(self.board, admin_id, suspended)

    def arrive(self, admin_id: int) -> None:
        if not self.board.desks[admin_id].banned:
            self.board.desks[admin_id].connected = True
            self.board.desks[admin_id].in_grace = False
        routing.arrive(self.board, admin_id)

    def depart(self, admin_id: int) -> None:
        if self.board.desks[admin_id].connected:
            self.board.desks[admin_id].connected = False
            self.board.desks[admin_id].in_grace = True
            routing.depart(self.board, admin_id)

    def grace_over(self, admin_id: int) -> None:
        self.board.desks[admin_id].in_grace = False
        if not self.board.desks[admin_id].connected:
            self._loses(admin_id)
        routing.lose_if_gone(self.board, admin_id)

    def log_out(self, admin_id: int) -> None:
        if self.board.desks[admin_id].connected:
            self.board.desks[admin_id].connected = False
            self._loses(admin_id)
            routing.log_out(self.board, admin_id)

    def ban(self, admin_id: int) -> None:
        self.board.desks[admin_id].banned = True
        self._loses(admin_id)
        routing.lose(self.board, admin_id)

    def unban(self, admin_id: int) -> None:
        self.board.desks[admin_id].banned = False
        routing.drain(self.board)

    def capacity(self, admin_id: int, capacity: int) -> None:
        self.board.desks[admin_id].capacity = capacity
        routing.drain(self.board)

    def _loses(self, admin_id: int) -> None:
        for lost in self.board.threads.values():
            if lost.admin_id == admin_id and lost.unanswered_since is not None:
                self.back.append((lost.unanswered_since, lost.gid))


class AnySequence(Case):
    @settings(deadline=None, database=None, max_examples=300)
    @given(HISTORIES)
    def test_promises(self, history: list[tuple[int, tuple[str, tuple[Any, ...]]]]) -> None:
        """Whatever happens: served in order, nobody overloaded, nobody waits in vain, one owner each."""
        shop = Shop()
        for passed, (name, arguments) in history:
            shop.board.now += passed
            before = deepcopy(shop.board)
            try:
                shop.happens(name, arguments)
            except errors.ChatError:
                # A refused event changes nothing (the way to arrive aside, which is the session's).
                self.assertEqual(shop.board.threads, before.threads)
                continue
            self.consistent(shop.board)
            self.in_order(shop, before)
            if name == "depart":
                self.assertEqual(shop.board.threads, before.threads)

    def consistent(self, group: Board) -> None:
        loads = Counter(served.admin_id for served in group.threads.values() if served.state == SERVING)
        for admin in group.desks.values():
            self.assertEqual(admin.load, loads[admin.id])
        for any_thread in group.threads.values():
            self.assertEqual(any_thread.state == SERVING, any_thread.admin_id is not None)
            self.assertEqual(any_thread.state == QUEUED, any_thread.queue_rank is not None)
            self.assertEqual(any_thread.state == QUEUED, any_thread.queued_at is not None)
            self.assertTrue(any_thread.state == SERVING or not any_thread.away)
        if group.queue():
            self.assertEqual([d for d in group.desks.values() if d.can_take], [])

    def in_order(self, shop: Shop, before: Board) -> None:
        """Those whom the server assigned were the head of the queue, each chose right; the rest waits as before."""
        group = shop.board
        served = [gid for gid in shop.order if shop.thread(gid).state == SERVING]
        self.assertEqual(served, shop.order[: len(served)])
        shop.off_queue(served)
        self.assertEqual(self.waiting(group), shop.order)
        # As it was before the server assigned anybody.
        got = Counter(shop.thread(gid).admin_id for gid in served)
        loads = {admin.id: admin.load - got[admin.id] for admin in group.desks.values()}
        last = {admin.id: admin.last_assigned_at for admin in before.desks.values()}
        for gid in shop.picked:
            picker = shop.thread(gid).admin_id
            assert picker is not None
            last[picker] = group.now
            if gid not in shop.unbound:
                self.assertLessEqual(loads[picker], group.desks[picker].capacity)
        for gid in served:
            server = shop.thread(gid).admin_id
            assert server is not None
            free = [d.id for d in group.desks.values() if d.status == ONLINE and loads[d.id] < d.capacity]
            self.assertIn(server, free)
            known = before.of(gid)
            assert known is not None
            if known.last_admin_id in free:
                self.assertEqual(server, known.last_admin_id)
            else:
                self.assertEqual((loads[server], last[server]), min((loads[f], last[f]) for f in free))
            loads[server] += 1
            last[server] = group.now
