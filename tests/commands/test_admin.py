"""What an admin may ask and is told: docs/protocol.md 1 and 2.1, every command with every error of its row."""

from __future__ import annotations

import json
from typing import Any

from tests.commands.room import (
    ADMIN_ENTRY,
    DESK,
    GUEST_ENTRY,
    Client,
    RoomCase,
)

MISSING: tuple[Any, ...] = (None, "", 0, "0")
"""What an id may look like that is not there."""
GIVEN = {32399, 32401, 32402}


def seqs(data: dict[str, Any]) -> list[int]:
    return sorted(int(seq) for seq in data["recs"])


class DeskCase(RoomCase):
    """An admin who serves a guest."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.ann = await self.admin()
        self.al = await self.guest("al")
        await self.al.ok(22300, msg="hello")
        await self.ann.push(32399)
        self.ann.told.clear()
        self.al.told.clear()

    async def served(self, sub: str, admin: Client) -> Client:
        """A guest whom *admin* took from the queue."""
        guest = await self.guest(sub)
        await self.sql("UPDATE admin SET suspended = true WHERE id <> %s", admin.admin_id)
        await guest.ok(22000)
        await self.sql("UPDATE admin SET suspended = false")
        await admin.push(32401, gid=guest.gid)
        return guest

    async def fill(self, guest: Client, messages: int, size: int = 1) -> None:
        """Give the conversation more messages of the guest, at once."""
        await self.sql(
            """
            INSERT INTO message (conversation_id, seq, sender_id, created_at, sender_type, file_type, cmid, body)
            SELECT id, last_seq + n, guest_id, now_ms(), 1, 0, 's' || (last_seq + n), %s
            FROM conversation, generate_series(1, %s) AS n WHERE guest_id = %s
            """,
            json.dumps("x" * size),
            messages,
            guest.gid,
        )
        await self.sql(
            "UPDATE conversation SET last_seq = last_seq + %s, rev = rev + 1 WHERE guest_id = %s", messages, guest.gid
        )

    async def crowd(self, state: str, number: int, admin: Client | None) -> list[int]:
        """That many more guests in a state; gids, the one since longest first."""
        rows = await self.server.pool.fetch(
            """
            WITH people AS (INSERT INTO guest (name) SELECT 'g' || n FROM generate_series(1, %(n)s) AS n RETURNING id)
            INSERT INTO conversation
                (group_id, guest_id, state, admin_id, last_admin_id, last_served_by, queue_rank, queued_at, ended_at)
            SELECT %(group)s, id, %(state)s, CASE WHEN %(state)s = 'serving' THEN %(admin)s::bigint END,
                   %(admin)s::bigint, %(admin)s::bigint, CASE WHEN %(state)s = 'queued' THEN 1 END,
                   CASE WHEN %(state)s = 'queued' THEN id END, CASE WHEN %(state)s = 'ended' THEN id END
            FROM people RETURNING guest_id
            """,
            {"n": number, "group": self.group, "state": state, "admin": admin.admin_id if admin else None},
        )
        return sorted(gid for (gid,) in rows)


class ChatListTests(DeskCase):
    async def test_as_at_login(self) -> None:
        """32000 gives what the login gave, as it is now."""
        data = await self.ann.ok(32000)
        self.assertFields(data, DESK)
        self.assertEqual((data["ix"], data["guests_more"]), (self.ann.ix, False))
        for entry in data["admin_list"].values():
            self.assertFields(entry, ADMIN_ENTRY)
        entry = data["guest_list"][str(self.al.gid)]
        self.assertFields(entry, GUEST_ENTRY)
        self.assertMessage(entry["last_message"])
        self.assertEqual((entry["last_message"]["msg"], entry["unread"]), ("hello", 1))
        self.assertEqual(entry["last_time"], entry["last_message"]["created_at"])

    async def test_what_is_in_it(self) -> None:
        """Whom the caller serves, who waits, and whom the caller served last; not whom a colleague serves."""
        bob = await self.admin(name="Bob")
        his = await self.served("his", bob)
        done = await self.served("done", self.ann)
        await self.ann.ok(32060, gid=done.gid)
        await self.sql("UPDATE admin SET capacity = 0")
        waits = await self.guest("waits")
        await waits.ok(22000)
        await self.guest("new")
        found = (await self.ann.ok(32000))["guest_list"]
        self.assertEqual(found.keys(), {str(client.gid) for client in (self.al, done, waits)})
        ended, queued = found[str(done.gid)], found[str(waits.gid)]
        self.assertEqual((ended["state"], ended["admin_id"], ended["queued_at"]), ("ended", None, None))
        self.assertEqual((queued["state"], queued["admin_id"]), ("queued", None))
        self.assertGreater(queued["queued_at"], 0)
        self.assertIn(str(his.gid), (await bob.ok(32000))["guest_list"])

    async def test_up_to_100(self) -> None:
        """The list ends at 100: served, then the queue from its head, then the latest ended."""
        queued = await self.crowd("queued", 60, None)
        ended = await self.crowd("ended", 60, self.ann)
        data = await self.ann.ok(32000)
        self.assertTrue(data["guests_more"])
        expected = [self.al.gid, *queued, *ended[-39:]]
        self.assertEqual(sorted(map(int, data["guest_list"])), sorted(expected))

    async def test_more_served(self) -> None:
        """Whoever serves more than 100 sees them all."""
        serving = await self.crowd("serving", 110, self.ann)
        await self.crowd("queued", 5, None)
        data = await self.ann.ok(32000)
        self.assertTrue(data["guests_more"])
        self.assertEqual(sorted(map(int, data["guest_list"])), sorted([self.al.gid, *serving]))

    async def test_pages(self) -> None:
        """With a state all can be read, 100 a page, the newest first; who waits is the group's, others one's own."""
        bob = await self.admin(name="Bob")
        ended = await self.crowd("ended", 105, self.ann)
        queued = await self.crowd("queued", 101, None)
        serving = await self.crowd("serving", 3, self.ann)
        await self.crowd("ended", 3, bob)

        async def page(state: str, index: int | None = None) -> tuple[list[int], bool]:
            data = await self.ann.ok(32000, state=state, page_index=index)
            self.assertFields(data, DESK)
            return sorted(map(int, data["guest_list"])), data["guests_more"]

        self.assertEqual(await page("ended"), (ended[5:], True))
        self.assertEqual(await page("ended", 0), (ended[5:], True))
        self.assertEqual(await page("ended", 2), (ended[:5], False))
        self.assertEqual(await page("ended", 3), ([], False))
        self.assertEqual(await page("queued"), (queued[1:], True))
        self.assertEqual(await page("queued", 2), (queued[:1], False))
        self.assertEqual(await page("serving"), (sorted([self.al.gid, *serving]), False))
        self.assertEqual(await page("new"), ([], False))

    async def test_malformed(self) -> None:
        """-9998 names the field."""
        self.assertEqual(await self.ann.refused(32000, state="away"), (-9998, {"field": "state"}))
        for wrong in (-1, "x", 1.5, True):
            code = await self.ann.refused(32000, state="ended", page_index=wrong)
            self.assertEqual(code, (-9998, {"field": "page_index"}), wrong)


class ChatContentTests(DeskCase):
    async def content(self, client: Client | None = None, **values: Any) -> dict[str, Any]:
        return await (client or self.ann).ok(32100, **{"gid": self.al.gid, "group_id": self.group, **values})

    async def test_reply(self) -> None:
        """A page of a conversation: as the login, and the messages."""
        bob = await self.admin(name="Bob")
        await self.ann.ok(32300, gid=self.al.gid, msg="hi")
        data = await self.content(bob)
        self.assertFields(data, DESK | {"recs", "page_index", "page_size", "total", "has_more"})
        self.assertEqual([data[name] for name in ("page_index", "page_size", "total")], [1, 10, 2])
        self.assertEqual((data["ix"], data["has_more"], data["guests_more"]), (bob.ix, False, False))
        self.assertEqual(seqs(data), [1, 2])
        for info in data["recs"].values():
            self.assertMessage(info)
        self.assertEqual(data["recs"]["1"]["sender"], {"type": "guest", "id": self.al.gid, "name": "", "avatar": ""})
        self.assertEqual(
            data["recs"]["2"]["sender"],
            {"type": "admin", "id": self.ann.admin_id, "name": "Ann", "avatar": "https://shop.example/Ann.png"},
        )
        self.assertEqual(data["admin_list"].keys(), {str(self.ann.admin_id)})
        self.assertFields(data["admin_list"][str(self.ann.admin_id)], ADMIN_ENTRY)
        self.assertEqual(data["guest_list"].keys(), {str(self.al.gid)})
        self.assertFields(data["guest_list"][str(self.al.gid)], GUEST_ENTRY)

    async def test_pages(self) -> None:
        """Page 1 holds the newest, page sizes above 100 count as 100, 0 counts as not given."""
        await self.fill(self.al, 124)
        for values, expected, more in (
            ({}, range(116, 126), True),
            ({"page_index": 0, "page_size": 0}, range(116, 126), True),
            ({"page_index": 2, "page_size": 50}, range(26, 76), True),
            ({"page_index": 3, "page_size": 50}, range(1, 26), False),
            ({"page_index": 4, "page_size": 50}, range(0), False),
            ({"page_index": "2", "page_size": "60"}, range(6, 66), True),
            ({"page_size": 500}, range(26, 126), True),
            ({"page_index": 2, "page_size": 500}, range(1, 26), False),
            ({"page_index": 10**17}, range(0), False),
        ):
            data = await self.content(**values)
            self.assertEqual((seqs(data), data["has_more"]), (list(expected), more), values)
            self.assertEqual(data["total"], 125)
            self.assertEqual(data["page_size"], min(int(values.get("page_size", 10)) or 10, 100))
            self.assertEqual(data["page_index"], min(int(values.get("page_index", 1)) or 1, 2**53 - 1))

    async def test_seqs(self) -> None:
        """before_seq and after_seq give the nearest on that side, and whether there is more on that side."""
        await self.fill(self.al, 24)
        for values, expected, more in (
            ({"before_seq": 16}, range(6, 16), True),
            ({"before_seq": 6}, range(1, 6), False),
            ({"before_seq": 1}, range(0), False),
            ({"before_seq": 0}, range(0), False),
            ({"before_seq": 99}, range(16, 26), True),
            ({"after_seq": 0}, range(1, 11), True),
            ({"after_seq": 10}, range(11, 21), True),
            ({"after_seq": 15}, range(16, 26), False),
            ({"after_seq": 25}, range(0), False),
            ({"after_seq": 99}, range(0), False),
            ({"after_seq": "20", "page_size": 3, "page_index": 7}, range(21, 24), True),
        ):
            data = await self.content(**values)
            self.assertEqual((seqs(data), data["has_more"]), (list(expected), more), values)

    async def test_while_messages_arrive(self) -> None:
        """Reading back by before_seq neither skips nor repeats while messages arrive."""
        await self.fill(self.al, 40)
        read: list[int] = []
        data = await self.content(page_size=7)
        while True:
            read = seqs(data) + read
            await self.al.ok(22300, msg="more")
            if not data["has_more"]:
                break
            data = await self.content(before_seq=read[0], page_size=7)
        self.assertEqual(read, list(range(1, 42)))
        found = await self.content(after_seq=41, page_size=100)
        self.assertEqual(seqs(found), list(range(42, found["total"] + 1)))

    async def test_bytes(self) -> None:
        """A page by seq ends before 512 KiB, never with nothing, and says that there is more."""
        await self.fill(self.al, 99, size=16_000)
        data = await self.content(after_seq=0, page_size=100)
        self.assertEqual(seqs(data), list(range(1, 34)))
        self.assertTrue(data["has_more"])
        data = await self.content(before_seq=101, page_size=100)
        self.assertEqual(seqs(data), list(range(69, 101)))
        self.assertTrue(data["has_more"])
        self.assertEqual(len(seqs(await self.content(page_size=100))), 100)

    async def test_errors(self) -> None:
        """-32101, -32102, then what is malformed, then what is not one's own."""
        for missing in MISSING:
            self.assertEqual(await self.ann.refused(32100, gid=missing), (-32101, {}))
            self.assertEqual(await self.ann.refused(32100, gid=self.al.gid, group_id=missing), (-32102, {}))
        both = {"gid": self.al.gid, "group_id": self.group}
        for field, wrong in (
            ("gid", "x"),
            ("gid", True),
            ("gid", -1),
            ("group_id", 1.5),
            ("page_size", -1),
            ("page_index", -1),
            ("before_seq", -1),
            ("after_seq", "x"),
        ):
            self.assertEqual(await self.ann.refused(32100, **{**both, field: wrong}), (-9998, {"field": field}))
        code, _ = await self.ann.refused(32100, **both, before_seq=1, after_seq=1)
        self.assertEqual(code, -9998)

    async def test_rights(self) -> None:
        """Any conversation of the own group can be read, and no other, whether it exists or not."""
        other = await self.add_group("second")
        eve = await self.admin(name="Eve", group=other)
        stranger = await self.guest("stranger", group_id=other)
        for client, gid, group_id in (
            (eve, self.al.gid, self.group),
            (eve, self.al.gid, other),
            (self.ann, stranger.gid, self.group),
            (self.ann, stranger.gid, other),
            (self.ann, 10**15, self.group),
            (self.ann, self.al.gid, 10**15),
        ):
            self.assertEqual(await client.refused(32100, gid=gid, group_id=group_id), (-9994, {}))
        await self.content(await self.admin(name="Bob"))


