"""What a guest may ask and is told: docs/protocol.md 2.2, every command with every error of its row."""

from __future__ import annotations

import json
from typing import Any

from chatproto.storage import history
from tests.commands.room import GUEST_ADMIN, GUEST_ENTRY, QUEUE, STANDING, Client, RoomCase, away

HOUR = 3_600_000


def seqs(data: dict[str, Any]) -> list[int]:
    return sorted(int(seq) for seq in data["recs"])


class GuestCase(RoomCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.al = await self.guest("al")

    async def served(self, **changes: Any) -> Client:
        """An admin who serves the guest."""
        ann = await self.admin(**changes)
        await self.al.ok(22000)
        await ann.push(32401)
        await self.al.push(22099)
        return ann

    async def rounds(self) -> None:
        """What one node does for all now and then."""
        for _ in range(5):
            self.server.announce(await self.server.node.look_after_cluster())


class StartTests(GuestCase):
    async def test_nobody_there(self) -> None:
        """Without an admin the guest waits, and sees the place."""
        data = await self.al.ok(22000)
        self.assertFields(data, STANDING)
        self.assertEqual(
            data, {"state": "queued", "admin": None, "queue": {"position": 1, "waiting": 1, "admins_online": 0}}
        )
        told = await self.al.push(22099)
        self.assertEqual(told, {**data, "reason": "started"})

    async def test_somebody_there(self) -> None:
        """An admin who can take gets the guest at once; both are told once, the guest only of the last step."""
        ann = await self.admin()
        tab = await self.guest("al")
        data = await self.al.ok(22000)
        self.assertFields(data["admin"], GUEST_ADMIN)
        self.assertEqual((data["state"], data["admin"]["aix"], data["queue"]), ("serving", ann.admin_id, None))
        for client in (self.al, tab):
            self.assertEqual(await client.push(22099), {**data, "reason": "assigned"})
        handed = await ann.push(32401)
        self.assertHanded(handed)
        self.assertNotIn(22099, self.al.numbers())
        self.assertNotIn(32401, ann.numbers())

    async def test_again(self) -> None:
        """Asking again answers the present state and changes nothing, also while the admin is gone."""
        first = await self.al.ok(22000)
        self.assertEqual(await self.al.ok(22000), first)
        ann = await self.admin()
        await self.al.push(22099, state="serving")
        self.al.told.clear()
        await ann.leave()
        self.assertEqual((await self.al.ok(22000))["state"], "serving")
        self.assertNotIn(22099, self.al.numbers())

    async def test_first_come_first_served(self) -> None:
        """Who waits longer comes first."""
        await self.al.ok(22000)
        others = [await self.guest() for _ in range(3)]
        for position, guest in enumerate(others, 2):
            self.assertEqual((await guest.ok(22000))["queue"]["position"], position)
        ann = await self.admin(capacity=2)
        self.assertEqual(ann.welcome["guest_list"].keys(), {str(g.gid) for g in (self.al, *others)})
        states = {gid: entry["state"] for gid, entry in ann.welcome["guest_list"].items()}
        self.assertEqual([states[str(g.gid)] for g in (self.al, *others)], ["serving"] * 2 + ["queued"] * 2)

    async def test_known_admin_first(self) -> None:
        """A guest comes to the admin who served last, if that one can take; else to who has the fewest guests."""
        ann = await self.served()
        await self.al.ok(22060)
        bob = await self.admin(name="Bob")
        for _ in range(2):
            other = await self.guest()
            await ann.ok(32300, gid=other.gid, msg="hi")
        data = await self.al.ok(22000)
        self.assertEqual(data["admin"]["aix"], ann.admin_id)
        await self.al.ok(22060)
        await ann.ok(32500, status=1)
        self.assertEqual((await self.al.ok(22000))["admin"]["aix"], bob.admin_id)


class EndTests(GuestCase):
    async def test_end(self) -> None:
        """The service ends, the admin and all tabs are told, and the admin is free for who waits."""
        ann = await self.served(capacity=1)
        tab, waits = await self.guest("al"), await self.guest()
        await waits.ok(22000)
        data = await self.al.ok(22060)
        self.assertFields(data, {"ended_at"})
        self.assertGreater(data["ended_at"], 1_700_000_000_000)
        for client in (self.al, tab):
            told = await client.push(22099)
            self.assertEqual(told, {"state": "ended", "admin": None, "queue": None, "reason": "ended_by_guest"})
        entry = await ann.push(32099, gid=self.al.gid, state="ended")
        self.assertFields(entry, GUEST_ENTRY)
        await ann.push(32401, gid=waits.gid)

    async def test_leaves_the_queue(self) -> None:
        """Who waits leaves the queue; the others move up."""
        behind = await self.guest()
        await self.al.ok(22000)
        self.assertEqual((await behind.ok(22000))["queue"]["position"], 2)
        await self.al.ok(22060)
        told = await behind.push(22098)
        self.assertEqual(told, {"queue": {"position": 1, "waiting": 1, "admins_online": 0}})

    async def test_nothing_to_end(self) -> None:
        """-22061 for a new guest and for one whose service has ended."""
        self.assertEqual(await self.al.refused(22060), (-22061, {}))
        await self.al.ok(22000)
        await self.al.ok(22060)
        self.assertEqual(await self.al.refused(22060), (-22061, {}))


class HistoryTests(GuestCase):
    async def test_pages(self) -> None:
        """The newest page, or the nearest to a seq on one side; page sizes above 100 count as 100."""
        ids = [self.al.send(22300, msg=f"m{n}") for n in range(1, 26)]
        for request_id in ids:
            await self.al.reply(request_id)
        for values, expected, more in (
            ({}, range(16, 26), True),
            ({"page_size": 0}, range(16, 26), True),
            ({"page_size": "3"}, range(23, 26), True),
            ({"page_size": 1000}, range(1, 26), False),
            ({"before_seq": 16}, range(6, 16), True),
            ({"before_seq": 11}, range(1, 11), False),
            ({"before_seq": 1}, range(0), False),
            ({"after_seq": 0}, range(1, 11), True),
            ({"after_seq": 15}, range(16, 26), False),
            ({"after_seq": 25}, range(0), False),
        ):
            data = await self.al.ok(22100, **values)
            self.assertFields(data, {"recs", "has_more", "last_seq"})
            self.assertEqual((seqs(data), data["has_more"]), (list(expected), more), values)
            self.assertEqual(data["last_seq"], 25)
        self.assertMessage((await self.al.ok(22100))["recs"]["25"])

    async def test_own_only(self) -> None:
        """A guest reads the own conversation, whatever gid is asked for."""
        await self.al.ok(22300, msg="secret")
        other = await self.guest()
        self.assertEqual(seqs(await other.ok(22100, gid=self.al.gid, group_id=self.group)), [])

    async def test_errors(self) -> None:
        """-9998 names what is wrong."""
        for field, wrong in (("page_size", -1), ("before_seq", "x"), ("after_seq", -1)):
            self.assertEqual(await self.al.refused(22100, **{field: wrong}), (-9998, {"field": field}))
        code, _ = await self.al.refused(22100, before_seq=5, after_seq=5)
        self.assertEqual(code, -9998)


class MarkReadTests(GuestCase):
    async def test_read(self) -> None:
        """The mark moves to a seq or the last message; the admin and all tabs are told, once."""
        ann = await self.served()
        tab = await self.guest("al")
        for n in range(3):
            await ann.ok(32300, gid=self.al.gid, msg=str(n))
        self.assertEqual(await self.al.ok(22200, seq=1), {"read_seq": 1, "unread": 2})
        for client in (self.al, tab):
            self.assertEqual(await client.push(22299), {"admin_read_seq": 0, "read_seq": 1, "unread": 2})
        told = await ann.push(32299)
        self.assertEqual(
            told, {"gid": self.al.gid, "group_id": self.group, "guest_read_seq": 1, "read_seq": 0, "unread": 0}
        )
        self.assertEqual(await self.al.ok(22200), {"read_seq": 3, "unread": 0})
        await tab.push(22299)
        for values in ({}, {"seq": 1}, {"seq": 99}, {"seq": 0}):
            self.assertEqual(await self.al.ok(22200, **values), {"read_seq": 3, "unread": 0})
        self.assertNotIn(22299, tab.numbers())

    async def test_without_messages(self) -> None:
        """Nothing to read is fine."""
        self.assertEqual(await self.al.ok(22200), {"read_seq": 0, "unread": 0})

    async def test_errors(self) -> None:
        """-9998 for what is no seq."""
        for wrong in (-1, "x", True):
            self.assertEqual(await self.al.refused(22200, seq=wrong), (-9998, {"field": "seq"}))


class SendTests(GuestCase):
    async def send(self, client: Client | None = None, **values: Any) -> dict[str, Any]:
        return await (client or self.al).ok(22300, **{"msg": "hi", **values})

    async def refusal(self, **values: Any) -> tuple[int, dict[str, Any]]:
        return await self.al.refused(22300, **{"msg": "hi", **values})

    async def test_served(self) -> None:
        """The admin gets the message, and so do the other tabs, but not the one that sent it."""
        ann = await self.served()
        tab = await self.guest("al")
        data = await self.send(cmid="m1")
        self.assertFields(data, {"message_info", "state", "queue"})
        info = data["message_info"]
        self.assertMessage(info)
        self.assertEqual((data["state"], data["queue"]), ("serving", None))
        self.assertEqual((info["seq"], info["msg"], info["file_type"], info["cmid"]), (1, "hi", 0, "m1"))
        self.assertEqual(info["sender"], {"type": "guest", "id": self.al.gid, "name": "", "avatar": ""})
        self.assertEqual(await ann.push(32399), {"gid": self.al.gid, "message_info": info, "unread": 1})
        self.assertEqual(await tab.push(22398), {"message_info": info})
        self.assertNotIn(22398, self.al.numbers())

    async def test_starts_service(self) -> None:
        """Who writes without a service starts one."""
        tab = await self.guest("al")
        data = await self.send()
        self.assertFields(data["queue"], QUEUE)
        self.assertEqual((data["state"], data["queue"]["position"]), ("queued", 1))
        await self.al.push(22099, state="queued")
        await tab.push(22398)
        ann = await self.admin()
        entry = ann.welcome["guest_list"][str(self.al.gid)]
        self.assertEqual((entry["state"], entry["unread"], entry["last_message"]["msg"]), ("serving", 1, "hi"))
        await ann.ok(32060, gid=self.al.gid)
        data = await self.send(msg="again")
        self.assertEqual((data["state"], data["message_info"]["seq"]), ("serving", 2))
        told = await ann.push(32401)
        await ann.push(32399, unread=2)
        self.assertEqual(told["data"]["from_aix"], None)

    async def test_waiting(self) -> None:
        """Each message of who waits says the place; the place does not change by writing."""
        first = await self.guest()
        await first.ok(22000)
        for seq in (1, 2):
            data = await self.send()
            self.assertEqual(data["queue"], {"position": 2, "waiting": 2, "admins_online": 0})
            self.assertEqual(data["message_info"]["seq"], seq)

    async def test_parameters(self) -> None:
        """-22302, -22303, -22304, and a cmid that is none."""
        for missing in (None, ""):
            self.assertEqual(await self.refusal(msg=missing), (-22302, {}))
        for unknown in (7, -1, "x", False):
            self.assertEqual(await self.refusal(file_type=unknown), (-22303, {}))
        for kind, wrong in ((0, {}), (0, "x" * 5001), (1, 5), (4, [1]), (6, {"url": "x" * 16384})):
            self.assertEqual(await self.refusal(file_type=kind, msg=wrong), (-22304, {}))
        for wrong in (5, "x" * 65):
            self.assertEqual(await self.refusal(cmid=wrong), (-9998, {"field": "cmid"}))
        self.assertEqual((await self.guest("al")).welcome["state"], "new")
        await self.send(file_type=1, msg={})

    async def test_as_it_came(self) -> None:
        """An object comes back exactly as it was sent."""
        ann = await self.served()
        raw = '{"url":"https://x.example/a.png",  "n": 1e2, "b": 1, "a": "\\u00e9"}'
        self.al.server.dispatch.text(self.al.state, f'{{"api_key": 22300, "file_type": 1, "msg": {raw}}}'.encode())
        told = await ann.push(32399)
        self.assertEqual(told["message_info"]["msg"], json.loads(raw))
        self.assertIn(f'"msg":{raw},'.encode(), ann.link.raw[-1])

    async def test_repeat(self) -> None:
        """A repeat gets the first message and does nothing, not even start a service."""
        ann = await self.served()
        first = await self.send(cmid="m")
        await ann.push(32399)
        self.assertEqual(await self.send(cmid="m"), {**first, "dup": True})
        await self.al.ok(22060)
        await self.al.push(22099)
        ann.told.clear()
        again = await self.send(cmid="m")
        self.assertEqual(again, {**first, "dup": True, "state": "ended"})
        self.assertNotIn(22099, self.al.numbers())
        self.assertEqual({32399, 32401} & set(ann.numbers()), set())

    async def test_repeats_of_the_first(self) -> None:
        """The first message sent twice at once, from two tabs, starts one service and is stored once."""
        ann = await self.admin()
        tab = await self.guest("al")
        ids = [(client, client.send(22300, msg="hi", cmid="m")) for client in (self.al, tab, self.al)]
        replies = [(await client.reply(request_id))["data"] for client, request_id in ids]
        self.assertEqual([data["message_info"]["seq"] for data in replies], [1, 1, 1])
        self.assertEqual(sum("dup" in data for data in replies), 2)
        await ann.push(32401)
        self.assertEqual(ann.numbers().count(32399), 1)

    async def test_clash(self) -> None:
        """-22307: the same cmid with anything else, also with what would be an error of its own."""
        await self.send(cmid="m")
        others: list[dict[str, Any]] = [{"msg": "ho"}, {"file_type": 1}, {"msg": "x" * 5001}, {"file_type": 9}]
        for other in (*others, {"msg": ""}, {"msg": {}}):
            self.assertEqual(await self.refusal(cmid="m", **other), (-22307, {}), other)
        await self.al.ok(22060)
        self.assertEqual(await self.refusal(cmid="m", msg="ho"), (-22307, {}))

    async def test_clash_with_one_under_way(self) -> None:
        """-22307 also when the first is sent right before and not stored yet, or starts the service."""
        await self.admin()
        others: list[dict[str, Any]] = [{}, {"msg": "hi", "file_type": 9}, {"msg": "x" * 5001}]
        for n, other in enumerate(others):
            first = self.al.send(22300, msg="hi", cmid=f"m{n}")
            second = self.al.send(22300, cmid=f"m{n}", **other)
            codes = [(await self.al.reply(request_id))["code"] for request_id in (first, second)]
            self.assertEqual(codes, [200, -22307], other)
        self.assertEqual((await self.al.ok(22100))["last_seq"], 3)

    async def test_wrong_and_new(self) -> None:
        """What is wrong is said where the cmid is new; it starts no service, and the cmid is free afterwards."""
        self.assertEqual(await self.refusal(cmid="m", msg=None), (-22302, {}))
        self.assertEqual(await self.refusal(cmid="m", file_type=9), (-22303, {}))
        self.assertEqual((await self.guest("al")).welcome["state"], "new")
        self.assertNotIn("dup", await self.send(cmid="m"))

    async def test_place_unknown(self) -> None:
        """Where the place cannot be read, the message of who waits stands all the same."""
        await self.send()
        self.patch(history, "queue_place", away)
        data = await self.send(cmid="m")
        self.assertEqual((data["state"], data["queue"], data["message_info"]["seq"]), ("queued", None, 2))
        self.assertEqual((await self.send(cmid="m"))["dup"], True)

    async def test_order(self) -> None:
        """What is sent without waiting, the first of it starting the service, keeps its order."""
        ann = await self.admin()
        ids = [self.al.send(22300, msg=f"m{n}") for n in range(60)]
        for n, request_id in enumerate(ids, 1):
            self.assertEqual((await self.al.reply(request_id))["data"]["message_info"]["seq"], n)
        told = [(await ann.push(32399))["message_info"]["msg"] for _ in ids]
        self.assertEqual(told, [f"m{n}" for n in range(60)])

    async def test_two_conversations(self) -> None:
        """A customer of two groups has two conversations that know nothing of each other."""
        other = await self.add_group("second")
        there = await self.guest("al", group_id=other)
        self.assertEqual(there.gid, self.al.gid)
        await self.send()
        data = await there.ok(22100)
        self.assertEqual((data["last_seq"], there.numbers()), (0, []))
        self.assertEqual((await self.send(there))["message_info"]["group_id"], other)

    async def test_banned(self) -> None:
        """Whoever was banned meanwhile has to log in again."""
        await self.served()
        await self.sql("UPDATE guest SET status = 'banned'")
        self.assertEqual(await self.refusal(), (-9999, {}))


class ContextTests(GuestCase):
    async def test_served(self) -> None:
        """The admin sees where the guest is, with the fields as they were sent."""
        ann = await self.served()
        context = {"page_url": "https://shop.example/2", "title": "Two", "product": {"id": 5}, "own": [1, None]}
        self.assertEqual(await self.al.ok(22600, context=context), {})
        entry = await ann.push(32099)
        self.assertFields(entry, GUEST_ENTRY)
        self.assertEqual((entry["gid"], entry["context"]), (self.al.gid, context))

    async def test_not_read_again(self) -> None:
        """A context that stands is no failure because it cannot be told; it shows with the next step."""
        ann = await self.served()
        read = history.of_guest
        self.patch(history, "of_guest", away)
        self.assertEqual(await self.al.ok(22600, context={"title": "x"}), {})
        self.patch(history, "of_guest", read)
        await self.al.ok(22060)
        self.assertEqual((await ann.push(32099, state="ended"))["context"], {"title": "x"})

    async def test_waiting(self) -> None:
        """While the guest waits, all admins of the group see it."""
        ann = await self.admin(capacity=0)
        await self.al.ok(22000)
        await ann.push(32099, state="queued")
        await self.al.ok(22600, context={"title": "x"})
        self.assertEqual((await ann.push(32099))["context"], {"title": "x"})

    async def test_errors(self) -> None:
        """-9998 for none, and for what is none."""
        url = "https://shop.example/"
        wrong: Any
        for wrong in (
            None,
            "x",
            [],
            {"page_url": 5},
            {"page_url": url + "x" * 2048},
            {"referrer": url + "x" * 2048},
            {"title": {}},
            {"product": "x"},
            {"order": 5},
            {"title": "x" * 4097},
        ):
            self.assertEqual(await self.al.refused(22600, context=wrong), (-9998, {"field": "context"}), wrong)
        await self.al.ok(22600, context={})


class RateTests(GuestCase):
    async def answered(self) -> Client:
        """A service in which an admin wrote."""
        ann = await self.served()
        await ann.ok(32300, gid=self.al.gid, msg="hi")
        return ann

    async def scores(self) -> list[tuple[Any, ...]]:
        return await self.sql("SELECT score, score_text FROM service ORDER BY id")

    async def test_going_on(self) -> None:
        """A service in which an admin wrote can be rated while it goes on, once."""
        await self.answered()
        self.assertEqual(await self.al.ok(22650, score=5, text="thanks"), {})
        self.assertEqual(await self.scores(), [(5, "thanks")])
        self.assertEqual(await self.al.refused(22650, score=4), (-22653, {}))
        self.assertEqual(await self.scores(), [(5, "thanks")])

    async def test_ended(self) -> None:
        """And within 24 h after its end."""
        await self.answered()
        await self.al.ok(22060)
        await self.sql("UPDATE service SET ended_at = ended_at - %s", 24 * HOUR - 60_000)
        await self.al.ok(22650, score="1")
        self.assertEqual(await self.scores(), [(1, None)])

    async def test_too_late(self) -> None:
        """-22652 later than that."""
        await self.answered()
        await self.al.ok(22060)
        await self.sql("UPDATE service SET ended_at = ended_at - %s", 24 * HOUR)
        self.assertEqual(await self.al.refused(22650, score=5), (-22652, {}))

    async def test_nothing(self) -> None:
        """-22652 without a service, and where no admin wrote in one."""
        self.assertEqual(await self.al.refused(22650, score=5), (-22652, {}))
        await self.served()
        await self.al.ok(22300, msg="hello")
        self.assertEqual(await self.al.refused(22650, score=5), (-22652, {}))

    async def test_newest_such_one(self) -> None:
        """It rates the newest service in which an admin wrote, also when a newer one has no answer yet."""
        ann = await self.answered()
        await self.al.ok(22060)
        await self.al.ok(22300, msg="one more thing")
        await self.al.ok(22650, score=3)
        self.assertEqual(await self.scores(), [(3, None), (None, None)])
        self.assertEqual(await self.al.refused(22650, score=3), (-22653, {}))
        await ann.ok(32300, gid=self.al.gid, msg="yes?")
        await self.al.ok(22650, score=4)
        self.assertEqual(await self.scores(), [(3, None), (4, None)])

    async def test_written_between(self) -> None:
        """What an admin wrote to an ended guest belongs to no service; the answer to it starts one without."""
        ann = await self.served()
        await self.al.ok(22060)
        await ann.ok(32300, gid=self.al.gid, msg="by the way")
        self.assertEqual(await self.al.refused(22650, score=5), (-22652, {}))
        await self.al.ok(22300, msg="yes?")
        self.assertEqual(await self.al.refused(22650, score=5), (-22652, {}))

    async def test_parameters(self) -> None:
        """-22651 for a score that is none, -9998 for a text that is too long."""
        await self.answered()
        for wrong in (None, "", 0, 6, "x", 4.5, True):
            self.assertEqual(await self.al.refused(22650, score=wrong), (-22651, {}), wrong)
        for text in (5, "x" * 501):
            self.assertEqual(await self.al.refused(22650, score=5, text=text), (-9998, {"field": "text"}))
        await self.al.ok(22650, score=5, text="😀" * 500)


class ToldTests(GuestCase):
    """2.4: who is told, and of what."""

    async def test_places(self) -> None:
        """Who waits sees the place when it changes, and when an admin comes or goes."""
        await self.al.ok(22000)
        second, third = await self.guest(), await self.guest()
        await second.ok(22000)
        told = await self.al.push(22098, queue={"position": 1, "waiting": 2, "admins_online": 0})
        self.assertFields(told, {"queue"})
        self.assertFields(told["queue"], QUEUE)
        await third.ok(22000)
        await third.push(22099, queue={"position": 3, "waiting": 3, "admins_online": 0})
        await second.push(22098, queue={"position": 2, "waiting": 3, "admins_online": 0})
        ann = await self.admin(capacity=0)
        # Their own first places came with 22099, and are not told again.
        told = await third.push(22098)
        self.assertEqual(told, {"queue": {"position": 3, "waiting": 3, "admins_online": 1}})
        await ann.ok(32500, status=1)
        await self.sql("UPDATE admin SET capacity = 1")
        await ann.ok(32020)
        await self.al.push(22099, state="serving")
        await second.push(22098, queue={"position": 1, "waiting": 2, "admins_online": 1})
        await third.push(22098, queue={"position": 2, "waiting": 2, "admins_online": 1})
        await ann.leave()
        await third.push(22098, queue={"position": 2, "waiting": 2, "admins_online": 0})

    async def test_tabs_in_step(self) -> None:
        """Every tab shows the same, whichever was used."""
        ann = await self.served()
        tab = await self.guest("al")
        sent = [await self.al.ok(22300, msg="from one"), await tab.ok(22300, msg="from the other")]
        self.assertEqual((await tab.push(22398))["message_info"], sent[0]["message_info"])
        self.assertEqual((await self.al.push(22398))["message_info"], sent[1]["message_info"])
        answer = (await ann.ok(32300, gid=self.al.gid, msg="hi"))["message_info"]
        for client in (self.al, tab):
            self.assertEqual(await client.push(22399), {"message_info": answer, "unread": 1})
        await tab.ok(22200)
        for client in (self.al, tab):
            await client.push(22299, unread=0)
        await tab.ok(22060)
        for client in (self.al, tab):
            await client.push(22099, reason="ended_by_guest")
            self.assertEqual(client.numbers(), [])

    async def test_admin_lost(self) -> None:
        """45 s after the admin's last connection went, who wrote last heads the queue; others see nothing."""
        ann = await self.served()
        quiet = await self.guest("quiet")
        await quiet.ok(22000)
        await quiet.push(22099)
        await self.al.ok(22300, msg="are you there?")
        await ann.leave()
        await self.rounds()
        self.assertNotIn(22099, self.al.numbers())
        later = await self.guest("later")
        await later.ok(22000)
        await self.sql("UPDATE session SET ended_at = ended_at - 46000 WHERE person_type = 3")
        await self.rounds()
        # The server has just started: the time counts from there.
        self.assertNotIn(22099, self.al.numbers())
        await self.sql("UPDATE node SET started_at = started_at - 46000")
        await self.rounds()
        told = await self.al.push(22099)
        self.assertEqual((told["state"], told["reason"], told["queue"]["position"]), ("queued", "admin_lost", 1))
        self.assertEqual((await quiet.ok(22000))["state"], "serving")
        self.assertNotIn(22099, quiet.numbers())
        bob = await self.admin(name="Bob")
        await self.al.push(22099, state="serving")
        data = await quiet.ok(22300, msg="hello?")
        self.assertEqual(data["state"], "serving")
        self.assertEqual((await quiet.push(22099))["admin"]["aix"], bob.admin_id)

    async def test_comes_back(self) -> None:
        """An admin who comes back within 45 s goes on as if nothing had been."""
        ann = await self.served()
        await self.al.ok(22300, msg="are you there?")
        await ann.leave()
        back = await self.admin(ann.admin_id)
        self.assertEqual(back.welcome["guest_list"][str(self.al.gid)]["state"], "serving")
        await self.rounds()
        await self.al.ok(22300, msg="still")
        await back.push(32399)
        self.assertNotIn(22099, self.al.numbers())

    async def test_timeout(self) -> None:
        """After 30 min of silence a service ends by itself, unless the guest wrote last."""
        ann = await self.served()
        other = await self.guest("other")
        await other.ok(22300, msg="hello")
        await ann.ok(32300, gid=self.al.gid, msg="anything else?")
        await self.al.push(22399)
        await self.sql("UPDATE conversation SET last_message_at = last_message_at - %s", HOUR // 2 + 1000)
        await self.sql("UPDATE service SET started_at = started_at - %s", HOUR)
        await self.rounds()
        told = await self.al.push(22099)
        self.assertEqual(told, {"state": "ended", "admin": None, "queue": None, "reason": "timeout"})
        await ann.push(32099, gid=self.al.gid, state="ended")
        self.assertEqual((await other.ok(22000))["state"], "serving")

    async def test_leaves_the_queue(self) -> None:
        """Who waits without having written and is off line for 10 min leaves the queue; who has written stays."""
        wrote = await self.guest("wrote")
        await self.al.ok(22000)
        await wrote.ok(22300, msg="hello")
        await self.al.leave()
        await wrote.leave()
        await self.sql("UPDATE session SET ended_at = ended_at - 601000")
        await self.sql("UPDATE service SET started_at = started_at - 601000")
        await self.rounds()
        self.assertEqual((await self.guest("al")).welcome["state"], "ended")
        self.assertEqual((await self.guest("wrote")).welcome["queue"]["position"], 1)
