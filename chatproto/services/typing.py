"""Telling the other side that somebody types (docs/protocol.md, 22330 and 32330). Nothing of it is stored."""

from __future__ import annotations

from collections.abc import Callable

from chatproto import errors
from chatproto.clock import Clock
from chatproto.domain.events import Event, Typed
from chatproto.domain.model import Principal
from chatproto.storage import history
from chatproto.storage.pool import Pool

EVERY = 1.0
"""Seconds between two hints of one person in one conversation; what comes between is not passed on."""
REMEMBERED = 10_000
"""Guests whose conversation is kept in mind."""

Follows = Callable[[str, int], bool]
"""(topic, conversation_id) → whether the connections of the topic follow the conversation: an admin's, those served."""


class Typing:
    """22330 and 32330.

    Who serves whom is asked of what the connections know anyway. The database is asked once which conversation a
    guest has, as that never changes (an adoption gives it to another guest, but then the first one is gone).

    :param follows: see :data:`Follows`.
    """

    def __init__(self, pool: Pool, clock: Clock, follows: Follows) -> None:
        self._pool = pool
        self._clock = clock
        self._follows = follows
        self._conversations: dict[tuple[int, int], int] = {}
        self._told: dict[tuple[str, int], float] = {}

    def by_guest(self, guest: Principal, typing: bool) -> list[Event]:
        """22330: for whoever serves the guest, if anybody does."""
        assert guest.conversation_id is not None
        return self._hint(guest, guest.conversation_id, guest.person.id, typing)

    async def by_admin(self, admin: Principal, gid: int, typing: bool) -> list[Event]:
        """32330.

        :raises TypingNotYourGuest: the admin does not serve this guest.
        """
        conversation_id = await self._conversation(admin.group_id, gid)
        if conversation_id is None or not self._follows(admin.topic, conversation_id):
            raise errors.TypingNotYourGuest()
        return self._hint(admin, conversation_id, gid, typing)

    async def _conversation(self, group_id: int, gid: int) -> int | None:
        known = self._conversations
        found = known.pop((group_id, gid), None)
        if found is None:
            found = await history.conversation_id(self._pool, group_id, gid)
            if found is None:
                return None
        # The last ones used stay longest.
        known[group_id, gid] = found
        if len(known) > REMEMBERED:
            del known[next(iter(known))]
        return found

    def _hint(self, who: Principal, conversation_id: int, gid: int, typing: bool) -> list[Event]:
        told, now = self._told, self._clock.seconds()
        while told and now - told[oldest := next(iter(told))] >= EVERY:
            del told[oldest]
        key = (who.topic, conversation_id)
        if key in told:
            return []
        told[key] = now
        return [Typed(conversation_id, who.group_id, gid, who.person.role, typing)]
