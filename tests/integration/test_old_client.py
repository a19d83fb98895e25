"""A client that knows the given document alone lives its whole day without meeting anything unknown to it."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from tests.integration.case import DaemonTestCase
from tests.integration.client import Client, Frame, same
from tests.integration.daemon import eventually, token

FIELDS = {
    31000: {"ix", "admin_list", "guest_list", "is_refresh", "refresh_token"},
    32000: {"ix", "admin_list", "guest_list", "is_refresh", "refresh_token"},
    32100: {"ix", "admin_list", "guest_list", "is_refresh", "refresh_token"},
    32200: {"group_id", "gid"},
    32300: {"gid", "message_info"},
    32400: {"gid", "data", "guest_info", "recs"},
    32500: set(),
    33000: set(),
    32399: {"gid", "message_info"},
    32401: {"gid", "data", "guest_info", "recs"},
    32402: {"gid", "data", "guest_info", "recs"},
}
"""What the document says is in ``data``."""
OBJECTS = {"admin_list", "guest_list", "message_info", "data", "guest_info", "recs"}
STRINGS = {"ix", "refresh_token"}

WORDS = {
    -9999: "需要重新登录",
    -31001: "解析token失败",
    -31002: "管理员admin_id不存在",
    -31003: "管理员被禁止登录或不存在",
    -31004: "客服组被禁止或不存在",
    -32101: "gid not null",
    -32102: "group_id not null",
    -32201: "gid not null",
    -32202: "group_id not null",
    -32301: "gid not null",
    -32302: "msg not null",
    -32403: "gid not null",
    -32404: "aix not null",
}
"""The document's error codes, with its words."""


class OldClient(Client):
    """Sends what the document shows and nothing else, ids as strings; what it gets, the document must have."""

    def __init__(self, name: str = "old client") -> None:
        super().__init__(name, tagged=False)

    def old(self, api_key: int, **fields: Any) -> Deferred[Frame]:
        return self.ask(json.dumps({"api_key": api_key, "call_type": 3, **fields}), api_key)

    async def old_good(self, api_key: int, **fields: Any) -> Frame:
        return self.good(await self.old(api_key, **fields))

    def _received(self, payload: bytes, binary: bool) -> None:
        self.check(json.loads(payload))
        super()._received(payload, binary)

    def check(self, frame: Frame) -> None:
        """:raises AssertionError: the document does not have this frame."""
        number, code, data = frame["api_key"], frame["code"], frame["data"]
        assert set(frame) == {"api_key", "data", "code", "message", "status"}, frame
        assert isinstance(data, dict), frame
        if number == 0:
            assert code == 200, frame
            return
        assert number in FIELDS, frame
        if code > 0:
            assert code in (200, number) and frame["status"] == "Success" and frame["message"] == "", frame
            assert set(data) >= FIELDS[number], frame
        else:
            assert frame["message"] == WORDS[code] and frame["status"] == "Error", frame
            assert code == -9999 or -code // 100 * 100 == number, frame
        for name, value in data.items():
            if name in OBJECTS:
                assert isinstance(value, dict), frame
            elif name in STRINGS:
                assert isinstance(value, str), frame
        assert data.get("is_refresh", 0) in (0, 1), frame


