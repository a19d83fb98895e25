"""Two admins and three guests talk, over real sockets, with a real daemon."""

from __future__ import annotations

import json

from tests.integration.case import DaemonTestCase, all_of
from tests.integration.client import Client, same
from tests.integration.daemon import token

# One of every kind, those that are no text in forms that a careless server would write anew: white space, numbers,
# the order of keys, escapes, keys given twice.
BODIES = (
    (0, '"hello, 你好 😀 / \\"quoted\\"\\n"'),
    (1, '{ "url" : "https://img.example/1.png" ,\t"width":640.0, "height" : 4.80e2 }'),
    (2, '{"duration_ms":1E3,"url":"https://a.example/v.ogg"}'),
    (3, '{"z":1,"a":2,"price":19.90,"id":"0007","title":"Red  shoe","nested":[ 1 , [ ] , { } , null ]}'),
    (4, '{"id":123456789012345678901234567890,"total":-0.0,"items":[{"n":1e-7}]}'),
    (5, '"https://v.example/clip.mp4"'),
    (6, '{"url":"https://f.example/\\u0061.pdf","name":"a.pdf","size":1.50,"name":"b.pdf"}'),
)


def body_of(raw: bytes) -> str:
    """The bytes of ``msg`` in a frame, as they are: it stands between ``"msg":`` and ``,"file_type":``."""
    text = raw.decode()
    return text[text.index('"msg":') + 6 : text.index(',"file_type":')]


def raw_push(client: Client, number: int) -> str:
    [raw] = [raw for frame, raw in zip(client.frames, client.raw, strict=True) if frame["api_key"] == number]
    return body_of(raw)


