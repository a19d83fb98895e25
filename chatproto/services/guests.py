"""What guests say about themselves and about the service: context and rating."""

from __future__ import annotations

from chatproto import errors
from chatproto.domain.events import Event, noted
from chatproto.domain.model import Principal
from chatproto.storage import history, people
from chatproto.storage.pool import Pool

RATE_WITHIN = 86_400_000
"""Milliseconds after its end in which a service can be rated."""


class Guests:
    """22600 and 22650."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def context(self, guest: Principal, context: str) -> list[Event]:
        """22600: where the guest is in the shop; *context* is JSON text."""
        assert guest.conversation_id is not None
        await people.set_context(self._pool, guest.conversation_id, context)
        try:
            entry = await history.of_guest(self._pool, guest.group_id, guest.person.id)
        except errors.StorageError:
            # It is set, and shows with the guest's next step.
            return []
        return noted(entry) if entry is not None else []

    async def rate(self, guest: Principal, score: int, text: str | None) -> None:
        """22650.

        :raises ChatError: NothingToRate, AlreadyRated.
        """
        assert guest.conversation_id is not None
        rated = await people.rate(self._pool, guest.conversation_id, score, text, RATE_WITHIN)
        if rated is None:
            raise errors.NothingToRate()
        if not rated:
            raise errors.AlreadyRated()