class OldClientTests(DaemonTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice, self.bob = (self.daemon.add_admin(self.group_id, name) for name in ("Alice", "Bob"))

    async def old(self, admin_id: int, **claims: Any) -> OldClient:
        client = OldClient(f"old client of {admin_id}")
        self.addCleanup(lambda: Deferred.fromCoroutine(client.drop()))
        await client.connect(self.daemon.port)
        client.data = await client.old_good(31000, token=token(admin_id=admin_id, **claims))
        return client

    async def test_a_whole_day(self) -> None:
        """From the login in the morning to the evening, with a colleague who has the same old client."""
        alice = await self.old(self.alice)
        self.assertEqual((alice.data["is_refresh"], alice.data["refresh_token"]), (0, ""))
        self.assertEqual(alice.data["guest_list"], {})
        self.assertEqual(set(alice.data["admin_list"]), {str(self.alice), str(self.bob)})
        guest = await self.guest("customer", token=token(sub=f"c{self.group_id}", name="Li"))
        group_id, gid = str(self.group_id), str(guest.gid)

        # A customer comes and writes.
        await guest.good_request(22300, msg="hello")
        arrived = await alice.push(32401)
        self.assertEqual((arrived["gid"], arrived["guest_info"]["name"]), (guest.gid, "Li"))
        heard = await alice.push(32399)
        self.assertEqual(heard["message_info"]["msg"], "hello")
        listed = await alice.old_good(32000)
        self.assertEqual(listed["guest_list"][gid]["unread"], 1)
        read = await alice.old_good(32200, gid=gid, group_id=group_id)
        self.assertEqual((read["gid"], read["group_id"]), (guest.gid, self.group_id))

        # All seven kinds, in shapes of its own; numbers as form values.
        for kind, msg in (
            ("0", "你好"),
            ("1", {"src": "https://img.example/1.png"}),
            ("2", "https://voice.example/1.amr"),
            ("3", {"goods_id": "17", "goods_price": "19.90"}),
            ("4", {"order_sn": "2024-1"}),
            ("5", {"src": "https://video.example/1.mp4"}),
            (6, {"src": "https://file.example/1.pdf"}),
        ):
            sent = await alice.old_good(32300, gid=gid, msg=msg, file_type=kind)
            self.assertEqual((sent["message_info"]["msg"], sent["message_info"]["file_type"]), (msg, int(kind)))
            self.assertEqual((await guest.push(22399))["message_info"]["msg"], msg)
        await alice.old_good(32300, gid=gid, msg="without a kind")
        await alice.old_good(32300, gid=gid, msg=42)

        # The content, page by page; also what a guest sends in shapes of a new client.
        for n in range(14):
            await guest.good_request(22300, msg=f"line {n}")
            await alice.push(32399)
        seen: list[int] = []
        for page_index in ("1", "2", "3"):
            page = await alice.old_good(32100, gid=gid, group_id=group_id, page_index=page_index, page_size="10")
            seen += sorted(map(int, page["recs"]), reverse=True)
            self.assertIn(gid, page["guest_list"])
        self.assertEqual(seen, list(range(24, 0, -1)))
        page = await alice.old_good(32100, gid=gid, group_id=group_id)
        self.assertEqual(sorted(map(int, page["recs"])), list(range(15, 25)))
        self.assertEqual(await self.recs(alice, gid, page_index=9), {})

        # A colleague comes on line; the guest is handed over and back.
        online = await alice.old_good(33000)
        self.assertEqual(set(online["admin_list"]), {str(self.alice)})
        bob = await self.old(self.bob)
        self.assertEqual(bob.data["guest_list"], {})
        online = await alice.old_good(33000)
        self.assertEqual(set(online["admin_list"]), {str(self.alice), str(self.bob)})
        for giver, taker, aix in ((alice, bob, self.bob), (bob, alice, self.alice)):
            handed = await giver.old_good(32400, gid=gid, aix=str(aix))
            arrived, done = await taker.push(32401), await giver.push(32402)
            for data in (handed, arrived, done):
                self.assertEqual((data["gid"], data["guest_info"]["gid"]), (guest.gid, guest.gid))
                self.assertEqual(sorted(map(int, data["recs"])), list(range(5, 25)))
            numbers = [frame["api_key"] for frame in giver.frames]
            self.assertLess(numbers.index(32400), numbers.index(32402))

        # A break.
        await bob.old_good(32500, status="1")
        await alice.old_good(32500, status=1)
        waiting = await self.guest("waiting")
        self.assertEqual((await waiting.good_request(22300, msg="anybody there?"))["state"], "queued")
        await bob.old_good(32500, status=0)
        arrived = await bob.push(32401)
        self.assertEqual(arrived["gid"], waiting.gid)
        self.assertEqual([info["msg"] for info in arrived["recs"].values()], ["anybody there?"])
        await alice.old_good(32500, status="0")

        # It never heard of anything but this.
        await waiting.leave()
        await guest.good_request(22060)
        for client in (alice, bob):
            await client.beat()
            self.assertLessEqual({frame["api_key"] for frame in client.frames}, {0, *FIELDS})
            self.assertTrue(all(frame["code"] > 0 for frame in client.frames))

    async def recs(self, client: OldClient, gid: str, **fields: Any) -> Frame:
        page = await client.old_good(32100, gid=gid, group_id=str(self.group_id), **fields)
        return dict(page["recs"])

    async def test_heartbeats(self) -> None:
        """With and without api_key, before and after the login, as often as the client likes."""
        client = OldClient()
        self.addCleanup(lambda: Deferred.fromCoroutine(client.drop()))
        await client.connect(self.daemon.port)
        await client.beat()
        self.assertEqual((await client.beat(api_key=0))["api_key"], 0)
        await client.old_good(31000, token=token(admin_id=str(self.alice)))
        reply = await client.beat(api_key=31000)
        self.assertEqual((reply["api_key"], reply["code"]), (0, 200))
        self.assertIn("server_time", reply["data"])

    async def test_every_error_of_the_document(self) -> None:
        """Each code comes when the document says so, with the document's words; the connection stays."""
        client = OldClient()
        self.addCleanup(lambda: Deferred.fromCoroutine(client.drop()))
        await client.connect(self.daemon.port)

        async def code(api_key: int, **fields: Any) -> int:
            return int((await client.old(api_key, **fields))["code"])

        for api_key in (32000, 32100, 32200, 32300, 32400, 32500, 33000):
            self.assertEqual(await code(api_key), -9999)
        self.assertEqual(await code(31000), -31001)
        for bad in ("", "rubbish", None, 7, token(admin_id=self.alice, secret="somebody else's secret, 32+ bytes ...")):
            self.assertEqual(await code(31000, token=bad), -31001, bad)
        self.assertEqual(await code(31000, token=token(admin_id=self.alice, life=10, age=20)), -31001)
        self.assertEqual(await code(31000, token=token(name="nobody")), -31002)
        self.assertEqual(await code(31000, token=token(admin_id=999_999_999)), -31003)
        banned = self.daemon.add_admin(self.group_id, "Mallory")
        self.daemon.sql("UPDATE admin SET status = 'banned' WHERE id = %s", banned)
        self.assertEqual(await code(31000, token=token(admin_id=banned)), -31003)
        closed = self.daemon.add_group("closed")
        there = self.daemon.add_admin(closed, "Eve")
        self.daemon.sql("UPDATE service_group SET status = 'banned' WHERE id = %s", closed)
        self.assertEqual(await code(31000, token=token(admin_id=there)), -31004)

        await client.old_good(31000, token=token(admin_id=self.alice))
        guest = await self.guest()
        await guest.good_request(22000)
        await client.push(32401)
        gid, group_id = str(guest.gid), str(self.group_id)
        for missing in ({}, {"gid": 0}, {"gid": "0"}, {"gid": ""}, {"gid": None}):
            self.assertEqual(await code(32100, group_id=group_id, **missing), -32101)
            self.assertEqual(await code(32200, group_id=group_id, **missing), -32201)
            self.assertEqual(await code(32300, msg="x", file_type=0, **missing), -32301)
            self.assertEqual(await code(32400, aix=str(self.bob), **missing), -32403)
        for empty in (0, "0", "", None):
            self.assertEqual(await code(32100, gid=gid, group_id=empty), -32102)
            self.assertEqual(await code(32200, gid=gid, group_id=empty), -32202)
            self.assertEqual(await code(32400, gid=gid, aix=empty), -32404)
        for nothing in ({}, {"msg": ""}, {"msg": None}):
            self.assertEqual(await code(32300, gid=gid, file_type=0, **nothing), -32302)
        await client.old_good(32300, gid=gid, msg="still here", file_type=0)

    async def test_a_token_more_than_half_over_is_renewed(self) -> None:
        """A login, a list and a content with an ageing token bring a new one; with it the next login works."""
        client = await self.old(self.alice, life=3600, age=1801)
        self.assertEqual(client.data["is_refresh"], 1)
        fresh = client.data["refresh_token"]
        self.assertEqual((await client.old_good(32000))["is_refresh"], 0)
        await client.leave()
        again = OldClient("again")
        self.addCleanup(lambda: Deferred.fromCoroutine(again.drop()))
        await again.connect(self.daemon.port)
        self.assertEqual((await again.old_good(31000, token=fresh))["is_refresh"], 0)

    async def test_a_list_renews_too(self) -> None:
        """A token that is half over in the middle of the day is renewed by the next list, without a login."""
        client = await self.old(self.alice, life=12, age=2)
        self.assertEqual(client.data["is_refresh"], 0)
        fresh: list[Frame] = []

        async def renewed() -> bool:
            fresh.append(await client.old_good(32000))
            return bool(fresh[-1]["is_refresh"] == 1)

        await eventually(renewed, "a new token")
        self.assertTrue(fresh[-1]["refresh_token"])
        self.assertTrue(all(data["refresh_token"] == "" for data in fresh[:-1]))

    async def test_a_guest_of_a_new_client_looks_the_same(self) -> None:
        """Messages with a cmid, of a customer with profile and context, are readable for an old client."""
        alice = await self.old(self.alice)
        guest = await self.guest(
            token=token(sub=f"p{self.group_id}", name="Li", profile={"vip": True}), context={"page_url": "https://x/"}
        )
        await guest.good_request(22300, msg={"url": "https://i.example/1.png", "width": 1}, file_type=1, cmid="c1")
        self.assertEqual((await alice.push(32399, same("gid", guest.gid)))["message_info"]["file_type"], 1)
        await guest.good_request(22600, context={"page_url": "https://y/"})
        await guest.good_request(22200)
        await guest.leave()
        self.assertEqual((await alice.old_good(32000))["guest_list"][str(guest.gid)]["profile"], {"vip": True})
