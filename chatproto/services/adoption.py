"""An anonymous guest turns out to be a customer of the shop (docs/protocol.md 2.2)."""

from __future__ import annotations

from dataclasses import replace

from chatproto.domain.events import Event, Expelled, GroupChanged, GuestNoted, ServiceChanged
from chatproto.domain.model import (
    ENDED,
    QUEUED,
    SERVING,
    Conversation,
    Handover,
    Standing,
    guest_topic,
)
from chatproto.errors import StorageError
from chatproto.services.assignment import Assignment
from chatproto.storage import history, people
from chatproto.storage.people import GuestRecord
from chatproto.storage.pool import Pool, Transaction

CHANGED_ACCOUNT = 4000
UNIQUE_VIOLATION = "23505"
RECENT = 20
"""Messages that the admin of a guest is shown with the customer."""


class Adoption:
    """Takes along what an anonymous guest has, in every group."""

    def __init__(self, pool: Pool, assignment: Assignment) -> None:
        self._pool = pool
        self._assignment = assignment

    async def adopt(self, anonymous: GuestRecord, known: GuestRecord | None, external_id: str, ix: str) -> list[Event]:
        """Make *anonymous* the customer with the shop's *external_id*, or give what is there to the *known* one.

        The guest_token is revoked, and other tabs have to go.

        :param ix: the connection that logs in, which stays.
        """
        gid = anonymous.person.id
        held = await people.conversations_of_guest(self._pool, gid)
        if known is None:
            became = await self._become(gid, external_id)
            known = await people.guest_by_external_id(self._pool, external_id)
            if known is None or (not became and known.person.id == gid):
                # Somebody else's tab was faster with this guest_token, which is bad by now.
                return []
        events: list[Event] = []
        if known.person.id != gid:
            for group_id, conversation_id in held:
                if await history.of_guest(self._pool, group_id, known.person.id) is None:
                    events += await self._move(conversation_id, known)
                else:
                    events += await self._assignment.end(group_id, [conversation_id], "ended_by_guest")
            await people.revoke_tokens(self._pool, gid)
        events += [
            Expelled(guest_topic(group_id, gid), CHANGED_ACCOUNT, "you are a customer now", but_not=ix)
            for group_id, _ in held
        ]
        return events

    async def _become(self, gid: int, external_id: str) -> bool:
        """Whether the guest is the customer now; not, when the customer came into being meanwhile."""

        async def work(transaction: Transaction) -> bool:
            became = await people.become_customer(transaction, gid, external_id)
            if became:
                await people.revoke_tokens(transaction, gid)
            return became

        try:
            return await self._pool.repeated(work)
        except StorageError as error:
            if error.sqlstate != UNIQUE_VIOLATION:
                raise
            return False

    async def _move(self, conversation_id: int, customer: GuestRecord) -> list[Event]:
        """Give a conversation to the customer; for the desk the old guest's ends and the customer's arrives."""
        theirs = (await history.by_ids(self._pool, [conversation_id]))[conversation_id]

        async def first(transaction: Transaction) -> None:
            await people.move_conversation(transaction, conversation_id, customer.person.id)

        events = await self._assignment.drain(theirs.group_id, first)
        entry = (await history.by_ids(self._pool, [conversation_id]))[conversation_id]
        old = replace(theirs, state=ENDED, admin_id=None, queued_at=None, ended_at=entry.last_time)
        if theirs.admin_id is not None and entry.admin_id is not None:
            recs = await history.messages(self._pool, entry, newest=True, limit=RECENT)
            handover = Handover(None, entry.admin_id, None, entry.last_time)
            events += [
                GuestNoted(old, theirs.admin_id),
                ServiceChanged(entry, await standing(self._pool, entry), None, recs, handover),
            ]
        elif theirs.state == QUEUED:
            events += [GuestNoted(old, None), GroupChanged(entry.group_id, conversations=frozenset([entry.id]))]
        return events


async def standing(pool: Pool, entry: Conversation) -> Standing:
    """What the guest of *entry* is told."""
    if entry.state == SERVING and entry.admin_id is not None:
        persons = await people.persons(pool, [entry.admin_id])
        return Standing(SERVING, persons.get(entry.admin_id), None)
    if entry.state == QUEUED:
        return Standing(QUEUED, None, await history.queue_place(pool, entry.group_id, entry.gid))
    return Standing(entry.state, None, None)
