from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from chatproto.domain.passwords import hashed
from chatproto.errors import TooManyRequests
from chatproto.services.passwords import AT_ONCE, MOST_WAITING, Passwords
from chatproto.storage.pool import Pool
from tests.database import DatabaseTestCase, execute

PASSWORD = "open sesame"
STORED = hashed(PASSWORD)


class PasswordsTests(DatabaseTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.pool = Pool(self.dsn, clock=reactor, size=2, timeout=5.0, name="general")
        await self.pool.start()
        self.compared: list[str | None] = []
        self.hold: Deferred[None] | None = None
        self.passwords = Passwords(self.pool, self.elsewhere)
        [(self.group_id,)] = self.sql("INSERT INTO service_group (name) VALUES ('Lamps') RETURNING id")

    async def tearDown(self) -> None:  # type: ignore[override]
        await self.pool.close()

    async def elsewhere(self, matches: Any, password: str, stored: str | None) -> bool:
        """In the same thread, and noted; where it is held, the answer is yes."""
        self.compared.append(stored)
        if self.hold is not None:
            await self.hold
            return True
        return bool(matches(password, stored))

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return execute(self.dsn, statement, *parameters)

    def add(self, name: str, stored: str | None = STORED) -> int:
        [(admin_id,)] = self.sql(
            "INSERT INTO admin (group_id, name, password_hash) VALUES (%s, %s, %s) RETURNING id",
            self.group_id,
            name,
            stored,
        )
        return int(admin_id)

    async def test_by_name(self) -> None:
        """An agent logs in by the name that colleagues see, with the password that was set and no other."""
        alice = self.add("Alice")
        self.add("Bob", hashed("something else"))
        self.assertEqual(await self.passwords.admin("Alice", PASSWORD), alice)
        self.assertIsNone(await self.passwords.admin("Bob", PASSWORD))
        self.assertIsNone(await self.passwords.admin("alice", PASSWORD))

    async def test_same_name(self) -> None:
        """Where two have one name, each logs in by the number, and neither by the name."""
        first, second = self.add("Alice"), self.add("Alice", hashed("another one"))
        self.assertIsNone(await self.passwords.admin("Alice", PASSWORD))
        self.assertEqual(await self.passwords.admin(str(first), PASSWORD), first)
        self.assertEqual(await self.passwords.admin(str(second), "another one"), second)

    async def test_nobody(self) -> None:
        """An unknown name, one without a password and a banned one take as long as a wrong password."""
        self.add("Without", None)
        banned = self.add("Banned")
        self.sql("UPDATE admin SET status = 'banned' WHERE id = %s", banned)
        for name in ("Nobody", "Without", "Banned", "", "7'; --"):
            self.assertIsNone(await self.passwords.admin(name, PASSWORD), name)
        self.assertEqual(self.compared, [None] * 5)
        self.sql("UPDATE admin SET status = 'active'")
        self.sql("UPDATE service_group SET status = 'banned'")
        self.assertIsNone(await self.passwords.admin("Banned", PASSWORD))

    async def test_line(self) -> None:
        """Comparing is slow, so only a few are under way and some wait; who comes to a full line is told at once."""
        alice = self.add("Alice")
        self.hold = Deferred()
        under_way = [
            Deferred.fromCoroutine(self.passwords.admin("Alice", PASSWORD)) for _ in range(AT_ONCE + MOST_WAITING)
        ]
        while len(self.passwords._turns.waiting) < MOST_WAITING:
            await self.pool.fetch("SELECT 1")
        self.assertEqual(len(self.compared), AT_ONCE)
        with self.assertRaises(TooManyRequests):
            await self.passwords.admin("Alice", PASSWORD)
        self.hold.callback(None)
        self.assertEqual({await one for one in under_way}, {alice})
