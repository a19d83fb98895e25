"""What the operator may do: groups, admins and guests (docs/protocol.md 2.3, docs/operations).

Each change is one transaction together with what it causes and with the NOTIFY that makes running daemons compare
what they hold with the database. Events are for a caller that has a bus; the command line has none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from chatproto.domain.events import Event
from chatproto.services.assignment import Assignment
from chatproto.storage import registry
from chatproto.storage.pool import Pool, Transaction
from chatproto.storage.registry import DEFAULT_CAPACITY, AdminRow, GroupRow, GuestRow

_ACTIVE, _BANNED = "active", "banned"
_ATTEMPTS = 5


class Refused(Exception):
    """What was asked for cannot be done; ``str()`` is one line that says why."""


class _Elsewhere(Exception):
    """The admin is in another group by now."""


class Operator:
    """The operator's hand.

    :raises Refused: of every method: there is no such group, admin or guest.
    :raises StorageError: of every method: ``applied`` None where the change may have happened.
    """

    def __init__(self, pool: Pool, assignment: Assignment) -> None:
        self._pool = pool
        self._assignment = assignment

    # Groups.

    async def groups(self) -> list[GroupRow]:
        return await registry.groups(self._pool)

    async def group(self, group_id: int) -> GroupRow:
        for row in await registry.groups(self._pool, group_id):
            return row
        raise Refused(f"there is no group {group_id}")

    async def add_group(self, name: str) -> tuple[int, list[Event]]:
        """Returns its id."""

        async def work(transaction: Transaction) -> int:
            group_id = await registry.add_group(transaction, name)
            await registry.tell(transaction, group_id)
            return group_id

        return await self._pool.transaction(work), []

    async def ban_group(self, group_id: int) -> tuple[GroupRow, list[Event]]:
        """Nobody gets in any more, who is in has to go; who serves whom stays as it is."""
        await self.group(group_id)
        await self._pool.transaction(lambda transaction: _set_group(transaction, group_id, _BANNED))
        return await self.group(group_id), []

    async def unban_group(self, group_id: int) -> tuple[GroupRow, list[Event]]:
        """Who has waited since the ban is served as soon as somebody can."""
        await self.group(group_id)
        events = await self._assignment.drain(group_id, lambda transaction: _set_group(transaction, group_id, _ACTIVE))
        return await self.group(group_id), events

    # Admins.

    async def admins(self, group_id: int | None = None) -> list[AdminRow]:
        """All, or those of a group; banned ones too."""
        if group_id is not None:
            await self.group(group_id)
        return await registry.admins(self._pool, group_id=group_id)

    async def admin(self, admin_id: int) -> AdminRow:
        for row in await registry.admins(self._pool, only=admin_id):
            return row
        raise Refused(f"there is no admin {admin_id}")

    async def add_admin(
        self, group_id: int, name: str, *, avatar: str = "", capacity: int = DEFAULT_CAPACITY
    ) -> tuple[int, list[Event]]:
        """Returns the id: ``admin_id`` and ``aix``."""
        await self.group(group_id)

        async def work(transaction: Transaction) -> int:
            admin_id = await registry.add_admin(transaction, group_id, name, avatar, capacity)
            await registry.tell(transaction, group_id, [admin_id])
            return admin_id

        return await self._pool.transaction(work), []

    async def ban_admin(self, admin_id: int) -> tuple[AdminRow, list[Event]]:
        """The guests are put back or wait for another admin, without the grace."""

        def change(group_id: int) -> Awaitable[list[Event]]:
            async def first(transaction: Transaction) -> None:
                _here(await registry.set_admin_status(transaction, group_id, admin_id, _BANNED))
                await registry.tell(transaction, group_id, [admin_id])

            return self._assignment.lose(group_id, admin_id, first)

        return await self._change(admin_id, change)

    async def unban_admin(self, admin_id: int) -> tuple[AdminRow, list[Event]]:
        return await self._change_and_drain(
            admin_id,
            lambda transaction, group_id: registry.set_admin_status(transaction, group_id, admin_id, _ACTIVE),
        )

    async def set_capacity(self, admin_id: int, capacity: int) -> tuple[AdminRow, list[Event]]:
        """One below the load takes nobody away."""
        return await self._change_and_drain(
            admin_id, lambda transaction, group_id: registry.set_capacity(transaction, group_id, admin_id, capacity)
        )

    async def set_password(self, admin_id: int, password_hash: str) -> tuple[AdminRow, list[Event]]:
        """:param password_hash: of :func:`chatproto.domain.passwords.hashed`."""

        async def change(group_id: int) -> list[Event]:
            async def work(transaction: Transaction) -> None:
                _here(await registry.set_password_hash(transaction, group_id, admin_id, password_hash))
                await registry.tell(transaction, group_id, [admin_id])

            await self._pool.transaction(work)
            return []

        return await self._change(admin_id, change)

    async def move_admin(self, admin_id: int, to_group_id: int) -> tuple[AdminRow, list[Event]]:
        """The guests stay in the group that is left, as with a ban; where the admin is there already, nothing."""
        await self.group(to_group_id)
        row = await self.admin(admin_id)
        if row.group_id == to_group_id:
            return row, []

        def change(group_id: int) -> Awaitable[list[Event]]:
            async def first(transaction: Transaction) -> None:
                _here(await registry.move_admin(transaction, group_id, admin_id, to_group_id))
                await registry.tell(transaction, group_id, [admin_id])
                await registry.tell(transaction, to_group_id, [admin_id])

            return self._assignment.lose(group_id, admin_id, first)

        return await self._change(admin_id, change)

    async def _change_and_drain(
        self, admin_id: int, update: Callable[[Transaction, int], Awaitable[bool]]
    ) -> tuple[AdminRow, list[Event]]:
        def change(group_id: int) -> Awaitable[list[Event]]:
            async def first(transaction: Transaction) -> None:
                _here(await update(transaction, group_id))
                await registry.tell(transaction, group_id, [admin_id])

            return self._assignment.drain(group_id, first)

        return await self._change(admin_id, change)

    async def _change(
        self, admin_id: int, change: Callable[[int], Awaitable[list[Event]]]
    ) -> tuple[AdminRow, list[Event]]:
        """Run *change* with the admin's group, which is known for certain only under its lock."""
        for _ in range(_ATTEMPTS):
            row = await self.admin(admin_id)
            try:
                events = await change(row.group_id)
            except _Elsewhere:
                continue
            return await self.admin(admin_id), events
        raise Refused(f"admin {admin_id} is being moved by somebody else: try again")

    # Guests.

    async def guest(self, gid: int) -> GuestRow:
        row = await registry.guest(self._pool, gid)
        if row is None:
            raise Refused(f"there is no guest {gid}")
        return row

    async def ban_guest(self, gid: int) -> tuple[GuestRow, list[Event]]:
        """What is open ends with reason "banned". A guest of several groups is banned with the first transaction, the
        others follow; where they cannot, banning again goes on."""
        row = await self.guest(gid)
        events: list[Event] = []
        for thread in row.threads:

            async def first(transaction: Transaction, group_id: int = thread.group_id) -> None:
                await _set_guest(transaction, gid, _BANNED, group_id)

            events += await self._assignment.end(thread.group_id, [thread.conversation_id], "banned", first)
        if not row.threads:
            await self._pool.transaction(lambda transaction: _set_guest(transaction, gid, _BANNED, None))
        return await self.guest(gid), events

    async def unban_guest(self, gid: int) -> tuple[GuestRow, list[Event]]:
        await self.guest(gid)
        await self._pool.transaction(lambda transaction: _set_guest(transaction, gid, _ACTIVE, None))
        return await self.guest(gid), []

    # Both.

    async def find_or_add(self, group: str, admins: Sequence[str]) -> tuple[int, list[int]]:
        """The oldest group of this name and in it the oldest admin of each of these names, made where missing.

        Processes that do this at once find the same.
        """

        async def work(transaction: Transaction) -> tuple[int, list[int]]:
            await registry.line_up(transaction)
            group_id = await registry.find_group(transaction, group)
            if group_id is None:
                group_id = await registry.add_group(transaction, group)
            found = []
            for name in admins:
                admin_id = await registry.find_admin(transaction, group_id, name)
                if admin_id is None:
                    admin_id = await registry.add_admin(transaction, group_id, name, "", DEFAULT_CAPACITY)
                found.append(admin_id)
            await registry.tell(transaction, group_id, found)
            return group_id, found

        return await self._pool.transaction(work)


def _here(changed: bool) -> None:
    if not changed:
        raise _Elsewhere


async def _set_group(transaction: Transaction, group_id: int, status: str) -> None:
    await registry.set_group_status(transaction, group_id, status)
    await registry.tell(transaction, group_id)


async def _set_guest(transaction: Transaction, gid: int, status: str, group_id: int | None) -> None:
    await registry.set_guest_status(transaction, gid, status)
    await registry.tell(transaction, group_id)
