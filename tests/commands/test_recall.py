"""22310 and 32310 as both sides see them, with new and with old clients, on one node and on two."""

from __future__ import annotations

from typing import Any

from chatproto.config import load
from chatproto.errors import StorageError
from tests.commands.room import MESSAGE, Client, Frame, RoomCase
from tests.wire.samples import each


class RecallCase(RoomCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.ann = await self.admin()
        self.al = await self.guest("al")
        await self.al.ok(22000)
        await self.ann.push(32401)

    def assertGone(self, info: Frame, seq: int) -> None:
        """A message_info of what was recalled."""
        self.assertFields(info, MESSAGE | {"recalled"})
        self.assertEqual((info["seq"], info["msg"], info["file_type"], info["recalled"]), (seq, "", 0, True))

    def assertRecalls(self, info: Frame, seq: int, recalls: int) -> None:
        """A message_info of a recall."""
        self.assertFields(info, MESSAGE | {"recalls"})
        self.assertEqual((info["seq"], info["recalls"]), (seq, recalls))
        self.assertEqual((info["msg"], info["file_type"], info["cmid"]), ("", 0, None))

    async def beat(self, client: Client) -> None:
        """What was to come has come."""
        await client.reply(client.send(0, call_type=0))


class GuestTests(RecallCase):
    async def test_both_sides(self) -> None:
        """The message empties for the admin and on the guest's other tab, not with a push on the own one."""
        tab = await self.guest("al")
        sent = await self.al.ok(22300, msg="secret", cmid="c1")
        await self.ann.push(32399)
        await tab.push(22398)
        data = await self.al.ok(22310, seq=1)
        self.assertFields(data, {"message_info"})
        info = data["message_info"]
        self.assertRecalls(info, 2, 1)
        self.assertEqual(info["sender"], sent["message_info"]["sender"])
        self.assertEqual(await self.ann.push(32399), {"gid": self.al.gid, "message_info": info, "unread": 0})
        self.assertEqual(await tab.push(22398), {"message_info": info})
        await self.beat(self.al)
        self.assertNotIn(22398, self.al.numbers())

    async def test_history(self) -> None:
        """Who comes later, or asks for what is new, finds both in their places; nothing says what it was."""
        await self.al.ok(22300, msg="one")
        await self.al.ok(22300, msg={"url": "https://secret/1.png"}, file_type=1)
        await self.al.ok(22310, seq=2)
        await self.al.ok(22300, msg="three")
        for after, seqs in ((0, ["1", "2", "3", "4"]), (2, ["3", "4"])):
            for data in (
                await self.al.ok(22100, after_seq=after),
                await self.ann.ok(32100, gid=self.al.gid, group_id=self.group, after_seq=after),
            ):
                self.assertEqual(sorted(data["recs"]), seqs)
                self.assertNotIn("secret", str(data))
                self.assertRecalls(data["recs"]["3"], 3, 2)
                if after == 0:
                    self.assertGone(data["recs"]["2"], 2)
        late = await self.guest("al")
        self.assertEqual(sorted(late.welcome["recs"]), ["1", "2", "3", "4"])
        self.assertEqual(late.welcome["last_seq"], 4)

    async def test_again(self) -> None:
        """Recalling twice is answered alike, at once too, and told once."""
        await self.al.ok(22300, msg="one")
        requests = [self.al.send(22310, seq=1) for _ in range(3)]
        replies = [(await self.al.reply(request))["data"] for request in requests]
        self.assertEqual(replies[1:], replies[:1] * 2)
        self.assertEqual(await self.al.ok(22310, seq="1"), replies[0])
        await self.ann.push(32399)
        await self.ann.push(32399)
        await self.beat(self.ann)
        self.assertNotIn(32399, self.ann.numbers())

    async def test_right_behind_the_message(self) -> None:
        """A recall that is sent with the message, without waiting, finds it."""
        self.al.send(22300, msg="secret")
        reply = await self.al.reply(self.al.send(22310, seq=1))
        self.assertRecalls(reply["data"]["message_info"], 2, 1)

    async def test_resend(self) -> None:
        """A repeat of the message, as after a lost reply, does not bring it back."""
        await self.al.ok(22300, msg="secret", cmid="c1")
        await self.al.ok(22310, seq=1)
        self.ann.numbers()
        data = await self.al.ok(22300, msg="secret", cmid="c1")
        self.assertFields(data, {"message_info", "state", "queue", "dup"})
        self.assertGone(data["message_info"], 1)
        self.assertEqual((data["dup"], data["message_info"]["cmid"], data["state"]), (True, "c1", "serving"))
        await self.beat(self.ann)
        self.assertEqual(self.ann.numbers(), [])
        self.assertEqual(await self.sql("SELECT body FROM message ORDER BY seq"), [('""',), ('""',)])

    async def test_list(self) -> None:
        """The list of the admin shows the emptied message as the last one, and counts it no more."""
        await self.al.ok(22300, msg="one")
        await self.al.ok(22300, msg="secret")
        await self.al.ok(22310, seq=2)
        entry = (await self.ann.ok(32000))["guest_list"][str(self.al.gid)]
        self.assertGone(entry["last_message"], 2)
        self.assertEqual((entry["last_seq"], entry["unread"]), (3, 1))
        self.assertEqual(entry["last_time"], entry["last_message"]["created_at"])
        data = await self.ann.ok(32200, gid=self.al.gid, group_id=self.group)
        self.assertEqual((data["read_seq"], data["unread"]), (3, 0))

    async def test_waiting(self) -> None:
        """Of a guest who waits, all admins of the group see the message go."""
        await self.ann.ok(32500, status=1)
        mia = await self.guest("mia")
        await mia.ok(22300, msg="secret")
        await self.ann.push(32099, gid=mia.gid, last_seq=1)
        await mia.ok(22310, seq=1)
        entry = await self.ann.push(32099, gid=mia.gid, last_seq=2)
        self.assertGone(entry["last_message"], 1)

    async def test_errors(self) -> None:
        """Missing, wrong, not there, not yours, and a recall; each leaves everything as it was."""
        await self.al.ok(22300, msg="one")
        await self.ann.ok(32300, gid=self.al.gid, msg="two")
        await self.al.ok(22300, msg="three")
        await self.al.ok(22310, seq=3)
        for missing in ({}, {"seq": None}, {"seq": ""}):
            self.assertEqual(await self.al.refused(22310, **missing), (-22311, {}))
        for wrong in each(-1, "x", True, 1.5, []):
            self.assertEqual(await self.al.refused(22310, seq=wrong), (-9998, {"field": "seq"}))
        for seq in (0, 2, 4, 5, 2**60):
            self.assertEqual(await self.al.refused(22310, seq=seq), (-22312, {}))
        await self.sql("UPDATE message SET created_at = created_at - 120001")
        self.assertEqual(await self.al.refused(22310, seq=1), (-22313, {"within_ms": 120_000}))
        self.assertEqual(await self.al.code(22310, seq=3), 200)
        bodies = [body for (body,) in await self.sql("SELECT body FROM message ORDER BY seq")]
        self.assertEqual(bodies, ['"one"', '"two"', '""', '""'])

    async def test_of_others(self) -> None:
        """A guest's seq means the own conversation: another guest's message is out of reach."""
        mia = await self.guest("mia")
        await self.al.ok(22300, msg="one")
        self.assertEqual(await mia.code(22310, seq=1), -22312)
        self.assertEqual(await mia.code(22310, seq=1, gid=self.al.gid), -22312)
        self.assertEqual(await self.sql("SELECT body FROM message"), [('"one"',)])

    async def test_roles(self) -> None:
        """Each side has its own command."""
        self.assertEqual(await self.ann.code(22310, seq=1), -9994)
        self.assertEqual(await self.al.code(32310, gid=self.al.gid, seq=1), -9994)
        stranger = self.connect()
        self.assertEqual(await stranger.code(22310, seq=1), -9999)

    async def test_database_away(self) -> None:
        """Where it is not known what became of it, the client is told so, and asks again."""
        await self.al.ok(22300, msg="one")
        fetch = self.server.pool.fetch

        async def lost(sql: str, params: Any = ()) -> Any:
            rows = await fetch(sql, params)
            if "recall_message" in sql:
                raise StorageError("the connection was lost", applied=None)
            return rows

        self.patch(self.server.pool, "fetch", lost)
        code, data = await self.al.refused(22310, seq=1)
        self.assertEqual((code, data["outcome"]), (-9995, "unknown"))
        self.patch(self.server.pool, "fetch", fetch)
        self.assertRecalls((await self.al.ok(22310, seq=1))["message_info"], 2, 1)
        # Nobody has been told: the comparison finds it.
        await self.server.hub.compare()
        self.assertRecalls((await self.ann.push(32399, unread=0))["message_info"], 2, 1)


class AdminTests(RecallCase):
    async def test_both_sides(self) -> None:
        """The guest and the admin's other connection see it go, with what is unread."""
        phone = await self.admin(self.ann.admin_id)
        await self.ann.ok(32300, gid=self.al.gid, msg="one")
        await self.ann.ok(32300, gid=self.al.gid, msg="secret")
        for unread in (1, 2):
            await self.al.push(22399, unread=unread)
        await phone.push(32398)
        await phone.push(32398)
        data = await self.ann.ok(32310, gid=self.al.gid, seq=2)
        self.assertFields(data, {"gid", "message_info"})
        self.assertEqual(data["gid"], self.al.gid)
        self.assertRecalls(data["message_info"], 3, 2)
        self.assertEqual(await self.al.push(22399, unread=1), {"message_info": data["message_info"], "unread": 1})
        self.assertEqual(await phone.push(32398), {"gid": self.al.gid, "message_info": data["message_info"]})
        await self.beat(self.ann)
        self.assertNotIn(32398, self.ann.numbers())

    async def test_after_a_transfer(self) -> None:
        """Who wrote it can take it back when a colleague serves, and the colleague sees it go."""
        await self.ann.ok(32300, gid=self.al.gid, msg="secret")
        bob = await self.admin(name="Bob")
        await self.ann.ok(32400, gid=self.al.gid, aix=bob.admin_id)
        await bob.push(32401)
        self.assertEqual(await bob.code(32310, gid=self.al.gid, seq=1), -32313)
        info = (await self.ann.ok(32310, gid=self.al.gid, seq=1))["message_info"]
        self.assertEqual(await bob.push(32398), {"gid": self.al.gid, "message_info": info})
        self.assertEqual((await self.al.push(22399, unread=0))["message_info"], info)
        # And what came next finds everybody where they have to be.
        await self.al.ok(22300, msg="more")
        self.assertEqual((await bob.push(32399))["message_info"]["seq"], 3)

    async def test_errors(self) -> None:
        """The guest is missed first, then the seq; another group's guest is like none."""
        await self.ann.ok(32300, gid=self.al.gid, msg="one")
        await self.al.ok(22300, msg="two")
        self.assertEqual(await self.ann.refused(32310), (-32311, {}))
        self.assertEqual(await self.ann.refused(32310, gid=0, seq=1), (-32311, {}))
        self.assertEqual(await self.ann.refused(32310, gid=self.al.gid), (-32312, {}))
        self.assertEqual(await self.ann.refused(32310, gid=self.al.gid, seq=-1), (-9998, {"field": "seq"}))
        for gid, seq in ((self.al.gid, 2), (self.al.gid, 9), (2**40, 1)):
            self.assertEqual(await self.ann.refused(32310, gid=gid, seq=seq), (-32313, {}))
        eve = await self.admin(name="Eve", group=await self.add_group("other"))
        self.assertEqual(await eve.refused(32310, gid=self.al.gid, seq=1), (-32313, {}))
        await self.sql("UPDATE message SET created_at = created_at - 120001")
        self.assertEqual(await self.ann.refused(32310, gid=self.al.gid, seq=1), (-32314, {"within_ms": 120_000}))

    async def test_moved_to_another_group(self) -> None:
        """An admin who was moved does not reach what was written in the old group."""
        await self.ann.ok(32300, gid=self.al.gid, msg="one")
        await self.ann.leave()
        await self.sql("UPDATE admin SET group_id = %s WHERE id = %s", await self.add_group("other"), self.ann.admin_id)
        moved = await self.admin(self.ann.admin_id)
        self.assertEqual(await moved.code(32310, gid=self.al.gid, seq=1), -32313)


class OldClientTests(RecallCase):
    """Clients of the given document: ``v`` was not said."""

    async def test_told_nothing(self) -> None:
        """A recall is not pushed to it, and what comes next is."""
        old = await self.admin(self.ann.admin_id, v=1)
        await self.al.ok(22300, msg="secret")
        await old.push(32399)
        await self.al.ok(22310, seq=1)
        await self.ann.ok(32300, gid=self.al.gid, msg="two")
        await self.ann.ok(32310, gid=self.al.gid, seq=3)
        await self.al.ok(22300, msg="three")
        self.assertEqual((await old.push(32399))["message_info"]["msg"], "three")
        self.assertEqual(old.numbers(), [])

    async def test_finds_an_empty_text(self) -> None:
        """Wherever it looks, the message is a text without words, and the recall is nowhere."""
        await self.al.ok(22300, msg="one")
        await self.al.ok(22300, msg={"url": "https://secret/1.png"}, file_type=1)
        await self.al.ok(22310, seq=2)
        old = await self.admin(self.ann.admin_id, v=1)
        entry = old.welcome["guest_list"][str(self.al.gid)]
        self.assertGone(entry["last_message"], 2)
        self.assertEqual(entry["unread"], 1)
        page = await old.ok(32100, gid=self.al.gid, group_id=self.group)
        self.assertEqual(sorted(page["recs"]), ["1", "2"])
        self.assertGone(page["recs"]["2"], 2)
        self.assertEqual((page["total"], page["has_more"]), (3, False))
        new = await self.ann.ok(32100, gid=self.al.gid, group_id=self.group)
        self.assertEqual(sorted(new["recs"]), ["1", "2", "3"])

    async def test_pages(self) -> None:
        """Pages stay where they are: each message is on one of them, if fewer than were asked for."""
        for n in range(1, 7):
            await self.al.ok(22300, msg=f"text {n}")
        for seq in (2, 4, 6):
            await self.al.ok(22310, seq=seq)
        old = await self.admin(self.ann.admin_id, v=1)
        seen: list[list[str]] = []
        for page_index in (1, 2, 3):
            page = await old.ok(32100, gid=self.al.gid, group_id=self.group, page_index=page_index, page_size=4)
            seen.append(sorted(page["recs"]))
            self.assertEqual(page["has_more"], page_index < 3)
        self.assertEqual(seen, [["6"], ["2", "3", "4", "5"], ["1"]])

    async def test_handed_over(self) -> None:
        """At a transfer between old and new, each side has the messages as it knows them."""
        await self.al.ok(22300, msg="secret")
        await self.al.ok(22310, seq=1)
        bob = await self.admin(name="Bob", v=1)
        bobs_new = await self.admin(bob.admin_id)
        old_ann = await self.admin(self.ann.admin_id, v=1)
        handed = await self.ann.ok(32400, gid=self.al.gid, aix=bob.admin_id)
        for data, seqs in (
            (handed, ["1", "2"]),
            (await self.ann.push(32402), ["1", "2"]),
            (await old_ann.push(32402), ["1"]),
            (await bob.push(32401), ["1"]),
            (await bobs_new.push(32401), ["1", "2"]),
        ):
            self.assertHanded(data)
            self.assertEqual(sorted(data["recs"]), seqs)
            self.assertGone(data["recs"]["1"], 1)
        back = await bob.ok(32400, gid=self.al.gid, aix=self.ann.admin_id)
        self.assertEqual(sorted(back["recs"]), ["1"])
        for client in (bob, bobs_new, self.ann, old_ann):
            told = client.numbers()
            self.assertLessEqual(max(told.count(32401), told.count(32402)), 1)

    async def test_taken(self) -> None:
        """A guest who is taken from the queue comes without the recall, too."""
        await self.ann.ok(32500, status=1)
        mia = await self.guest("mia")
        await mia.ok(22300, msg="secret")
        await mia.ok(22310, seq=1)
        old = await self.admin(self.ann.admin_id, v=1)
        self.assertEqual(sorted((await old.ok(32020, gid=mia.gid))["recs"]), ["1"])
        self.assertEqual(sorted((await old.push(32401))["recs"]), ["1"])
        self.assertEqual(sorted((await self.ann.push(32401))["recs"]), ["1", "2"])

    async def test_may_recall(self) -> None:
        """It is asked what it asks: a client that knows the number, but said no ``v``, may recall."""
        old = await self.admin(self.ann.admin_id, v=1)
        await old.ok(32300, gid=self.al.gid, msg="one")
        self.assertRecalls((await old.ok(32310, gid=self.al.gid, seq=1))["message_info"], 2, 1)


class TwoNodesTests(RecallCase):
    """What was done on another node, without a bus between them, is found at the next comparison."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.other = await self.open()

    async def test_missed_recall(self) -> None:
        """A connection that has the message gets the recall, an old one nothing; both go on."""
        desk = await self.admin(self.ann.admin_id, server=self.other)
        old = await self.admin(self.ann.admin_id, v=1, server=self.other)
        await self.al.ok(22300, msg="secret")
        await self.other.hub.compare()
        self.assertEqual([(await client.push(32399))["message_info"]["msg"] for client in (desk, old)], ["secret"] * 2)
        info = (await self.al.ok(22310, seq=1))["message_info"]
        await self.other.hub.compare()
        self.assertEqual(await desk.push(32399), {"gid": self.al.gid, "message_info": info, "unread": 0})
        await self.al.ok(22300, msg="more")
        await self.other.hub.compare()
        for client in (desk, old):
            self.assertEqual((await client.push(32399))["message_info"]["msg"], "more")
            self.assertNotIn(32399, client.numbers())

    async def test_missed_both(self) -> None:
        """A connection that missed the message, too, gets both, emptied; an old one gets neither."""
        desk = await self.admin(self.ann.admin_id, server=self.other)
        old = await self.admin(self.ann.admin_id, v=1, server=self.other)
        await self.al.ok(22300, msg="secret")
        await self.al.ok(22310, seq=1)
        await self.other.hub.compare()
        self.assertGone((await desk.push(32399))["message_info"], 1)
        self.assertRecalls((await desk.push(32399))["message_info"], 2, 1)
        await self.beat(old)
        self.assertNotIn(32399, old.numbers())

    async def test_missed_by_the_guest(self) -> None:
        """The guest's tab on the other node misses nothing either."""
        tab = await self.guest("al", server=self.other)
        await self.ann.ok(32300, gid=self.al.gid, msg="secret")
        info = (await self.ann.ok(32310, gid=self.al.gid, seq=1))["message_info"]
        await self.other.hub.compare()
        self.assertGone((await tab.push(22399))["message_info"], 1)
        self.assertEqual(await tab.push(22399), {"message_info": info, "unread": 0})

    async def test_missed_arrival(self) -> None:
        """An admin to whom a guest came meanwhile has the recall with the guest, on an old client without it."""
        bob = await self.admin(name="Bob", server=self.other)
        old = await self.admin(bob.admin_id, v=1, server=self.other)
        await self.al.ok(22300, msg="secret")
        await self.al.ok(22310, seq=1)
        await self.ann.ok(32400, gid=self.al.gid, aix=bob.admin_id)
        await self.other.hub.compare()
        self.assertEqual(sorted((await bob.push(32401))["recs"]), ["1", "2"])
        self.assertEqual(sorted((await old.push(32401))["recs"]), ["1"])

    async def test_at_once(self) -> None:
        """Both tabs recall at the same moment on two nodes: one recall, one answer."""
        tab = await self.guest("al", server=self.other)
        await self.al.ok(22300, msg="secret")
        requests = self.al.send(22310, seq=1), tab.send(22310, seq=1)
        one, two = (await self.al.reply(requests[0]))["data"], (await tab.reply(requests[1]))["data"]
        self.assertEqual(one, two)
        self.assertEqual(await self.sql("SELECT count(*) FROM message WHERE recalls = 1"), [(1,)])


class ConfiguredTests(RecallCase):
    async def test_shorter(self) -> None:
        """The operator decides for how long; the client is told."""
        server = await self.open(recall_within=1.5)
        al = await self.guest("al", server=server)
        await al.ok(22300, msg="one")
        await self.sql("UPDATE message SET created_at = created_at - 1501")
        self.assertEqual(await al.refused(22310, seq=1), (-22313, {"within_ms": 1500}))

    async def test_never(self) -> None:
        """With 0 nobody recalls anything."""
        server = await self.open(recall_within=0)
        al = await self.guest("al", server=server)
        await al.ok(22300, msg="one")
        self.assertEqual(await al.refused(22310, seq=1), (-22313, {"within_ms": 0}))

    def test_default(self) -> None:
        """Without configuration it is two minutes."""
        self.assertEqual(load({}, {}, self.server.config.data).recall_within, 120)