class ConversationTests(DaemonTestCase):
    async def test_several_talk_at_once(self) -> None:
        """Three guests reach two admins, each one admin, and everybody sees only the own conversation."""
        ids = [self.daemon.add_admin(self.group_id, name) for name in ("Alice", "Bob")]
        admins = {admin_id: await self.admin(admin_id, f"admin {admin_id}") for admin_id in ids}
        guests = [await self.guest(f"guest {n}", token=token(sub=f"c{self.group_id}-{n}", name=n)) for n in "xyz"]
        for guest in guests:
            sent = await guest.good_request(22300, msg=f"I am {guest.gid}", cmid="hello")
            self.assertEqual((sent["state"], sent["message_info"]["seq"]), ("serving", 1))
        owners = {}
        for guest in guests:
            state = await guest.push(22099)
            self.assertEqual(state["state"], "serving")
            owners[guest.gid] = state["admin"]["aix"]
        # The one with the fewest guests gets the next.
        self.assertEqual(sorted(list(owners.values()).count(admin_id) for admin_id in ids), [1, 2])
        for guest in guests:
            admin = admins[owners[guest.gid]]
            arrived = await admin.push(32401, same("gid", guest.gid))
            self.assertIsNone(arrived["data"]["from_aix"])
            await admin.push(32399, same("gid", guest.gid))
            answered = await admin.good_request(32300, gid=guest.gid, msg=f"Hello {guest.gid}", cmid="hello")
            self.assertEqual(answered["message_info"]["seq"], 2)
            heard = await guest.push(22399)
            self.assertEqual(heard["message_info"], answered["message_info"])
            self.assertEqual(heard["unread"], 1)
        for guest in guests:
            self.assertEqual([data["message_info"]["gid"] for data in guest.pushed(22399)], [guest.gid])
            other = next(admins[admin_id] for admin_id in ids if admin_id != owners[guest.gid])
            self.assertNotIn(guest.gid, [data["gid"] for data in other.pushed(32399, 32401)])

    async def test_every_kind_comes_back_exactly_as_sent(self) -> None:
        """What a client sent of each of the seven kinds reaches the other side, and the history, byte by byte."""
        admin_id = self.daemon.add_admin(self.group_id, "Alice")
        admin, guest = await self.admin(admin_id), await self.guest()
        await guest.good_request(22000)
        await admin.push(32401)
        seq = 0
        for kind, body in BODIES:
            for sender, receiver, head, number in (
                (guest, admin, '"api_key":22300', 32399),
                (admin, guest, f'"api_key":32300,"gid":{guest.gid}', 22399),
            ):
                seq += 1
                tag = f"{number}-{kind}"
                frame = f'{{{head},"request_id":"{tag}", "file_type":{kind},"msg" : {body} }}'
                reply = await sender.ask(frame, int(head[10:15]), tag)
                self.assertEqual(reply["code"], 200, reply)
                self.assertEqual(body_of(sender.raw[sender.frames.index(reply)]), body)
                self.assertEqual((await receiver.push(number))["message_info"]["seq"], seq)
                pushes = [
                    raw
                    for pushed, raw in zip(receiver.frames, receiver.raw, strict=True)
                    if pushed["api_key"] == number and pushed["data"]["message_info"]["seq"] == seq
                ]
                self.assertEqual([body_of(raw) for raw in pushes], [body])
                [(stored,)] = self.daemon.sql(
                    "SELECT m.body FROM message m JOIN conversation c ON c.id = m.conversation_id"
                    " WHERE c.guest_id = %s AND m.seq = %s",
                    guest.gid,
                    seq,
                )
                self.assertEqual(stored, body)
        for reader, api_key, fields in (
            (guest, 22100, {"after_seq": 0, "page_size": 100}),
            (admin, 32100, {"gid": guest.gid, "group_id": self.group_id, "page_size": 100}),
        ):
            reply = await reader.request(api_key, **fields)
            text = reader.raw[reader.frames.index(reply)].decode().partition('"recs":')[2]
            for _, body in BODIES:
                self.assertEqual(text.count(f'"msg":{body},"file_type"'), 2, body)

    async def test_bodies_keep_their_meaning(self) -> None:
        """A client with any JSON library reads what the other side meant."""
        admin_id = self.daemon.add_admin(self.group_id, "Alice")
        admin, guest = await self.admin(admin_id), await self.guest()
        for kind, body in BODIES:
            sent = await guest.good_request(22300, msg=json.loads(body), file_type=kind)
            pushed = await admin.push(32399)
            self.assertEqual(pushed["message_info"], sent["message_info"])
            self.assertEqual(pushed["message_info"]["msg"], json.loads(body))
            self.assertEqual(pushed["message_info"]["file_type"], kind)

    async def test_text_may_be_escaped(self) -> None:
        """However a client writes a text in JSON, the other side reads the same characters."""
        self.daemon.add_admin(self.group_id, "Alice")
        guest = await self.guest()
        frame = '{"api_key":22300,"request_id":"x","msg":"\\u4f60\\ud83d\\ude00\\/\\t\\"","file_type":"0"}'
        reply = await guest.ask(frame, 22300, "x")
        self.assertEqual(reply["data"]["message_info"]["msg"], '你😀/\t"')
        self.assertEqual((await guest.good_request(22300, msg=-12.50))["message_info"]["msg"], "-12.5")

    async def test_read_marks_go_both_ways(self) -> None:
        """Each side sees how far the other has read, and how much is unread without counting."""
        admin_id = self.daemon.add_admin(self.group_id, "Alice")
        admin, guest = await self.admin(admin_id), await self.guest()
        for n in range(3):
            await guest.good_request(22300, msg=f"{n}")
        self.assertEqual([(await admin.push(32399))["unread"] for _ in range(3)], [1, 2, 3])
        marked = await admin.good_request(32200, gid=guest.gid, group_id=self.group_id, seq=2)
        self.assertEqual((marked["read_seq"], marked["unread"]), (2, 1))
        self.assertEqual((await guest.push(22299))["admin_read_seq"], 2)
        marked = await admin.good_request(32200, gid=guest.gid, group_id=self.group_id)
        self.assertEqual((marked["read_seq"], marked["unread"]), (3, 0))
        await admin.good_request(32300, gid=guest.gid, msg="yes")
        self.assertEqual((await guest.push(22399))["unread"], 1)
        self.assertEqual(await guest.good_request(22200), {"read_seq": 4, "unread": 0})
        self.assertEqual((await admin.push(32299, lambda data: data["guest_read_seq"] == 4))["unread"], 0)
        entry = (await admin.good_request(32000))["guest_list"][str(guest.gid)]
        self.assertEqual((entry["unread"], entry["read_seq"], entry["guest_read_seq"]), (0, 3, 4))

    async def test_tabs_and_devices_see_each_other(self) -> None:
        """What is sent on one connection appears on the same person's others, once, and not on itself."""
        admin_id = self.daemon.add_admin(self.group_id, "Alice")
        phone, desk = await self.admin(admin_id, "phone"), await self.admin(admin_id, "desk")
        tab = await self.guest("tab")
        other = await self.guest("other tab", guest_token=tab.data["guest_token"])
        self.assertEqual(other.gid, tab.gid)
        sent = await tab.good_request(22300, msg="hello")
        self.assertEqual((await other.push(22398))["message_info"], sent["message_info"])
        for device in (phone, desk):
            await device.push(32401)
            await device.push(32399)
        answered = await phone.good_request(32300, gid=tab.gid, msg="hi")
        self.assertEqual((await desk.push(32398))["message_info"], answered["message_info"])
        for one in (tab, other):
            await one.push(22399)
        await all_of(phone.beat(), tab.beat())
        self.assertEqual(phone.pushed(32398), [])
        self.assertEqual(tab.pushed(22398), [])

    async def test_a_repeat_is_stored_once(self) -> None:
        """A message that is sent again with its cmid is the same message, also long afterwards and in a flood."""
        admin_id = self.daemon.add_admin(self.group_id, "Alice")
        admin, guest = await self.admin(admin_id), await self.guest()
        replies = await all_of(*(guest.request(22300, msg="once", cmid="same") for _ in range(20)))
        self.assertEqual({reply["data"]["message_info"]["seq"] for reply in replies}, {1})
        self.assertEqual([reply["data"].get("dup", False) for reply in replies], [False] + [True] * 19)
        self.assertEqual(await guest.code(22300, msg="other", cmid="same"), -22307)
        self.assertEqual(await guest.code(22300, msg="", cmid="same"), -22307)
        await guest.good_request(22060)
        again = await guest.good_request(22300, msg="once", cmid="same")
        self.assertTrue(again["dup"])
        self.assertEqual((await guest.good_request(22000))["state"], "serving")
        await admin.beat()
        self.assertEqual(len(admin.pushed(32399)), 1)

    async def test_a_rating_and_the_page_the_guest_is_on(self) -> None:
        """The admin sees where the guest is; the guest rates a service once, when an admin has written in it."""
        admin_id = self.daemon.add_admin(self.group_id, "Alice")
        admin, guest = await self.admin(admin_id), await self.guest(context={"page_url": "https://shop.example/1"})
        self.assertEqual(await guest.code(22650, score=5), -22652)
        await guest.good_request(22300, msg="hello")
        arrived = await admin.push(32401)
        self.assertEqual(arrived["guest_info"]["context"], {"page_url": "https://shop.example/1"})
        await guest.good_request(22600, context={"page_url": "https://shop.example/2"})
        moved = await admin.push(32099, lambda data: data["context"].get("page_url") == "https://shop.example/2")
        self.assertEqual(moved["gid"], guest.gid)
        await admin.good_request(32300, gid=guest.gid, msg="hi")
        self.assertEqual(await guest.code(22650, score=6), -22651)
        self.assertEqual(await guest.code(22650, score=5, text="good"), 200)
        self.assertEqual(await guest.code(22650, score=4), -22653)
