"""22330 and 32330: who is told that somebody types."""

from __future__ import annotations

from tests.commands.room import Client, RoomCase


class TypingTests(RoomCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.ann = await self.admin()
        self.al = await self.guest("al")
        await self.al.ok(22000)
        await self.ann.push(32401)

    async def beat(self, client: Client) -> None:
        """What was to come has come."""
        await client.reply(client.send(0, call_type=0))

    async def quiet(self, *clients: Client) -> None:
        for client in clients:
            await self.beat(client)
            self.assertEqual({22397, 32397} & set(client.numbers()), set())

    async def test_guest(self) -> None:
        """Who serves sees it on all connections that know part 2; nobody else, and not the guest's other tabs."""
        phone, old = await self.admin(self.ann.admin_id), await self.admin(self.ann.admin_id, v=1)
        bob, tab, mia = await self.admin(name="Bob"), await self.guest("al"), await self.guest("mia")
        self.assertEqual(await self.al.ok(22330), {})
        for client in (self.ann, phone):
            told = await client.push(32397)
            self.assertEqual(told, {"gid": self.al.gid, "group_id": self.group, "typing": True})
        await self.quiet(old, bob, self.al, tab, mia)

    async def test_admin(self) -> None:
        """The guest sees it on all tabs; nobody else, and not the admin's other connections."""
        phone, bob, tab = await self.admin(self.ann.admin_id), await self.admin(name="Bob"), await self.guest("al")
        mia = await self.guest("mia")
        self.assertEqual(await self.ann.ok(32330, gid=str(self.al.gid), typing=False), {})
        for client in (self.al, tab):
            self.assertEqual(await client.push(22397), {"typing": False})
        await self.quiet(self.ann, phone, bob, mia)

    async def test_more(self) -> None:
        """More than one a second is answered, and not passed on; also from two tabs."""
        tab = await self.guest("al")
        for client in (self.al, tab, self.al):
            self.assertEqual(await client.ok(22330), {})
        await self.ann.push(32397)
        await self.quiet(self.ann)

    async def test_something_waits(self) -> None:
        """It never stands in a queue: where something waits for the reader, it is dropped."""
        self.ann.link.unsent = 1
        await self.al.ok(22330)
        self.ann.link.unsent = 0
        await self.quiet(self.ann)

    async def test_nobody_serves(self) -> None:
        """In the queue, and after the end, the guest is answered and nobody is told."""
        await self.ann.ok(32500, status=1)
        mia = await self.guest("mia")
        self.assertEqual(await mia.ok(22330), {})
        await mia.ok(22300, msg="hello")
        await self.quiet(self.ann)
        await self.al.ok(22060)
        self.assertEqual(await self.al.ok(22330), {})
        await self.quiet(self.ann)

    async def test_not_your_guest(self) -> None:
        """Only who serves may: not a colleague, not who served, not for a guest of another group or none."""
        bob = await self.admin(name="Bob")
        eve = await self.admin(name="Eve", group=await self.add_group("other"))
        mia = await self.guest("mia")
        for admin in (bob, eve):
            self.assertEqual(await admin.refused(32330, gid=self.al.gid), (-32332, {}))
        for gid in (mia.gid, 2**40):
            self.assertEqual(await self.ann.refused(32330, gid=gid), (-32332, {}))
        await self.quiet(self.al, mia)

    async def test_after_a_transfer(self) -> None:
        """The new admin is told and may, the former one is not and may not, from the transfer on."""
        bob = await self.admin(name="Bob")
        self.assertEqual(await self.ann.ok(32330, gid=self.al.gid), {})
        await self.al.push(22397)
        await self.ann.ok(32400, gid=self.al.gid, aix=bob.admin_id)
        self.assertEqual(await self.ann.code(32330, gid=self.al.gid), -32332)
        self.assertEqual(await bob.ok(32330, gid=self.al.gid), {})
        await self.al.push(22397)
        await self.al.ok(22330)
        await bob.push(32397)
        await self.quiet(self.ann)

    async def test_after_the_end(self) -> None:
        """When the service has ended, the admin serves no more."""
        await self.ann.ok(32060, gid=self.al.gid)
        self.assertEqual(await self.ann.code(32330, gid=self.al.gid), -32332)

    async def test_after_a_login(self) -> None:
        """A guest who was served before the admin came back is served still."""
        again = await self.admin(self.ann.admin_id)
        await again.ok(32330, gid=self.al.gid)
        await self.al.push(22397)
        await self.al.ok(22330)
        await again.push(32397)

    async def test_errors(self) -> None:
        """The guest has to be named; typing is true or false; each side has its own command."""
        self.assertEqual(await self.ann.refused(32330), (-32331, {}))
        self.assertEqual(await self.ann.refused(32330, gid=self.al.gid, typing=1), (-9998, {"field": "typing"}))
        self.assertEqual(await self.al.refused(22330, typing="yes"), (-9998, {"field": "typing"}))
        self.assertEqual(await self.al.code(32330, gid=self.al.gid), -9994)
        self.assertEqual(await self.ann.code(22330), -9994)
        self.assertEqual(await self.connect().code(22330), -9999)

    async def test_nothing_is_stored(self) -> None:
        """It leaves no trace: no message, no step of the conversation."""
        look = "SELECT rev, last_seq, admin_unread, guest_unread, last_message_at FROM conversation ORDER BY id"
        before = await self.sql(look)
        await self.al.ok(22330)
        await self.ann.ok(32330, gid=self.al.gid)
        await self.ann.push(32397)
        await self.al.push(22397)
        self.assertEqual(await self.sql(look), before)
        self.assertEqual(await self.sql("SELECT * FROM message"), [])
