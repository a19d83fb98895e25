"""This node among the others: its lease, its way back after it was given up, and what one node does for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from twisted.logger import Logger

from chatproto.clock import Clock
from chatproto.domain.events import Event, GroupChanged, noted
from chatproto.domain.model import Conversation, Role
from chatproto.errors import ChatError, StorageError
from chatproto.services.assignment import Assignment
from chatproto.storage import history, presence
from chatproto.storage.pool import Pool, Transaction
from chatproto.storage.presence import LEASE, Session

log = Logger()

LEASE_SECONDS = LEASE / 1000
SELDOM = 5
"""Rounds between two looks for what may wait a little: services that end by themselves, the safety net."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may last, in milliseconds; None is for ever."""

    grace: int
    service_idle: int | None
    queue_leave: int | None


class Node:
    """One incarnation after another of this process.

    :param name: the same after a restart, so that what a killed process left is ended at once.
    :param sessions: the logged-in connections of this process.
    :param returned: called after the node was given up and is back: pushes may have been lost.
    """

    def __init__(
        self,
        pool: Pool,
        assignment: Assignment,
        clock: Clock,
        name: str,
        patience: Patience,
        sessions: Callable[[], Sequence[Session]],
        returned: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._assignment = assignment
        self._clock = clock
        self._name = name
        self._patience = patience
        self._sessions = sessions
        self._returned = returned
        self._renewed_at = 0.0
        self._steady_since = 0.0
        self._round = 0
        self.id = 0

    def alive(self) -> bool:
        """Whether the others still have to believe in this node; by the monotonic clock, so a freeze shows at once."""
        return self._clock.seconds() - self._renewed_at < LEASE_SECONDS

    async def start(self) -> None:
        """Join the cluster."""
        now = self._clock.seconds()
        self.id = await self._pool.transaction(lambda transaction: presence.join(transaction, self._name))
        self._renewed_at = self._steady_since = now

    async def stop(self) -> None:
        """End the sessions of this node and give the lease back."""
        node_id = self.id
        await self._pool.transaction(lambda transaction: presence.leave(transaction, node_id))

    async def renew(self) -> list[Event]:
        """Renew the lease; a node that was given up meanwhile comes back with a new incarnation."""
        now = self._clock.seconds()
        if self.alive() and await presence.renew(self._pool, self.id):
            if now - self._renewed_at > LEASE_SECONDS / 2:
                self._steady_since = now
            self._renewed_at = now
            return []
        return await self._come_back()

    async def _come_back(self) -> list[Event]:
        now = self._clock.seconds()
        sessions = list(self._sessions())

        async def work(transaction: Transaction) -> int:
            node_id = await presence.join(transaction, self._name)
            await presence.again(transaction, node_id, sessions)
            return node_id

        self.id = await self._pool.transaction(work)
        self._renewed_at = self._steady_since = now
        log.warn(
            "this node was given up and is back as node {id} with {count} sessions", id=self.id, count=len(sessions)
        )
        self._returned()
        # Who ended while this went on may have been brought back after the end.
        open_ = {session.ix for session in self._sessions()}
        for session in sessions:
            if session.ix not in open_:
                await presence.end(self._pool, session.ix)
        events: list[Event] = []
        for group_id, admin_id in {(s.group_id, s.person_id) for s in sessions if s.role is Role.ADMIN}:
            # Whose account was banned or moved meanwhile is told by the control channel.
            with suppress(ChatError):
                events += await self._assignment.arrive(group_id, admin_id)
        return events

    async def look_after_cluster(self) -> list[Event]:
        """One round of what one node does for all: dead nodes, grace, services that end, the queue's safety net."""
        self._round += 1
        seldom = self._round % SELDOM == 0
        steady = self._clock.seconds() - self._steady_since > LEASE_SECONDS
        patience = self._patience
        departed: list[tuple[int, int]] = []
        lost: list[tuple[int, int]] = []
        finished: list[tuple[int, int]] = []
        gone: list[Conversation] = []
        queued: list[int] = []

        async def work(transaction: Transaction) -> None:
            if not await presence.elected(transaction):
                return
            if steady:
                departed.extend(await presence.give_up_dead(transaction))
            lost.extend(await presence.lost_admins(transaction, patience.grace))
            for group_id, gid in await presence.gone_guests(transaction):
                if (entry := await history.of_guest(transaction, group_id, gid)) is not None:
                    gone.append(entry)
            if seldom:
                finished.extend(
                    await presence.finished(transaction, idle=patience.service_idle, leave=patience.queue_leave)
                )
                queued.extend(await presence.queued_groups(transaction))
                await presence.forget_sessions(transaction)

        await self._pool.transaction(work)
        events: list[Event] = [
            GroupChanged(group_id, frozenset([admin_id]), queue=True) for group_id, admin_id in departed
        ]
        for entry in gone:
            events += noted(entry)
        steps = chain(
            (self._assignment.lose_if_gone(group_id, admin_id) for group_id, admin_id in lost),
            (
                self._finish(group_id, [id_ for of, id_ in finished if of == group_id])
                for group_id in dict.fromkeys(group_id for group_id, _ in finished)
            ),
            (self._assignment.drain(group_id) for group_id in queued),
        )
        for step in steps:
            try:
                events += await step
            except StorageError as error:
                # What was done so far is told all the same; the rest is found again in a later round.
                log.warn("a part of the cluster's round failed: {error}", error=str(error))
        return events

    async def _finish(self, group_id: int, conversation_ids: Sequence[int]) -> list[Event]:
        patience = self._patience

        async def still(transaction: Transaction) -> list[int]:
            found = await presence.finished(
                transaction,
                idle=patience.service_idle,
                leave=patience.queue_leave,
                among=(group_id, conversation_ids),
            )
            return [conversation_id for _, conversation_id in found]

        return await self._assignment.end(group_id, conversation_ids, "timeout", still)
