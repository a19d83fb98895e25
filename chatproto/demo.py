"""What ``--demo`` serves: a group, two admins, and a customer of its shop."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from chatproto.domain import passwords
from chatproto.services.operator import Operator

GROUP = "Demo"
ADMINS = ("Alice", "Bob")
CUSTOMER = {"sub": "demo-guest", "name": "Gina"}
"""Claims of the shop's one customer."""


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


async def new_password(operator: Operator, demo: Demo) -> str:
    """Give both admins one new password, which is returned: it is good until the next start.

    It takes a third of a second, in which nothing else is done.

    :raises ChatError: one of them has gone meanwhile.
    :raises StorageError: it is not set then, or not for both.
    """
    password = f"demo-{secrets.token_hex(3)}"
    hashed = passwords.hashed(password)
    for admin_id in demo.admin_ids:
        await operator.set_password(admin_id, hashed)
    return password