class MarkReadTests(DeskCase):
    async def read(self, client: Client | None = None, **values: Any) -> dict[str, Any]:
        return await (client or self.ann).ok(32200, **{"gid": self.al.gid, "group_id": self.group, **values})

    async def test_read(self) -> None:
        """The mark moves to the last message, the guest and the own connections are told."""
        phone = await self.admin(self.ann.admin_id)
        for n in range(3):
            await self.al.ok(22300, msg=str(n))
        self.assertEqual(
            await self.read(seq=2), {"gid": self.al.gid, "group_id": self.group, "read_seq": 2, "unread": 2}
        )
        told = await self.al.push(22299)
        self.assertEqual(told, {"admin_read_seq": 2, "read_seq": 0, "unread": 0})
        for client in (self.ann, phone):
            self.assertEqual(
                await client.push(32299),
                {"gid": self.al.gid, "group_id": self.group, "guest_read_seq": 0, "read_seq": 2, "unread": 2},
            )
        data = await self.read()
        self.assertEqual((data["read_seq"], data["unread"]), (4, 0))
        entry = (await self.ann.ok(32000))["guest_list"][str(self.al.gid)]
        self.assertEqual((entry["read_seq"], entry["unread"]), (4, 0))

    async def test_only_forward(self) -> None:
        """It never moves back, past the last one is the last one, and nobody is told where nothing moved."""
        data = await self.read(seq=10**17)
        self.assertEqual((data["read_seq"], data["unread"]), (1, 0))
        await self.al.push(22299)
        await self.ann.push(32299)
        self.assertEqual((await self.read(seq=0))["read_seq"], 1)
        self.assertEqual((await self.read())["read_seq"], 1)
        self.assertNotIn(22299, self.al.numbers())
        self.assertNotIn(32299, self.ann.numbers())

    async def test_writing_does_not_move_it(self) -> None:
        """An answer does not mark anything read, and one's own messages are not unread."""
        await self.ann.ok(32300, gid=self.al.gid, msg="hi")
        entry = (await self.ann.ok(32000))["guest_list"][str(self.al.gid)]
        self.assertEqual((entry["read_seq"], entry["unread"]), (0, 1))
        self.assertEqual((await self.read(seq=1))["unread"], 0)

    async def test_after_the_end(self) -> None:
        """Who served last may still mark read, all devices see it; nobody else may."""
        bob = await self.admin(name="Bob")
        phone = await self.admin(self.ann.admin_id)
        await self.ann.ok(32060, gid=self.al.gid)
        self.assertEqual((await self.read())["unread"], 0)
        await phone.push(32299, gid=self.al.gid, unread=0)
        code = await bob.refused(32200, gid=self.al.gid, group_id=self.group)
        self.assertEqual(code, (-9994, {}))

    async def test_only_delivered(self) -> None:
        """Who wrote to an ended guest has not served: the list and the marks stay with the one who did."""
        bob = await self.admin(name="Bob")
        await self.ann.ok(32060, gid=self.al.gid)
        await bob.ok(32300, gid=self.al.gid, msg="by the way")
        code = await bob.refused(32200, gid=self.al.gid, group_id=self.group)
        self.assertEqual(code, (-9994, {}))
        self.assertEqual((await self.read())["read_seq"], 2)
        for client, expected in ((self.ann, {str(self.al.gid)}), (bob, set())):
            self.assertEqual((await client.ok(32000))["guest_list"].keys(), expected)
            self.assertEqual((await client.ok(32000, state="ended"))["guest_list"].keys(), expected)

    async def test_served_after_another(self) -> None:
        """Whoever served last is who got the guest last, whatever others wrote before and after."""
        bob = await self.admin(name="Bob")
        await self.ann.ok(32400, gid=self.al.gid, aix=bob.admin_id)
        await bob.ok(32060, gid=self.al.gid)
        await self.ann.ok(32300, gid=self.al.gid, msg="by the way")
        code = await self.ann.refused(32200, gid=self.al.gid, group_id=self.group)
        self.assertEqual(code, (-9994, {}))
        self.assertEqual((await self.read(bob))["read_seq"], 2)

    async def test_errors(self) -> None:
        """-32201, -32202, malformed, and -9994 for whoever does not serve the guest."""
        for missing in MISSING:
            self.assertEqual(await self.ann.refused(32200, gid=missing), (-32201, {}))
            self.assertEqual(await self.ann.refused(32200, gid=5, group_id=missing), (-32202, {}))
        both = {"gid": self.al.gid, "group_id": self.group}
        for field, wrong in (("gid", "x"), ("group_id", True), ("seq", -1), ("seq", "x")):
            self.assertEqual(await self.ann.refused(32200, **{**both, field: wrong}), (-9998, {"field": field}))
        bob = await self.admin(name="Bob")
        self.assertEqual(await bob.refused(32200, **both), (-9994, {}))
        self.assertEqual(await self.ann.refused(32200, gid=10**15, group_id=self.group), (-9994, {}))
        self.assertEqual(await self.ann.refused(32200, gid=self.al.gid, group_id=10**15), (-9994, {}))
        await self.sql("UPDATE admin SET capacity = 0")
        waits = await self.guest("waits")
        await waits.ok(22300, msg="?")
        self.assertEqual(await self.ann.refused(32200, gid=waits.gid, group_id=self.group), (-9994, {}))


