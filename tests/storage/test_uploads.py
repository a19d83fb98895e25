from __future__ import annotations

from chatproto.domain.model import Person, Role
from chatproto.storage import uploads
from tests.worlds import WorldTestCase

DAY = 86_400_000
GUEST, SAME_NUMBER = Person(Role.GUEST, 7, "", ""), Person(Role.ADMIN, 7, "", "")


class UploadTests(WorldTestCase):
    async def begin(self, name: str, person: Person = GUEST, size: int = 10, node: str = "n1") -> None:
        await uploads.begin(self.server.pool, name, node, person, size, "a.jpg")

    async def test_found(self) -> None:
        """A file can be read once it is whole, and only until it is forgotten."""
        pool = self.server.pool
        await self.begin("a")
        self.assertIsNone(await uploads.find(pool, "a"))
        await uploads.stored(pool, "a", "image/jpeg", "image/webp", 3)
        self.assertEqual(
            await uploads.find(pool, "a"), uploads.FileRow("a", 10, "a.jpg", "image/jpeg", "image/webp", 3)
        )
        await uploads.forget(pool, "a")
        self.assertIsNone(await uploads.find(pool, "a"))
        self.assertIsNone(await uploads.find(pool, "b"))

    async def test_sent(self) -> None:
        """What somebody sent counts from the moment it began, for a day, and for nobody else."""
        pool = self.server.pool
        self.assertEqual(await uploads.sent(pool, GUEST, DAY), (0, 0))
        await self.begin("a")
        await self.begin("b", size=5)
        await self.begin("c", SAME_NUMBER, size=100)
        total, until = await uploads.sent(pool, GUEST, DAY)
        self.assertEqual(total, 15)
        self.assertTrue(DAY - 60_000 < until <= DAY, until)
        self.query("UPDATE upload SET created_at = created_at - %s WHERE name = 'a'", DAY)
        self.assertEqual((await uploads.sent(pool, GUEST, DAY))[0], 5)
        self.assertEqual((await uploads.sent(pool, SAME_NUMBER, DAY))[0], 100)

    async def test_arriving(self) -> None:
        """What a node has begun to take is known, apart from that of other nodes and from what is whole."""
        for name, node in (("a", "n1"), ("b", "n1"), ("c", "n2")):
            await self.begin(name, node=node)
        await uploads.stored(self.server.pool, "b", "image/jpeg", None, None)
        self.assertEqual(await uploads.arriving(self.server.pool, "n1"), ["a"])
        self.assertEqual(await uploads.arriving(self.server.pool, "n2"), ["c"])
