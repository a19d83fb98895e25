"""Recall and typing over real sockets: guest and admin, new and old clients, and two nodes."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import Deferred

from tests.integration.case import DaemonTestCase, all_of
from tests.integration.client import Client, Frame, same
from tests.integration.daemon import Daemon, token
from tests.integration.test_old_client import OldClient


def _is(seq: int, data: Frame) -> bool:
    return bool(data["message_info"]["seq"] == seq)


class RecallTests(DaemonTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice = self.daemon.add_admin(self.group_id, "Alice")

    async def talk(self) -> tuple[Client, Client]:
        """Alice and a guest whom she serves."""
        alice, guest = await self.admin(self.alice, "Alice"), await self.guest()
        await guest.good_request(22000)
        await alice.push(32401, same("gid", guest.gid))
        return alice, guest

    async def old(self) -> OldClient:
        client = OldClient()
        self.addCleanup(lambda: Deferred.fromCoroutine(client.drop()))
        await client.connect(self.daemon.port)
        client.data = await client.old_good(31000, token=token(admin_id=self.alice))
        return client

    async def test_both_ends(self) -> None:
        """Each side takes a message back; both ends show it at once, and it is nowhere in the database."""
        alice, guest = await self.talk()
        await guest.good_request(22300, msg="my password is hunter2", cmid="g1")
        await alice.good_request(32300, gid=guest.gid, msg="the code is 4711", cmid="a1")
        taken = await guest.good_request(22310, seq=1)
        told = await alice.push(32399, lambda data: "recalls" in data["message_info"])
        self.assertEqual(told, {"gid": guest.gid, "message_info": taken["message_info"], "unread": 0})
        taken = await alice.good_request(32310, gid=guest.gid, seq=2)
        self.assertEqual(taken["gid"], guest.gid)
        heard = await guest.push(22399, lambda data: "recalls" in data["message_info"])
        self.assertEqual(heard, {"message_info": taken["message_info"], "unread": 0})
        # Sent again after a lost reply: nothing comes back.
        for client, api_key, fields in (
            (guest, 22300, {"msg": "my password is hunter2", "cmid": "g1"}),
            (alice, 32300, {"gid": guest.gid, "msg": "the code is 4711", "cmid": "a1"}),
        ):
            repeated = await client.good_request(api_key, **fields)
            self.assertEqual((repeated["dup"], repeated["message_info"]["msg"]), (True, ""))
        [(where,)] = self.daemon.sql("SELECT id FROM conversation WHERE guest_id = %s", guest.gid)
        rows = self.daemon.sql(
            "SELECT seq, body, file_type, recalls, recalled_by FROM message WHERE conversation_id = %s ORDER BY seq",
            where,
        )
        self.assertEqual(
            rows, [(1, '""', 0, None, 3), (2, '""', 0, None, 4), (3, '""', 0, 1, None), (4, '""', 0, 2, None)]
        )
        # Whoever asks for what is new finds the same as who was told.
        for page in (
            await guest.good_request(22100, after_seq=0),
            await alice.good_request(32100, gid=guest.gid, group_id=self.group_id, after_seq=0),
        ):
            self.assertEqual(sorted(page["recs"]), ["1", "2", "3", "4"])
            self.assertEqual({info["msg"] for info in page["recs"].values()}, {""})
            self.assertEqual([seq for seq, info in page["recs"].items() if info.get("recalled")], ["1", "2"])

    async def test_an_old_client(self) -> None:
        """It is told nothing, goes on as before, and finds an empty text in the place of each."""
        new, guest = await self.talk()
        old = await self.old()
        await guest.good_request(22300, msg="one")
        await guest.good_request(22300, msg="secret")
        await old.push(32399)
        await old.push(32399)
        await guest.good_request(22310, seq=2)
        sent = await old.old_good(32300, gid=str(guest.gid), msg="a slip")
        await new.good_request(32310, gid=guest.gid, seq=sent["message_info"]["seq"])
        await guest.good_request(22300, msg="three")
        heard = await old.push(32399)
        self.assertEqual(heard["message_info"]["msg"], "three")
        await old.beat()
        self.assertEqual(old.inbox, [])
        page = await old.old_good(32100, gid=str(guest.gid), group_id=str(self.group_id))
        self.assertEqual(
            {int(seq): info["msg"] for seq, info in page["recs"].items()}, {1: "one", 2: "", 4: "", 6: "three"}
        )
        listed = await old.old_good(32000)
        self.assertEqual(listed["guest_list"][str(guest.gid)]["unread"], 2)
        bob = self.daemon.add_admin(self.group_id, "Bob")
        await self.admin(bob, "Bob")
        handed = await old.old_good(32400, gid=str(guest.gid), aix=str(bob))
        done = await old.push(32402)
        for data in (handed, done):
            self.assertEqual(sorted(map(int, data["recs"])), [1, 2, 4, 6])

    async def test_in_the_middle_of_a_conversation(self) -> None:
        """Both write and take back without waiting: in the end both have the same, without a gap."""
        alice, guest = await self.talk()
        asked = []
        for n in range(20):
            asked.append(guest.request(22300, msg=f"guest {n}", cmid=f"g{n}"))
            asked.append(alice.request(32300, gid=guest.gid, msg=f"alice {n}", cmid=f"a{n}"))
        sent = [reply["data"]["message_info"] for reply in await all_of(*asked)]
        mine = [info["seq"] for info in sent[::2]][::2], [info["seq"] for info in sent[1::2]][1::2]
        asked = [guest.request(22310, seq=seq) for seq in mine[0]]
        asked += [alice.request(32310, gid=guest.gid, seq=seq) for seq in mine[1]]
        asked += [guest.request(22300, msg="more") for _ in range(5)]
        told = [reply["data"]["message_info"]["seq"] for reply in await all_of(*asked)]
        last = 40 + 20 + 5
        of_alice, of_guest = told[10:20], told[:10] + told[20:]
        for client, numbers, newest in ((guest, (22398, 22399), max(of_alice)), (alice, (32398, 32399), max(of_guest))):
            own, other = numbers
            await client.push(other, partial(_is, newest))
            page = await client.good_request(
                *(22100 if client is guest else 32100,),
                **({} if client is guest else {"gid": guest.gid, "group_id": self.group_id}),
                after_seq=0,
                page_size=100,
            )
            self.assertEqual(sorted(map(int, page["recs"])), list(range(1, last + 1)))
            gone = {int(seq) for seq, info in page["recs"].items() if info.get("recalled")}
            self.assertEqual(gone, {*mine[0], *mine[1]})
            # What was pushed, and what a recall took away again, is what can be read.
            shown: dict[int, Frame] = {}
            for data in client.pushed(own, other):
                info = data["message_info"]
                shown[info["seq"]] = info
                if "recalls" in info and info["recalls"] in shown:
                    shown[info["recalls"]] = page["recs"][str(info["recalls"])]
            for seq, info in shown.items():
                self.assertEqual(info, page["recs"][str(seq)])

    async def test_typing(self) -> None:
        """Each side sees the other type; who must not see it does not, and nothing of it is stored."""
        alice, guest = await self.talk()
        old, tab = await self.old(), await self.guest("other")
        self.assertEqual(await guest.good_request(22330), {})
        told = await alice.push(32397)
        self.assertEqual(told, {"gid": guest.gid, "group_id": self.group_id, "typing": True})
        self.assertEqual(await alice.good_request(32330, gid=guest.gid, typing=True), {})
        self.assertEqual(await guest.push(22397), {"typing": True})
        self.assertEqual(await alice.code(32330, gid=tab.gid), -32332)
        for client in (old, tab, alice, guest):
            await client.beat()
            self.assertEqual([frame for frame in client.inbox if frame["api_key"] in (22397, 32397)], [])
        self.assertEqual(
            self.daemon.sql(
                "SELECT * FROM message m JOIN conversation c ON c.id = m.conversation_id WHERE c.guest_id = %s",
                guest.gid,
            ),
            [],
        )

    async def test_typing_fast(self) -> None:
        """However fast somebody types, all is answered, and not more than one a second is passed on."""
        alice, guest = await self.talk()
        replies = await all_of(*[guest.request(22330, typing=n % 2 == 0) for n in range(30)])
        self.assertEqual({reply["code"] for reply in replies}, {200})
        await alice.push(32397)
        await alice.good_request(33000)
        # The thirty may have crossed the edge of a second on a slow machine.
        self.assertLess(len(alice.pushed(32397)), 10)


class TwoNodesTests(DaemonTestCase):
    async def test_two_nodes(self) -> None:
        """Two daemons on one database: recalled through one, it is gone for who asks the other, and recalled once."""
        other = Daemon(*self.OPTIONS, database=self.daemon.dsn)
        self.addCleanup(lambda: Deferred.fromCoroutine(other.close()))
        await other.start()
        name = f"n{self.group_id}"
        here = await self.guest(token=token(sub=name))
        there = await self.client("there").guest(other.port, token=token(sub=name), group_id=self.group_id)
        await here.good_request(22300, msg="secret", cmid="c1")
        replies = await all_of(here.request(22310, seq=1), there.request(22310, seq=1))
        self.assertEqual(replies[0]["data"], replies[1]["data"])
        page = await there.good_request(22100, after_seq=0)
        self.assertEqual([info["msg"] for info in page["recs"].values()], ["", ""])
        repeated = await there.good_request(22300, msg="secret", cmid="c1")
        self.assertEqual((repeated["dup"], repeated["message_info"]["msg"]), (True, ""))
        await there.leave()
        self.assertEqual(await other.stop(), 0)