class SendTests(DeskCase):
    async def send(self, client: Client | None = None, **values: Any) -> dict[str, Any]:
        return await (client or self.ann).ok(32300, **{"gid": self.al.gid, "msg": "hi", **values})

    async def refusal(self, client: Client | None = None, **values: Any) -> tuple[int, dict[str, Any]]:
        return await (client or self.ann).refused(32300, **{"gid": self.al.gid, "msg": "hi", **values})

    async def test_send(self) -> None:
        """The message is stored, the guest gets it in all tabs, the other devices of the admin too."""
        tab = await self.guest("al")
        phone, old = await self.admin(self.ann.admin_id), await self.admin(self.ann.admin_id, v=1)
        data = await self.send(cmid="m1")
        self.assertFields(data, {"gid", "message_info"})
        info = data["message_info"]
        self.assertMessage(info)
        self.assertEqual(
            {name: info[name] for name in ("gid", "group_id", "seq", "msg", "file_type", "cmid")},
            {"gid": self.al.gid, "group_id": self.group, "seq": 2, "msg": "hi", "file_type": 0, "cmid": "m1"},
        )
        for client in (self.al, tab):
            self.assertEqual(await client.push(22399), {"message_info": info, "unread": 1})
        self.assertEqual(await phone.push(32398), {"gid": self.al.gid, "message_info": info})
        await self.al.ok(22300, msg="end")
        await self.ann.push(32399)
        self.assertNotIn(32398, self.ann.numbers())
        self.assertEqual(old.numbers(), [32399])

    async def test_kinds(self) -> None:
        """Every kind comes back exactly as it was sent, also shapes that only old clients know."""
        for file_type, msg in (
            (0, "text\n中文 😀"),
            ("1", '{"url": "https://x.example/a.png",  "width": 1e2, "b": 1, "a": 2}'),
            (2, '"https://x.example/a.ogg"'),
            (3, "{}"),
            (4, '{"anything": [1.0, null, {"deep": true}]}'),
            (5, '{"url": "https://x.example/v.mp4"}'),
            (6, '{"name": "a.pdf", "url": "u", "size": 10}'),
        ):
            raw = json.dumps(msg) if file_type == 0 else msg
            request = f'{{"api_key": 32300, "gid": {self.al.gid}, "msg": {raw}, "file_type": {json.dumps(file_type)}}}'
            self.server.dispatch.text(self.ann.state, request.encode())
            told = (await self.al.push(22399))["message_info"]
            self.assertEqual(told["file_type"], int(file_type))
            self.assertEqual(told["msg"], json.loads(raw))
            if file_type != 0:
                self.assertIn(f'"msg":{raw},'.encode(), self.al.link.raw[-1])
        data = await self.ann.ok(32100, gid=self.al.gid, group_id=self.group)
        self.assertEqual(data["recs"]["3"]["msg"], {"url": "https://x.example/a.png", "width": 100.0, "b": 1, "a": 2})
        self.assertIn(b'{"url": "https://x.example/a.png",  "width": 1e2, "b": 1, "a": 2}', self.ann.link.raw[-1])

    async def test_number_as_text(self) -> None:
        """A number is taken as it is written."""
        data = await self.send(msg=1234)
        self.assertEqual(data["message_info"]["msg"], "1234")

    async def test_parameters(self) -> None:
        """-32301 … -32304."""
        for missing in MISSING:
            self.assertEqual(await self.refusal(gid=missing), (-32301, {}))
        for missing in (None, ""):
            self.assertEqual(await self.refusal(msg=missing), (-32302, {}))
        for unknown in (7, -1, "x", True, 1.5):
            self.assertEqual(await self.refusal(file_type=unknown), (-32303, {}), unknown)
        for kind, wrong in (
            (0, {"a": 1}),
            (0, ["x"]),
            (0, True),
            (0, "x" * 5001),
            (1, 5),
            (1, ["x"]),
            (6, "x" * 16384),
        ):
            self.assertEqual(await self.refusal(file_type=kind, msg=wrong), (-32304, {}))
        for field, wrong in (("gid", "x"), ("cmid", 5), ("cmid", "x" * 65)):
            self.assertEqual(await self.refusal(None, **{field: wrong}), (-9998, {"field": field}))
        await self.send(msg="😀" * 5000)
        await self.send(cmid="x" * 64)

    async def test_no_such_guest(self) -> None:
        """-32305: unknown, another group's, or banned; the same for all three."""
        other = await self.add_group("second")
        stranger = await self.guest("stranger", group_id=other)
        for gid in (10**15, stranger.gid):
            self.assertEqual(await self.refusal(gid=gid), (-32305, {}))
        await self.sql("UPDATE guest SET status = 'banned' WHERE id = %s", self.al.gid)
        self.assertEqual(await self.refusal(), (-32305, {}))

    async def test_served_by_another(self) -> None:
        """-32306 says by whom."""
        bob = await self.admin(name="Bob")
        self.assertEqual(await self.refusal(bob), (-32306, {"admin_id": self.ann.admin_id}))

    async def test_repeat(self) -> None:
        """A repeat gets the first message, is not stored again, and nobody is told again."""
        first = await self.send(cmid="m")
        await self.al.push(22399)
        again = await self.send(cmid="m")
        self.assertEqual(again, {**first, "dup": True})
        self.assertEqual(self.al.numbers(), [])
        self.assertEqual((await self.ann.ok(32100, gid=self.al.gid, group_id=self.group))["total"], 2)

    async def test_repeats_at_once(self) -> None:
        """The same cmid twice without waiting is one message."""
        ids = [self.ann.send(32300, gid=self.al.gid, msg="hi", cmid="m") for _ in range(5)]
        replies = [(await self.ann.reply(request_id))["data"] for request_id in ids]
        self.assertEqual([data["message_info"]["seq"] for data in replies], [2] * 5)
        self.assertEqual([data.get("dup") for data in replies], [None] + [True] * 4)

    async def test_repeat_whatever_happened(self) -> None:
        """A repeat is answered also when another admin has the guest, or the service has ended."""
        bob = await self.admin(name="Bob")
        first = await self.send(cmid="m")
        await self.ann.ok(32400, gid=self.al.gid, aix=bob.admin_id)
        self.assertEqual(await self.send(cmid="m"), {**first, "dup": True})
        self.assertEqual((await self.refusal(cmid="other"))[0], -32306)
        await bob.ok(32060, gid=self.al.gid)
        self.assertEqual(await self.send(cmid="m"), {**first, "dup": True})
        await self.sql("UPDATE guest SET status = 'banned'")
        self.assertEqual(await self.send(cmid="m"), {**first, "dup": True})

    async def test_clash(self) -> None:
        """-32307: the same cmid with anything else, also with what would be an error of its own."""
        await self.send(cmid="m")
        for other in (
            {"msg": "ho"},
            {"msg": "hi", "file_type": 1},
            {"msg": "x" * 5001},
            {"file_type": 9},
            {"msg": ""},
            {"msg": None},
        ):
            self.assertEqual(await self.refusal(cmid="m", **other), (-32307, {}), other)
        bob = await self.admin(name="Bob")
        await self.ann.ok(32400, gid=self.al.gid, aix=bob.admin_id)
        self.assertEqual(await self.refusal(cmid="m", msg="ho"), (-32307, {}))

    async def test_clash_with_one_under_way(self) -> None:
        """-32307 also when the first is sent right before, and is not stored yet."""
        others: list[dict[str, Any]] = [{}, {"msg": "x" * 5001}, {"msg": "hi", "file_type": 9}]
        for n, other in enumerate(others):
            cmid = f"m{n}"
            first = self.ann.send(32300, gid=self.al.gid, msg="hi", cmid=cmid)
            second = self.ann.send(32300, gid=self.al.gid, cmid=cmid, **other)
            codes = [(await self.ann.reply(request_id))["code"] for request_id in (first, second)]
            self.assertEqual(codes, [200, -32307], other)
        await self.ann.ok(32060, gid=self.al.gid)
        first = self.ann.send(32300, gid=self.al.gid, msg="hi", cmid="late")
        second = self.ann.send(32300, gid=self.al.gid, cmid="late")
        codes = [(await self.ann.reply(request_id))["code"] for request_id in (first, second)]
        self.assertEqual(codes, [200, -32307])

    async def test_wrong_and_new(self) -> None:
        """What is wrong is said where the cmid is new, and the cmid is free afterwards."""
        self.assertEqual(await self.refusal(cmid="m", msg=None), (-32302, {}))
        self.assertEqual(await self.refusal(cmid="m", file_type=9), (-32303, {}))
        self.assertEqual(await self.refusal(cmid="m", gid=10**15, msg=None), (-32302, {}))
        self.assertNotIn("dup", await self.send(cmid="m"))

    async def test_cmids_apart(self) -> None:
        """A cmid belongs to one sender in one conversation; without one, nothing is a repeat; "" is none."""
        other = await self.served("other", self.ann)
        seen = [
            await self.send(cmid="m"),
            await self.send(cmid="m", gid=other.gid, msg="ho"),
            await self.send(),
            await self.send(cmid=""),
            await self.send(cmid=None),
        ]
        await self.al.ok(22300, msg="from the guest", cmid="m")
        self.assertEqual([data["message_info"]["cmid"] for data in seen], ["m", "m", None, None, None])
        self.assertEqual([data["message_info"]["seq"] for data in seen], [2, 1, 3, 4, 5])

    async def test_takes_who_waits(self) -> None:
        """Writing to a waiting guest takes the guest, whatever the capacity, also while suspended."""
        await self.sql("UPDATE admin SET capacity = 1")
        waits = await self.guest("waits")
        await waits.ok(22300, msg="?")
        await self.ann.ok(32500, status=1)
        self.ann.told.clear()
        data = await self.send(gid=waits.gid)
        self.assertEqual(data["message_info"]["seq"], 2)
        told = await self.ann.push(32401)
        self.assertHanded(told)
        self.assertEqual((told["data"]["from_aix"], told["data"]["to_aix"]), (None, self.ann.admin_id))
        state = await waits.push(22099, state="serving")
        self.assertEqual((state["admin"]["aix"], state["reason"]), (self.ann.admin_id, "assigned"))
        await waits.push(22399)

    async def test_only_delivers(self) -> None:
        """To a guest whose service ended it only delivers; the answer starts a service with the sender first."""
        await self.ann.ok(32060, gid=self.al.gid)
        bob = await self.admin(name="Bob")
        await self.al.push(22099, state="ended")
        self.assertEqual((await self.send(bob))["message_info"]["seq"], 2)
        await self.al.push(22399)
        self.assertEqual(self.al.numbers(), [])
        entry = (await bob.ok(32100, gid=self.al.gid, group_id=self.group))["guest_list"][str(self.al.gid)]
        self.assertEqual(entry["state"], "ended")
        await self.served("more", bob)
        await self.al.ok(22300, msg="thanks")
        self.assertEqual((await self.al.push(22099))["admin"]["aix"], bob.admin_id)
        await bob.push(32401, gid=self.al.gid)

    async def test_to_a_new_guest(self) -> None:
        """To a guest never served it is as to an ended one."""
        new = await self.guest("new")
        await self.send(gid=new.gid)
        self.assertEqual((await new.push(22399))["message_info"]["seq"], 1)
        self.assertEqual((await self.guest("new")).welcome["state"], "new")

    async def test_to_who_is_off_line(self) -> None:
        """What is written to a guest who is off line is there when the guest comes back."""
        await self.al.leave()
        await self.send()
        back = await self.guest("al")
        self.assertEqual((back.welcome["unread"], back.welcome["recs"]["2"]["msg"]), (1, "hi"))

    async def test_order(self) -> None:
        """What is sent without waiting is numbered, answered and delivered in that order."""
        ids = [self.ann.send(32300, gid=self.al.gid, msg=f"m{n}") for n in range(50)]
        replies = [await self.ann.reply(request_id) for request_id in ids]
        self.assertEqual([reply["data"]["message_info"]["seq"] for reply in replies], list(range(2, 52)))
        told = [(await self.al.push(22399))["message_info"]["msg"] for _ in range(50)]
        self.assertEqual(told, [f"m{n}" for n in range(50)])


