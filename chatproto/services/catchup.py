"""What somebody missed, read from the database: gaps of the news, silent loss, changes by other processes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from chatproto.domain.model import SERVING, Admin, Conversation, Handover, Message, Principal, Role, Standing
from chatproto.storage import history, people
from chatproto.storage.pool import Pool

CLOSE_REVOKED = 4001
CLOSE_ACCOUNT_CHANGED = 4000
RECENT = 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A conversation as it is, and what of it somebody does not know.

    :ivar messages: those after what is known, oldest first; at most *limit* + 1 of them.
    :ivar handover: how the guest came to the admin who serves.
    """

    entry: Conversation
    messages: Sequence[Message]
    standing: Standing
    handover: Handover | None


@dataclass(frozen=True, slots=True)
class GroupView:
    """What the news of a group is made of; *queue* holds (conversation_id, gid, queued_at) from the head."""

    now: int
    conversations: dict[int, Conversation]
    admins: dict[int, Admin]
    queue: Sequence[tuple[int, int, int]]
    admins_online: int


class CatchUp:
    """Reads what the hub and the news of groups ask for."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def snapshot(self, conversation_id: int, after: int | None, *, limit: int) -> Snapshot | None:
        """A conversation and its messages after seq *after*; None: the newest ones."""
        entry = (await history.by_ids(self._pool, [conversation_id])).get(conversation_id)
        if entry is None:
            return None
        # What is written between the two statements is the next thing that is told, and must not be told twice.
        before = entry.last_seq + 1
        if after is None:
            found = await history.messages(self._pool, entry, before=before, newest=True, limit=RECENT)
        else:
            found = await history.messages(self._pool, entry, after=after, before=before, newest=False, limit=limit + 1)
        person = None
        handover = None
        if entry.state == SERVING and entry.admin_id is not None:
            person = (await people.persons(self._pool, [entry.admin_id])).get(entry.admin_id)
            handover = Handover(None, entry.admin_id, None, entry.last_time)
            if entry.transferred:
                transfers = await history.last_transfers(self._pool, [conversation_id])
                handover = transfers.get(conversation_id, handover)
        place = await history.queue_place(self._pool, entry.group_id, entry.gid)
        return Snapshot(entry, found, Standing(entry.state, person, place), handover)

    async def moved(self, revs: dict[int, int], admin_ids: Sequence[int]) -> tuple[set[int], dict[int, set[int]]]:
        """Which of these conversations have another rev, and whom each of these admins serves."""
        changed = set(await history.changed_revs(self._pool, revs)) if revs else set()
        served: dict[int, set[int]] = {}
        if admin_ids:
            for admin_id, conversation_id in await history.served_by(self._pool, admin_ids):
                served.setdefault(admin_id, set()).add(conversation_id)
        return changed, served

    async def group(
        self,
        group_id: int,
        conversation_ids: Collection[int],
        admin_ids: Collection[int],
        queued: Collection[int] | None,
    ) -> GroupView:
        """The present state of what changed in a group.

        :param queued: conversations that were in the queue before: whoever is in only one of the two has changed,
            too, whatever process did that. None: not known.
        """
        now = await history.now(self._pool)
        queue = await history.queue_order(self._pool, group_id)
        changed = set(conversation_ids)
        if queued is not None:
            changed |= {conversation_id for conversation_id, _, _ in queue} ^ set(queued)
        conversations = await history.by_ids(self._pool, sorted(changed))
        admins = await people.admins(self._pool, group_id, sorted(admin_ids)) if admin_ids else {}
        online = await history.admins_online(self._pool, group_id)
        return GroupView(now, conversations, admins, queue, online)

    async def expelled(self, principals: Sequence[Principal]) -> dict[Principal, tuple[int, str]]:
        """Whose account was banned, or moved to another group: close code and reason."""
        admins = {p.person.id for p in principals if p.person.role is Role.ADMIN}
        guests = {p.person.id for p in principals if p.person.role is Role.GUEST}
        groups = await people.groups(self._pool)
        homes = await people.admin_groups(self._pool, sorted(admins))
        banned = await people.banned_guests(self._pool, sorted(guests))
        found: dict[Principal, tuple[int, str]] = {}
        for principal in principals:
            person, group_id = principal.person, principal.group_id
            if groups.get(group_id, True):
                found[principal] = (CLOSE_REVOKED, "the group is banned")
            elif (
                person.role is Role.GUEST
                and person.id in banned
                or person.role is Role.ADMIN
                and person.id not in homes
            ):
                found[principal] = (CLOSE_REVOKED, "banned")
            elif person.role is Role.ADMIN and homes[person.id] != group_id:
                found[principal] = (CLOSE_ACCOUNT_CHANGED, "moved to another group")
        return found
