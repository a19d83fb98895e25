"""What ``--demo`` serves: a group and two admins."""

from __future__ import annotations

from dataclasses import dataclass

from chatproto.services.operator import Operator

GROUP = "Demo"
ADMINS = ("Alice", "Bob")


@dataclass(frozen=True, slots=True)
class Demo:
    """:ivar admin_ids: of Alice and of Bob."""

    group_id: int
    admin_ids: tuple[int, int]


async def seed_demo(operator: Operator) -> Demo:
    """Make them at the first start, and find them at the next.

    They are known by their names: the oldest group "Demo", and in it the oldest "Alice" and "Bob". Who renames one of
    them gets another; who bans one keeps it banned.

    :raises StorageError: nothing is made then.
    """
    group_id, (alice, bob) = await operator.find_or_add(GROUP, ADMINS)
    return Demo(group_id, (alice, bob))