class TransferTests(DeskCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.bob = await self.admin(name="Bob")
        self.ann.told.clear()

    async def refusal(self, **values: Any) -> tuple[int, dict[str, Any]]:
        return await self.ann.refused(32400, **{"gid": self.al.gid, "aix": self.bob.admin_id, **values})

    async def test_transfer(self) -> None:
        """Both sides get the same data and the newest 20 messages, the guest is told by 22099, never the note."""
        phone, old = await self.admin(self.ann.admin_id), await self.admin(self.bob.admin_id, v=1)
        await self.fill(self.al, 30)
        data = await self.ann.ok(32400, gid=self.al.gid, aix=self.bob.admin_id, note="likes tea")
        self.assertHanded(data)
        self.assertEqual(
            {name: data["data"][name] for name in ("from_aix", "to_aix", "note")},
            {"from_aix": self.ann.admin_id, "to_aix": self.bob.admin_id, "note": "likes tea"},
        )
        self.assertEqual(seqs(data), list(range(12, 32)))
        self.assertEqual((data["guest_info"]["admin_id"], data["guest_info"]["state"]), (self.bob.admin_id, "serving"))
        for client, number in ((self.ann, 32402), (phone, 32402), (self.bob, 32401), (old, 32401)):
            self.assertEqual(await client.push(number), data)
        await self.ann.push(32099, gid=self.al.gid, admin_id=self.bob.admin_id)
        told = await self.al.push(22099)
        self.assertEqual(
            told,
            {
                "state": "serving",
                "admin": {"aix": self.bob.admin_id, "name": "Bob", "avatar": "https://shop.example/Bob.png"},
                "queue": None,
                "reason": "transferred",
            },
        )
        self.assertNotIn(b"likes tea", b"".join(self.al.link.raw))
        await self.al.ok(22300, msg="to Bob")
        await self.bob.push(32399)
        self.assertNotIn(32399, self.ann.numbers())

    async def test_note_is_kept(self) -> None:
        """Who logs in later, or asks again, still finds from whom the guest came and the note; old clients do not."""
        handed = await self.ann.ok(32400, gid=self.al.gid, aix=self.bob.admin_id, note="likes tea")
        gid = str(self.al.gid)
        phone, old = await self.admin(self.bob.admin_id), await self.admin(self.bob.admin_id, v=1)
        self.assertFields(phone.welcome["guest_list"][gid], GUEST_ENTRY | {"handover"})
        self.assertEqual(phone.welcome["guest_list"][gid]["handover"], handed["data"])
        self.assertFields(old.welcome["guest_list"][gid], GUEST_ENTRY)
        for parameters in ({}, {"state": "serving"}):
            for client, fields in ((self.bob, GUEST_ENTRY | {"handover"}), (old, GUEST_ENTRY)):
                self.assertFields((await client.ok(32000, **parameters))["guest_list"][gid], fields)

    async def test_note_of_before(self) -> None:
        """A note is for whom it was written: who gets the guest in another way is not shown it."""
        await self.ann.ok(32400, gid=self.al.gid, aix=self.bob.admin_id, note="likes tea")
        await self.bob.push(32401, gid=self.al.gid)
        await self.bob.ok(32060, gid=self.al.gid)
        gid = str(self.al.gid)
        self.assertFields((await self.bob.ok(32000))["guest_list"][gid], GUEST_ENTRY)
        await self.al.ok(22300, msg="one more thing")
        self.assertEqual((await self.bob.push(32401))["data"]["note"], None)
        self.assertFields((await self.bob.ok(32000))["guest_list"][gid], GUEST_ENTRY)

    async def test_without_note(self) -> None:
        """The note is null when there is none."""
        data = await self.ann.ok(32400, gid=self.al.gid, aix=self.bob.admin_id)
        self.assertIsNone(data["data"]["note"])

    async def test_parameters(self) -> None:
        """-32403, -32404, and a note that is too long."""
        for missing in MISSING:
            self.assertEqual(await self.refusal(gid=missing), (-32403, {}))
            self.assertEqual(await self.refusal(aix=missing), (-32404, {}))
        for field, wrong in (("gid", "x"), ("aix", 1.5), ("note", 5), ("note", "x" * 501)):
            self.assertEqual(await self.refusal(**{field: wrong}), (-9998, {"field": field}))
        await self.ann.ok(32400, gid=self.al.gid, aix=str(self.bob.admin_id), note="😀" * 500)

    async def test_not_your_guest(self) -> None:
        """-32409 comes first: whose guest it is not learns nothing of the receiver."""
        nobody = await self.guest("nobody")
        for gid in (nobody.gid, 10**15):
            self.assertEqual(await self.refusal(gid=gid, aix=10**15), (-32409, {}))
        self.assertEqual(await self.bob.refused(32400, gid=self.al.gid, aix=self.ann.admin_id), (-32409, {}))

    async def test_receiver(self) -> None:
        """-32405 no colleague or oneself, -32406 off line, -32407 suspended, -32408 full, in this order."""
        other = await self.add_group("second")
        eve = await self.admin(name="Eve", group=other)
        gone = await self.add_admin("Gone")
        for aix in (10**15, eve.admin_id, self.ann.admin_id):
            self.assertEqual(await self.refusal(aix=aix), (-32405, {}))
        await self.sql("UPDATE admin SET suspended = true, capacity = 0 WHERE id = ANY(%s)", [gone, self.bob.admin_id])
        self.assertEqual(await self.refusal(aix=gone), (-32406, {}))
        self.assertEqual(await self.refusal(), (-32407, {}))
        await self.sql("UPDATE admin SET suspended = false WHERE id = ANY(%s)", [gone, self.bob.admin_id])
        self.assertEqual(await self.refusal(), (-32408, {}))
        await self.sql("UPDATE admin SET status = 'banned' WHERE id = %s", self.bob.admin_id)
        self.assertEqual(await self.refusal(), (-32405, {}))
        self.assertEqual((await self.ann.ok(32000))["guest_list"][str(self.al.gid)]["admin_id"], self.ann.admin_id)

    async def test_in_grace(self) -> None:
        """Whose last connection was just lost is off line at once."""
        await self.bob.leave()
        self.assertEqual(await self.refusal(), (-32406, {}))

    async def test_frees_a_place(self) -> None:
        """Whoever waits gets the place that the transfer makes free."""
        await self.sql("UPDATE admin SET capacity = 1 WHERE id = %s", self.ann.admin_id)
        await self.sql("UPDATE admin SET capacity = 0 WHERE id = %s", self.bob.admin_id)
        waits = await self.guest("waits")
        await waits.ok(22000)
        await self.sql("UPDATE admin SET capacity = 1 WHERE id = %s", self.bob.admin_id)
        await self.ann.ok(32400, gid=self.al.gid, aix=self.bob.admin_id)
        await self.ann.push(32401, gid=waits.gid)


class SuspendTests(DeskCase):
    async def test_suspended(self) -> None:
        """Who is suspended keeps the guests and gets none; colleagues see it; resuming takes who waits."""
        bob = await self.admin(name="Bob", capacity=0)
        self.assertEqual(await self.ann.ok(32500, status=1), {})
        await bob.push(33099, aix=self.ann.admin_id, status=2)
        waits = await self.guest("waits")
        self.assertEqual((await waits.ok(22000))["state"], "queued")
        await self.al.ok(22300, msg="still here")
        await self.ann.push(32399)
        self.assertEqual(await self.ann.ok(32500, status="0"), {})
        await self.ann.push(32401, gid=waits.gid)
        await bob.push(33099, aix=self.ann.admin_id, status=1)

    async def test_errors(self) -> None:
        """-32501: missing, or neither 0 nor 1."""
        self.assertEqual(await self.ann.refused(32500), (-32501, {}))
        for wrong in (None, "", 2, -1, "x", True, False, 1.0, [1]):
            self.assertEqual(await self.ann.refused(32500, status=wrong), (-32501, {}), wrong)


class AdminsOnlineTests(DeskCase):
    async def test_on_line(self) -> None:
        """Only colleagues on line, also suspended ones."""
        bob = await self.admin(name="Bob")
        await self.add_admin("Off")
        await self.admin(name="Eve", group=await self.add_group("second"))
        await bob.ok(32500, status=1)
        data = await self.ann.ok(33000)
        self.assertFields(data, {"admin_list"})
        for entry in data["admin_list"].values():
            self.assertFields(entry, ADMIN_ENTRY)
        found = {int(aix): (entry["status"], entry["guest_count"]) for aix, entry in data["admin_list"].items()}
        self.assertEqual(found, {self.ann.admin_id: (1, 1), bob.admin_id: (2, 0)})


class TakeTests(DeskCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        await self.ann.ok(32500, status=1)
        self.first, self.second = await self.guest("first"), await self.guest("second")
        for guest in (self.first, self.second):
            await guest.ok(22000)

    async def test_longest_waiting(self) -> None:
        """Without gid the head of the queue comes; a suspended admin may take; the guest is told."""
        phone = await self.admin(self.ann.admin_id)
        data = await self.ann.ok(32020)
        self.assertHanded(data)
        self.assertEqual((data["gid"], data["recs"]), (self.first.gid, {}))
        self.assertEqual(
            {name: data["data"][name] for name in ("from_aix", "to_aix", "note")},
            {"from_aix": None, "to_aix": self.ann.admin_id, "note": None},
        )
        for client in (self.ann, phone):
            self.assertEqual(await client.push(32401), data)
        self.assertEqual((await self.first.push(22099, state="serving"))["reason"], "assigned")

    async def test_picks(self) -> None:
        """With gid that guest comes, whatever the place."""
        self.assertEqual((await self.ann.ok(32020, gid=self.second.gid))["gid"], self.second.gid)
        self.assertEqual((await self.ann.ok(32020, gid=0))["gid"], self.first.gid)

    async def test_errors(self) -> None:
        """1 nobody waits, or not this guest · 2 taken, also by oneself · 3 full, in this order."""
        bob = await self.admin(name="Bob", capacity=0)
        await self.sql("UPDATE admin SET capacity = 1 WHERE id = %s", self.ann.admin_id)
        new = await self.guest("new")
        for gid in (new.gid, 10**15):
            self.assertEqual(await self.ann.refused(32020, gid=gid), (-32021, {}))
        self.assertEqual(await bob.refused(32020, gid=self.al.gid), (-32022, {"admin_id": self.ann.admin_id}))
        self.assertEqual(await self.ann.refused(32020, gid=self.al.gid), (-32022, {"admin_id": self.ann.admin_id}))
        self.assertEqual(await self.ann.refused(32020, gid=self.first.gid), (-32023, {}))
        self.assertEqual(await bob.refused(32020), (-32023, {}))
        self.assertEqual(await bob.refused(32020, gid="x"), (-9998, {"field": "gid"}))
        for guest in (self.first, self.second):
            await guest.ok(22060)
        self.assertEqual(await bob.refused(32020), (-32021, {}))


class EndTests(DeskCase):
    async def test_end(self) -> None:
        """The guest is told, all devices of the admin see it, and the place is free for who waits."""
        phone = await self.admin(self.ann.admin_id)
        await self.sql("UPDATE admin SET capacity = 1")
        waits = await self.guest("waits")
        await waits.ok(22000)
        data = await self.ann.ok(32060, gid=self.al.gid)
        self.assertFields(data, {"gid", "ended_at"})
        self.assertEqual(data["gid"], self.al.gid)
        told = await self.al.push(22099)
        self.assertEqual(told, {"state": "ended", "admin": None, "queue": None, "reason": "ended_by_admin"})
        for client in (self.ann, phone):
            entry = await client.push(32099, gid=self.al.gid, state="ended")
            self.assertFields(entry, GUEST_ENTRY)
            self.assertIsNone(entry["admin_id"])
        await self.ann.push(32401, gid=waits.gid)

    async def test_errors(self) -> None:
        """-32061 gid missing, -32062 not your guest: another's, ended, waiting, unknown."""
        for missing in MISSING:
            self.assertEqual(await self.ann.refused(32060, gid=missing), (-32061, {}))
        self.assertEqual(await self.ann.refused(32060, gid="x"), (-9998, {"field": "gid"}))
        bob = await self.admin(name="Bob")
        self.assertEqual(await bob.refused(32060, gid=self.al.gid), (-32062, {}))
        self.assertEqual(await self.ann.refused(32060, gid=10**15), (-32062, {}))
        await self.ann.ok(32060, gid=self.al.gid)
        self.assertEqual(await self.ann.refused(32060, gid=self.al.gid), (-32062, {}))
        await self.sql("UPDATE admin SET capacity = 0")
        waits = await self.guest("waits")
        await waits.ok(22000)
        self.assertEqual(await self.ann.refused(32060, gid=waits.gid), (-32062, {}))


class ToldTests(DeskCase):
    """2.4: who is told."""

    async def test_old_client(self) -> None:
        """A client that knows only the given document gets 32399, 32401 and 32402, whatever happens."""
        old = await self.admin(self.ann.admin_id, v=1)
        bob = await self.admin(name="Bob")
        await self.ann.ok(32200, gid=self.al.gid, group_id=self.group)
        await self.ann.ok(32300, gid=self.al.gid, msg="hi")
        await self.al.ok(22600, context={"title": "x"})
        await self.al.ok(22200)
        await self.al.ok(22300, msg="ho")
        await self.ann.ok(32400, gid=self.al.gid, aix=bob.admin_id)
        waits = await self.guest("waits")
        await waits.ok(22000)
        await self.ann.ok(32500, status=1)
        await self.ann.push(33099, status=2)
        await self.ann.ok(32500, status=0)
        await self.sql("UPDATE admin SET capacity = 0")
        late = await self.guest("late")
        await late.ok(22300, msg="?")
        await self.ann.push(32098, waiting=1)
        await self.ann.push(32099, gid=late.gid)
        self.assertLessEqual(GIVEN | {32299}, set(self.ann.numbers()))
        self.assertEqual(set(old.numbers()), GIVEN)

    async def test_messages_of_a_guest(self) -> None:
        """32399 goes to who serves, on all devices, with what is unread; to nobody else; no 32099 with it."""
        phone = await self.admin(self.ann.admin_id)
        bob = await self.admin(name="Bob")
        await self.ann.push(33099, aix=bob.admin_id)
        self.ann.told.clear()
        sent = await self.al.ok(22300, msg="two")
        for client in (self.ann, phone):
            data = await client.push(32399)
            self.assertEqual(data, {"gid": self.al.gid, "message_info": sent["message_info"], "unread": 2})
        await self.ann.ok(32500, status=1)
        await bob.push(33099, status=2)
        self.assertNotIn(32399, bob.numbers())
        self.assertNotIn(32099, self.ann.numbers())

    async def test_queue(self) -> None:
        """All admins of the group see the queue and its entries change; other groups do not."""
        eve = await self.admin(name="Eve", group=await self.add_group("second"))
        bob = await self.admin(name="Bob", capacity=0)
        await self.sql("UPDATE admin SET capacity = 0")
        waits = await self.guest("waits")
        await waits.ok(22000)
        for client in (self.ann, bob):
            data = await client.push(32098, waiting=1)
            self.assertFields(data, {"group_id", "waiting", "longest_wait_ms"})
            self.assertEqual(data["group_id"], self.group)
            entry = await client.push(32099, gid=waits.gid, state="queued")
            self.assertFields(entry, GUEST_ENTRY)
        sent = await waits.ok(22300, msg="anybody?")
        entry = await bob.push(32099, gid=waits.gid, last_seq=1)
        self.assertEqual(entry["last_message"], sent["message_info"])
        await waits.ok(22060)
        await bob.push(32098, waiting=0)
        await bob.push(32099, gid=waits.gid, state="ended")
        self.assertEqual(set(eve.numbers()) - {33099}, set())
        self.assertNotIn(32399, self.ann.numbers())

    async def test_taken_from_the_queue(self) -> None:
        """Who takes a guest gets 32401 and no 32099 for it; the colleagues get the 32099."""
        bob = await self.admin(name="Bob", capacity=0)
        await self.sql("UPDATE admin SET capacity = 0")
        waits = await self.guest("waits")
        await waits.ok(22000)
        await self.ann.push(32099, gid=waits.gid, state="queued")
        await self.sql("UPDATE admin SET capacity = 5 WHERE id = %s", self.ann.admin_id)
        await self.ann.ok(32020)
        await bob.push(32099, gid=waits.gid, state="serving")
        await self.ann.push(32401)
        await self.ann.push(32098, waiting=0)
        entries = [frame["data"]["state"] for frame in self.ann.told if frame["api_key"] == 32099]
        self.assertNotIn("serving", entries)

    async def test_loads(self) -> None:
        """Colleagues see how many guests each serves."""
        bob = await self.admin(name="Bob")
        await self.ann.push(33099, aix=bob.admin_id, guest_count=0)
        await self.served("his", bob)
        await self.ann.push(33099, aix=bob.admin_id, guest_count=1)
        await bob.push(33099, aix=bob.admin_id, guest_count=1)

    async def test_on_and_off_line(self) -> None:
        """Who serves sees the guest come on line, and go off line 10 s after the last connection went."""
        await self.al.leave()
        await self.sql("UPDATE session SET ended_at = ended_at - 11000 WHERE person_type = 1 AND ended_at IS NOT NULL")
        await self.ann.push(32099, gid=self.al.gid, online=False)
        await self.guest("al")
        await self.ann.push(32099, gid=self.al.gid, online=True)
