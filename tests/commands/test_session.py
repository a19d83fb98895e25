"""Logging in and out, both sides: 31000, 31020, 21000, 21020, and the tokens that replies bring."""

from __future__ import annotations

from typing import Any

import jwt

from chatproto.storage import history, people
from tests.commands.room import (
    ADMIN_ENTRY,
    DESK,
    GUEST_ADMIN,
    GUEST_ENTRY,
    QUEUE,
    WELCOME,
    Client,
    RoomCase,
    away,
)

DAY = 86400
MONTH = 30 * DAY


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


class AdminLoginTests(RoomCase):
    async def login(self, client: Client | None = None, **values: Any) -> tuple[int, dict[str, Any]]:
        return await (client or self.connect()).refused(31000, **{"call_type": 3, **values})

    async def test_reply(self) -> None:
        """The desk shows the colleagues and the guests, each with all that the protocol names."""
        bob = await self.add_admin("Bob", capacity=3)
        other = await self.add_admin("Eve", group=await self.add_group("elsewhere"))
        guest = await self.guest("c1")
        await guest.ok(22300, msg="hello")
        ann = await self.admin(name="Ann")
        data = ann.welcome
        self.assertFields(data, DESK)
        self.assertEqual(data["ix"], ann.ix)
        self.assertEqual(data["admin_list"].keys(), {str(bob), str(ann.admin_id)})
        self.assertNotIn(str(other), data["admin_list"])
        for entry in data["admin_list"].values():
            self.assertFields(entry, ADMIN_ENTRY)
        self.assertEqual(
            data["admin_list"][str(bob)],
            {
                "aix": bob,
                "admin_id": bob,
                "name": "Bob",
                "avatar": "https://shop.example/Bob.png",
                "group_id": self.group,
                "group_name": "shop",
                "status": 0,
                "guest_count": 0,
                "capacity": 3,
            },
        )
        mine = data["admin_list"][str(ann.admin_id)]
        self.assertEqual((mine["status"], mine["guest_count"]), (1, 1))
        self.assertEqual(data["guest_list"].keys(), {str(guest.gid)})
        entry = data["guest_list"][str(guest.gid)]
        self.assertFields(entry, GUEST_ENTRY)
        self.assertMessage(entry["last_message"])
        self.assertEqual(
            [entry[name] for name in ("state", "admin_id", "external_id", "online", "unread", "last_seq", "queued_at")],
            ["serving", ann.admin_id, "c1", True, 1, 1, None],
        )
        self.assertEqual((data["guests_more"], data["is_refresh"], data["refresh_token"]), (False, 0, ""))

    async def test_bad_token(self) -> None:
        """-31001: no token, not a token, signed with another key, over, or a guest's."""
        id_ = await self.add_admin("Ann")
        self.assertEqual(await self.login(), (-31001, {}))
        for token in (
            None,
            "",
            7,
            "no token",
            self.token(admin_id=id_, key="another secret, thirty-two bytes or more"),
            self.token(admin_id=id_, life=60, age=61),
            self.token(gid="5"),
        ):
            self.assertEqual(await self.login(token=token), (-31001, {}), token)

    async def test_no_admin_id(self) -> None:
        """-31002: a good token without a usable admin_id."""
        for wrong in ({}, {"admin_id": 0}, {"admin_id": "x"}, {"admin_id": -1}, {"admin_id": True}):
            self.assertEqual(await self.login(token=self.token(**wrong)), (-31002, {}), wrong)

    async def test_banned_or_missing(self) -> None:
        """-31003 for a banned or unknown admin, -31004 for a banned group."""
        id_ = await self.add_admin("Ann")
        self.assertEqual(await self.login(token=self.token(admin_id=id_ + 1)), (-31003, {}))
        await self.sql("UPDATE service_group SET status = 'banned'")
        self.assertEqual(await self.login(token=self.token(admin_id=id_)), (-31004, {}))
        await self.sql("UPDATE admin SET status = 'banned'")
        self.assertEqual(await self.login(token=self.token(admin_id=id_)), (-31003, {}))

    async def test_call_type(self) -> None:
        """The wrong call_type, or none, is malformed at a login."""
        token = self.token(admin_id=await self.add_admin("Ann"))
        for call_type in (1, None, "x"):
            self.assertEqual(await self.login(token=token, call_type=call_type), (-9998, {"field": "call_type"}))
        client = self.connect()
        await client.ok(31000, call_type="3", token=token)

    async def test_admin_id_as_text(self) -> None:
        """Old shops write the number as text."""
        id_ = await self.add_admin("Ann")
        await self.connect().ok(31000, call_type=3, token=self.token(admin_id=str(id_)))

    async def test_too_many_connections(self) -> None:
        """The 17th connection of an admin is closed with 4005 and without a reply; those before it stay."""
        ann = await self.admin()
        for _ in range(15):
            await self.admin(ann.admin_id)
        late = self.connect()
        late.send(31000, call_type=3, token=self.token(admin_id=ann.admin_id))
        self.assertEqual((await late.closing())[0], 4005)
        self.assertEqual(late.told, [])
        await ann.ok(33000)
        await ann.ok(31000, call_type=3, token=self.token(admin_id=ann.admin_id))

    async def test_another_identity(self) -> None:
        """A connection belongs to one admin: the token of another one is refused, and the first stays logged in."""
        ann, bob = await self.admin(), await self.add_admin("Bob")
        self.assertEqual(await self.login(ann, token=self.token(admin_id=bob)), (-9994, {}))
        self.assertEqual(await self.login(ann, token="x"), (-31001, {}))
        found = await ann.ok(33000)
        self.assertEqual(found["admin_list"].keys(), {str(ann.admin_id)})

    async def test_failed_login_keeps_the_desk(self) -> None:
        """After a failed login the admin is on line as before, and news comes as before."""
        ann = await self.admin()
        await self.sql("UPDATE admin SET status = 'banned'")
        self.assertEqual(await self.login(ann, token=self.token(admin_id=ann.admin_id)), (-31003, {}))
        await self.sql("UPDATE admin SET status = 'active'")
        guest = await self.guest()
        await guest.ok(22300, msg="hello")
        await ann.push(32399, gid=guest.gid)

    async def test_moved_meanwhile(self) -> None:
        """Who was moved to another group and logs in again on the same connection works there, and only there."""
        ann = await self.admin()
        other = await self.add_group("second")
        await self.sql("UPDATE admin SET group_id = %s", other)
        data = await ann.ok(31000, call_type=3, v=2, token=self.token(admin_id=ann.admin_id))
        self.assertEqual(data["admin_list"][str(ann.admin_id)]["group_id"], other)
        self.assertEqual(data["admin_list"][str(ann.admin_id)]["status"], 1)
        ann.told.clear()
        bob = await self.admin(name="Bob")
        await bob.push(33099, aix=bob.admin_id)
        eve = await self.admin(name="Eve", group=other)
        await ann.push(33099, aix=eve.admin_id)
        self.assertEqual([frame for frame in ann.told if frame["data"].get("aix") == bob.admin_id], [])
        guest = await self.guest(group_id=other)
        await guest.ok(22000)
        await ann.leave()
        self.assertEqual(self.server.hub.connections().count(ann.state), 0)
        self.assertEqual([t for t, members in self.server.hub._topics.items() if ann.state in members], [])

    async def test_login_takes_the_queue(self) -> None:
        """Who waits gets the admin who comes; the desk shows it at once, and the guest is told."""
        guest = await self.guest()
        await guest.ok(22000)
        ann = await self.admin()
        self.assertEqual(ann.welcome["guest_list"][str(guest.gid)]["state"], "serving")
        told = await guest.push(22099, state="serving")
        self.assertEqual((told["admin"]["aix"], told["reason"]), (ann.admin_id, "assigned"))

    async def test_fails_late(self) -> None:
        """A login whose reply cannot be read has taken who waits: the guest and the colleagues are told."""
        guest = await self.guest()
        await guest.ok(22000)
        bob = await self.admin(name="Bob", capacity=0)
        id_ = await self.add_admin("Ann")
        client = self.connect()
        read = history.desk_list
        self.patch(history, "desk_list", away)
        self.assertEqual((await self.login(client, token=self.token(admin_id=id_)))[0], -9995)
        self.patch(history, "desk_list", read)
        told = await guest.push(22099, state="serving")
        self.assertEqual(told["admin"]["aix"], id_)
        await bob.push(32099, gid=guest.gid, state="serving")
        await bob.push(33099, aix=id_, status=0, guest_count=1)
        self.assertEqual(await client.code(33000), -9999)
        ann = await self.admin(id_)
        self.assertEqual(ann.welcome["guest_list"][str(guest.gid)]["state"], "serving")

    async def test_colleagues_are_told(self) -> None:
        """Colleagues see who comes, goes and changes the status (33099)."""
        ann = await self.admin()
        bob = await self.admin(name="Bob")
        entry = await ann.push(33099, aix=bob.admin_id, status=1)
        self.assertFields(entry, ADMIN_ENTRY)
        await bob.leave()
        await ann.push(33099, aix=bob.admin_id, status=0)


class RefreshTests(RoomCase):
    async def login(self, token: str, client: Client | None = None) -> dict[str, Any]:
        return await (client or self.connect()).ok(31000, call_type=3, token=token)

    async def test_first_half(self) -> None:
        """In the first half of its life a token is not renewed."""
        id_ = await self.add_admin("Ann")
        data = await self.login(self.token(admin_id=id_, life=1000, age=480))
        self.assertEqual((data["is_refresh"], data["refresh_token"]), (0, ""))

    async def test_second_half(self) -> None:
        """In the second half the reply brings a token with the same claims and life, which logs in."""
        id_ = await self.add_admin("Ann")
        old = self.token(admin_id=id_, life=1000, age=510, shop="x")
        data = await self.login(old)
        self.assertEqual(data["is_refresh"], 1)
        new, was = claims(data["refresh_token"]), claims(old)
        self.assertEqual((new["admin_id"], new["shop"], new["exp"] - new["iat"]), (id_, "x", 1000))
        self.assertEqual(new["auth_time"], was["iat"])
        self.assertTrue(self.wall() - 5 < new["iat"] <= self.wall())
        again = await self.login(data["refresh_token"])
        self.assertEqual((again["is_refresh"], again["refresh_token"]), (0, ""))

    async def test_auth_time_stays(self) -> None:
        """However often a token is renewed, it remembers when its chain began."""
        id_ = await self.add_admin("Ann")
        old = self.token(admin_id=id_, life=1000, age=10)
        began = claims(old)["iat"]
        for _ in range(3):
            self.ahead += 600
            old = (await self.login(old))["refresh_token"]
            self.assertEqual(claims(old)["auth_time"], began)

    async def test_without_iat(self) -> None:
        """A token without iat counts as living 24 h."""
        id_ = await self.add_admin("Ann")
        now = int(self.wall())
        data = await self.login(self.token(admin_id=id_, iat=None, exp=now + DAY // 2 + 60))
        self.assertEqual(data["is_refresh"], 0)
        data = await self.login(self.token(admin_id=id_, iat=None, exp=now + DAY // 2 - 60))
        new = claims(data["refresh_token"])
        self.assertEqual(new["exp"] - new["iat"], DAY)
        self.assertEqual(new["auth_time"], new["iat"])

    async def test_limit(self) -> None:
        """30 days after the first login a person has to log in again: the last token is cut, then none is given."""
        id_ = await self.add_admin("Ann")
        now = int(self.wall())
        began = now - MONTH + 700
        data = await self.login(self.token(admin_id=id_, life=1000, age=600, auth_time=began))
        self.assertEqual(claims(data["refresh_token"])["exp"], began + MONTH)
        data = await self.login(self.token(admin_id=id_, life=1000, age=600, auth_time=now - MONTH + 300))
        self.assertEqual((data["is_refresh"], data["refresh_token"]), (0, ""))

    async def test_extends_the_connection(self) -> None:
        """The connection lives on with the new token without another login, from a login as from a list."""
        id_ = await self.add_admin("Ann")
        ann = self.connect()
        await self.login(self.token(admin_id=id_, life=1000, age=600), ann)
        self.ahead += 900
        self.assertEqual((await ann.ok(32000))["is_refresh"], 1)
        self.ahead += 900
        await ann.ok(33000)
        self.ahead += 101
        self.assertEqual(await ann.code(33000), -9999)

    async def test_newest_counts(self) -> None:
        """After a renewal is_refresh is 0 until half of the new token is over."""
        id_ = await self.add_admin("Ann")
        guest = await self.guest()
        ann = self.connect()
        await self.login(self.token(admin_id=id_, life=1000, age=600), ann)
        content = {"gid": guest.gid, "group_id": self.group}
        self.assertEqual((await ann.ok(32000))["is_refresh"], 0)
        self.ahead += 490
        self.assertEqual((await ann.ok(32100, **content))["is_refresh"], 0)
        self.ahead += 20
        data = await ann.ok(32100, **content)
        self.assertEqual(data["is_refresh"], 1)
        self.assertEqual((await ann.ok(32000))["is_refresh"], 0)
        self.assertEqual(claims(data["refresh_token"])["admin_id"], id_)

    async def test_banned_meanwhile(self) -> None:
        """Who was banned since the login gets no new token, and has to log in again."""
        id_ = await self.add_admin("Ann")
        ann = self.connect()
        await self.login(self.token(admin_id=id_, life=1000), ann)
        self.ahead += 600
        await self.sql("UPDATE admin SET status = 'banned'")
        self.assertEqual(await ann.code(32000), -9999)

    async def test_guest(self) -> None:
        """A customer's token is renewed in the same way, and an anonymous guest's never."""
        data = await self.connect().ok(21000, call_type=1, token=self.token(sub="c", life=1000, age=600, name="Al"))
        new = claims(data["refresh_token"])
        self.assertEqual((data["is_refresh"], new["sub"], new["name"]), (1, "c", "Al"))
        again = await self.connect().ok(21000, call_type=1, token=data["refresh_token"])
        self.assertEqual((again["gid"], again["is_refresh"]), (data["gid"], 0))
        anonymous = await self.guest()
        self.assertEqual((anonymous.welcome["is_refresh"], anonymous.welcome["refresh_token"]), (0, ""))


class ExpiryTests(RoomCase):
    async def test_expired_connection(self) -> None:
        """When the token is over, commands get -9999; a new login on the same connection goes on, news included."""
        id_ = await self.add_admin("Ann")
        ann = self.connect()
        await ann.ok(31000, call_type=3, v=2, token=self.token(admin_id=id_, life=100))
        guest = await self.guest()
        await guest.ok(22300, msg="one")
        await ann.push(32399)
        self.ahead += 100
        self.server.dispatch.expire()
        self.assertEqual(await ann.refused(32000), (-9999, {}))
        ann.told.clear()
        await guest.ok(22300, msg="two")
        self.assertEqual(await ann.code(33000), -9999)
        self.assertEqual(ann.numbers(), [])
        data = await ann.ok(31000, call_type=3, v=2, token=self.token(admin_id=id_, life=100))
        self.assertEqual(data["guest_list"][str(guest.gid)]["last_seq"], 2)
        await guest.ok(22300, msg="three")
        told = await ann.push(32399)
        self.assertEqual(told["message_info"]["seq"], 3)

    async def test_closed_after_a_minute(self) -> None:
        """Who does not log in again is closed with 4001."""
        ann = self.connect()
        await ann.ok(31000, call_type=3, token=self.token(admin_id=await self.add_admin("Ann"), life=100))
        self.ahead += 161
        self.server.dispatch.expire()
        self.assertEqual((await ann.closing())[0], 4001)


class AdminLogOutTests(RoomCase):
    async def test_one_of_two(self) -> None:
        """Logging out of one device leaves the other one, and the guests, where they are."""
        ann = await self.admin()
        phone = await self.admin(ann.admin_id)
        guest = await self.guest()
        await guest.ok(22300, msg="hello")
        self.assertEqual(await phone.ok(31020), {})
        self.assertEqual((await phone.closing())[0], 1000)
        await phone.leave()
        data = await ann.ok(32000)
        self.assertEqual(data["guest_list"][str(guest.gid)]["state"], "serving")
        self.assertEqual(data["admin_list"][str(ann.admin_id)]["status"], 1)

    async def test_last_one(self) -> None:
        """With the last connection the guests who wrote last are given on at once, the others stay."""
        ann, bob = await self.admin(), None
        wrote, answered = await self.guest(), await self.guest()
        await wrote.ok(22300, msg="hello")
        await answered.ok(22300, msg="hello")
        await ann.ok(32300, gid=answered.gid, msg="hi")
        self.assertEqual(await ann.ok(31020), {})
        told = await wrote.push(22099, state="queued")
        self.assertEqual(told["reason"], "admin_lost")
        self.assertFields(told["queue"], QUEUE)
        self.assertEqual((await answered.ok(22000))["state"], "serving")
        bob = await self.admin(name="Bob")
        self.assertEqual(bob.welcome["admin_list"][str(ann.admin_id)]["status"], 0)
        await wrote.push(22099, state="serving")
        self.assertEqual(bob.welcome["guest_list"].keys(), {str(wrote.gid)})

    async def test_suspension_ends(self) -> None:
        """A suspension ends with the log-out."""
        ann = await self.admin()
        await ann.ok(32500, status=1)
        await ann.ok(31020)
        again = await self.admin(ann.admin_id)
        self.assertEqual(again.welcome["admin_list"][str(ann.admin_id)]["status"], 1)


class GuestLoginTests(RoomCase):
    async def refused(self, client: Client | None = None, **values: Any) -> tuple[int, dict[str, Any]]:
        return await (client or self.connect()).refused(21000, **{"call_type": 1, **values})

    async def test_anonymous(self) -> None:
        """Somebody unknown gets a gid and a guest_token, and everything that the protocol names."""
        guest = await self.guest()
        data = guest.welcome
        self.assertFields(data, WELCOME)
        self.assertGreaterEqual(len(data["guest_token"]), 43)
        expected = {
            "ix": guest.ix,
            "group_id": self.group,
            "state": "new",
            "admin": None,
            "queue": None,
            "recs": {},
            "last_seq": 0,
            "read_seq": 0,
            "admin_read_seq": 0,
            "unread": 0,
            "is_refresh": 0,
            "refresh_token": "",
        }
        self.assertEqual({name: data[name] for name in expected}, expected)

    async def test_comes_back(self) -> None:
        """With the guest_token the same guest is back, in all tabs, and the token stays the same."""
        guest = await self.guest()
        for _ in range(2):
            again = await self.guest(guest_token=guest.welcome["guest_token"])
            self.assertEqual(again.gid, guest.gid)
            self.assertEqual(again.welcome["guest_token"], guest.welcome["guest_token"])

    async def test_running_service(self) -> None:
        """Who comes back while being served sees by whom, the newest 20 messages, and what is unread."""
        ann = await self.admin()
        guest = await self.guest("c")
        for n in range(21):
            await guest.ok(22300, msg=f"m{n}")
        await ann.ok(32300, gid=guest.gid, msg="a1")
        await ann.ok(32200, gid=guest.gid, group_id=self.group, seq=7)
        await guest.ok(22200, seq=5)
        data = (await self.guest("c")).welcome
        self.assertFields(data["admin"], GUEST_ADMIN)
        self.assertEqual(data["admin"], {"aix": ann.admin_id, "name": "Ann", "avatar": "https://shop.example/Ann.png"})
        self.assertEqual(sorted(map(int, data["recs"])), list(range(3, 23)))
        for info in data["recs"].values():
            self.assertMessage(info)
        self.assertEqual(
            [data[name] for name in ("state", "queue", "last_seq", "read_seq", "admin_read_seq", "unread")],
            ["serving", None, 22, 5, 7, 1],
        )

    async def test_waiting(self) -> None:
        """Who comes back while waiting sees the place in the queue."""
        first, second = await self.guest(), await self.guest("c")
        await first.ok(22000)
        await second.ok(22000)
        data = (await self.guest("c")).welcome
        self.assertEqual(data["state"], "queued")
        self.assertEqual(data["queue"], {"position": 2, "waiting": 2, "admins_online": 0})

    async def test_customer(self) -> None:
        """A customer is known by the shop's id, sub or gid, as text; gid wins; there is no guest_token."""
        one = await self.guest("55")
        self.assertEqual(one.welcome["guest_token"], "")
        for wanted in ({"gid": 55}, {"gid": "55"}, {"gid": 55, "sub": "other"}, {"sub": "55"}):
            data = await self.connect().ok(21000, call_type=1, token=self.token(**wanted))
            self.assertEqual(data["gid"], one.gid, wanted)
        other = await self.guest("056")
        self.assertNotEqual(other.gid, one.gid)

    async def test_never_shared(self) -> None:
        """The server's own gid opens nothing: a customer whose shop id equals it is somebody else."""
        anonymous = await self.guest()
        customer = await self.guest(str(anonymous.gid))
        self.assertNotEqual(customer.gid, anonymous.gid)
        data = await self.connect().ok(21000, call_type=1, gid=anonymous.gid)
        self.assertNotEqual(data["gid"], anonymous.gid)

    async def test_overwrites(self) -> None:
        """Each login overwrites name, avatar, profile and context; what the token leaves out stays."""
        ann = await self.admin()
        first: dict[str, Any] = {"name": "Al", "avatar": "https://shop.example/al.png", "profile": {"vip": True}}
        guest = self.connect()
        context = {"page_url": "https://shop.example/1", "title": "One"}
        await guest.ok(21000, call_type=1, token=self.token(sub="c", **first), context=context)
        await guest.ok(22000)
        entry = (await ann.push(32401))["guest_info"]
        self.assertEqual({name: entry[name] for name in first}, first)
        self.assertEqual(entry["context"], context)
        again = self.connect()
        await again.ok(
            21000,
            call_type=1,
            token=self.token(sub="c", name="x" * 101),
            context={"page_url": "https://shop.example/2"},
        )
        entry = await ann.push(32099)
        self.assertFields(entry, GUEST_ENTRY)
        self.assertEqual(
            (entry["name"], entry["avatar"], entry["profile"]), ("x" * 100, first["avatar"], {"vip": True})
        )
        self.assertEqual(entry["context"], {"page_url": "https://shop.example/2"})
        await self.guest("c")
        entry = await ann.push(32099)
        self.assertEqual(entry["context"], {"page_url": "https://shop.example/2"})

    async def test_bad_token(self) -> None:
        """-21001: not verified, over, an admin's, or with an id out of bounds."""
        for token in (
            "x",
            self.token(sub="c", key="another secret, thirty-two bytes or more"),
            self.token(sub="c", life=60, age=61),
            self.token(sub="c", admin_id=1),
            self.token(),
            self.token(sub="x" * 65),
        ):
            self.assertEqual(await self.refused(token=token), (-21001, {}), token)

    async def test_guest_token(self) -> None:
        """-21002: an unknown guest_token."""
        self.assertEqual(await self.refused(guest_token="x" * 43), (-21002, {}))

    async def test_banned(self) -> None:
        """-21003: a banned guest, by either token."""
        customer, anonymous = await self.guest("c"), await self.guest()
        await self.sql("UPDATE guest SET status = 'banned'")
        self.assertEqual(await self.refused(token=self.token(sub="c")), (-21003, {}))
        self.assertEqual(await self.refused(guest_token=anonymous.welcome["guest_token"]), (-21003, {}))
        self.assertEqual(await self.refused(customer, token=self.token(sub="c")), (-21003, {}))

    async def test_group(self) -> None:
        """The only group need not be named; -21004: banned, missing, several and none named, not the token's."""
        data = await self.connect().ok(21000, call_type=1)
        self.assertEqual(data["group_id"], self.group)
        self.assertEqual(await self.refused(group_id=99), (-21004, {}))
        other = await self.add_group("second")
        self.assertEqual(await self.refused(), (-21004, {}))
        token = self.token(sub="c", group_id=other)
        self.assertEqual((await self.connect().ok(21000, call_type=1, token=token))["group_id"], other)
        self.assertEqual(await self.refused(token=token, group_id=self.group), (-21004, {}))
        await self.sql("UPDATE service_group SET status = 'banned' WHERE id = %s", other)
        self.assertEqual(await self.refused(token=token), (-21004, {}))
        self.assertEqual(await self.refused(group_id=other), (-21004, {}))

    async def test_malformed(self) -> None:
        """-9998 names what is wrong."""
        self.assertEqual(await self.refused(call_type=3), (-9998, {"field": "call_type"}))
        for field, value in (("token", 5), ("guest_token", 5), ("group_id", "x"), ("context", "x")):
            self.assertEqual(await self.refused(None, **{field: value}), (-9998, {"field": field}))

    async def test_newcomers(self) -> None:
        """The 31st new anonymous guest of an address within a minute is held back; who is known is not."""
        known = await self.guest()
        for _ in range(29):
            await self.guest()
        code, data = await self.refused()
        self.assertEqual((code, data.keys()), (-9997, {"retry_after_ms"}))
        self.assertTrue(0 < data["retry_after_ms"] <= 60_000)
        await self.guest(guest_token=known.welcome["guest_token"])
        await self.guest("c")
        await self.connect(address="192.0.2.2").ok(21000, call_type=1)

    async def test_renewal(self) -> None:
        """A login on a logged-in connection renews; another guest, or none, is refused with -9994."""
        customer, anonymous = await self.guest("c"), await self.guest()
        data = await customer.ok(21000, call_type=1, token=self.token(sub="c"))
        self.assertEqual(data["gid"], customer.gid)
        data = await anonymous.ok(21000, call_type=1, guest_token=anonymous.welcome["guest_token"])
        self.assertEqual(data["gid"], anonymous.gid)
        self.assertEqual(await self.refused(customer, token=self.token(sub="d")), (-9994, {}))
        self.assertEqual(await self.refused(customer, guest_token=anonymous.welcome["guest_token"]), (-9994, {}))
        self.assertEqual(await self.refused(anonymous), (-9994, {}))
        await self.add_group("second")
        self.assertEqual(await self.refused(customer, token=self.token(sub="c"), group_id=self.group + 1), (-9994, {}))
        self.assertEqual((await customer.ok(22000))["state"], "queued")
        self.assertEqual(await customer.refused(31000, call_type=3, token=self.token(admin_id=1)), (-31003, {}))
        ann = await self.add_admin("Ann")
        self.assertEqual(await customer.refused(31000, call_type=3, token=self.token(admin_id=ann)), (-9994, {}))

    async def test_too_many_connections(self) -> None:
        """The 17th tab of a guest is closed with 4005."""
        for _ in range(16):
            await self.guest("c")
        late = self.connect()
        late.send(21000, call_type=1, token=self.token(sub="c"))
        self.assertEqual((await late.closing())[0], 4005)


class AnonymousNotAllowedTests(RoomCase):
    async def test_not_allowed(self) -> None:
        """-21005 where the shop wants no anonymous guests; customers come in, and so does who was here before."""
        known = await self.guest()
        strict = await self.open(anonymous_guests=False)
        client = self.connect(strict)
        self.assertEqual(await client.refused(21000, call_type=1, group_id=self.group), (-21005, {}))
        await client.ok(21000, call_type=1, token=self.token(sub="c"))
        data = await self.connect(strict).ok(21000, call_type=1, guest_token=known.welcome["guest_token"])
        self.assertEqual(data["gid"], known.gid)


class GuestLogOutTests(RoomCase):
    async def test_anonymous(self) -> None:
        """An anonymous guest is forgotten: the service ends, the token is void, other tabs are closed with 4001."""
        ann = await self.admin()
        guest = await self.guest()
        tab = await self.guest(guest_token=guest.welcome["guest_token"])
        await guest.ok(22300, msg="hello")
        await ann.push(32401)
        self.assertEqual(await guest.ok(21020), {})
        self.assertEqual((await guest.closing())[0], 1000)
        self.assertEqual((await tab.closing())[0], 4001)
        await ann.push(32099, gid=guest.gid, state="ended")
        code, _ = await self.connect().refused(21000, call_type=1, guest_token=guest.welcome["guest_token"])
        self.assertEqual(code, -21002)

    async def test_anonymous_who_waits(self) -> None:
        """Who waited leaves the queue."""
        ann = await self.admin(capacity=0)
        guest = await self.guest()
        await guest.ok(22000)
        await ann.push(32098, waiting=1)
        await guest.ok(21020)
        await ann.push(32098, waiting=0)

    async def test_anonymous_in_two_groups(self) -> None:
        """Whoever is forgotten is forgotten everywhere: the services of all groups end, all tabs are closed."""
        other = await self.add_group("second")
        ann, eve = await self.admin(), await self.admin(name="Eve", group=other)
        guest = await self.guest()
        there = await self.guest(guest_token=guest.welcome["guest_token"], group_id=other)
        self.assertEqual(there.gid, guest.gid)
        for client, admin in ((guest, ann), (there, eve)):
            await client.ok(22300, msg="hello")
            await admin.push(32401, gid=guest.gid)
        await guest.ok(21020)
        self.assertEqual((await guest.closing())[0], 1000)
        await there.push(22099, state="ended", reason="ended_by_guest")
        self.assertEqual((await there.closing())[0], 4001)
        for admin, group in ((ann, self.group), (eve, other)):
            await admin.push(32099, gid=guest.gid, group_id=group, state="ended")

    async def test_customer(self) -> None:
        """A customer leaves with one tab; the others, and the service, stay."""
        ann = await self.admin()
        guest, tab = await self.guest("c"), await self.guest("c")
        await guest.ok(22300, msg="hello")
        self.assertEqual(await guest.ok(21020), {})
        self.assertEqual((await guest.closing())[0], 1000)
        await ann.ok(32300, gid=tab.gid, msg="hi")
        await tab.push(22399)
        self.assertIsNone(tab.closed)
        self.assertEqual((await self.guest("c")).gid, tab.gid)


class AdoptionTests(RoomCase):
    """An anonymous guest logs in to the shop: token and guest_token together."""

    async def adopt(self, sub: str, anonymous: Client, **values: Any) -> Client:
        return await self.guest(sub, guest_token=anonymous.welcome["guest_token"], **values)

    async def assertForgotten(self, anonymous: Client) -> None:
        """The guest_token is void, and the tabs are told to log in again."""
        self.assertEqual((await anonymous.closing())[0], 4000)
        again = {"guest_token": anonymous.welcome["guest_token"], "group_id": self.group}
        self.assertEqual((await self.connect().refused(21000, call_type=1, **again))[0], -21002)

    async def test_new_customer(self) -> None:
        """A customer not known yet: the conversation goes on with the same gid."""
        ann = await self.admin()
        anonymous = await self.guest()
        await anonymous.ok(22300, msg="hello")
        await ann.push(32401)
        ann.told.clear()
        customer = await self.adopt("c", anonymous)
        self.assertEqual((customer.gid, customer.welcome["guest_token"]), (anonymous.gid, ""))
        self.assertEqual((customer.welcome["state"], customer.welcome["last_seq"]), ("serving", 1))
        entry = await ann.push(32099)
        self.assertEqual((entry["gid"], entry["external_id"]), (anonymous.gid, "c"))
        await self.assertForgotten(anonymous)
        self.assertEqual((await self.guest("c")).gid, anonymous.gid)

    async def test_known_elsewhere(self) -> None:
        """A customer known only to another group takes the conversation along: for the desk another guest has it."""
        other = await self.add_group("second")
        customer = await self.guest("c", group_id=other)
        ann = await self.admin()
        anonymous = await self.guest()
        await anonymous.ok(22300, msg="hello", cmid="m")
        await ann.push(32401)
        await ann.ok(32300, gid=anonymous.gid, msg="hi")
        ann.told.clear()
        moved = await self.adopt("c", anonymous)
        self.assertEqual(moved.gid, customer.gid)
        self.assertEqual((moved.welcome["state"], moved.welcome["last_seq"]), ("serving", 2))
        self.assertEqual(moved.welcome["recs"]["1"]["sender"]["id"], customer.gid)
        self.assertEqual(moved.welcome["recs"]["2"]["sender"]["id"], ann.admin_id)
        old = await ann.push(32099, gid=anonymous.gid)
        self.assertEqual((old["state"], old["admin_id"]), ("ended", None))
        new = await ann.push(32401, gid=customer.gid)
        self.assertHanded(new)
        self.assertEqual(sorted(new["recs"]), ["1", "2"])
        self.assertIsNone(new["data"]["from_aix"])
        await self.assertForgotten(anonymous)
        await moved.ok(22300, msg="more")
        self.assertEqual((await ann.push(32399, gid=customer.gid))["message_info"]["seq"], 3)
        await ann.ok(32300, gid=customer.gid, msg="good")
        self.assertEqual((await moved.push(22399))["message_info"]["seq"], 4)

    async def test_known_here(self) -> None:
        """A customer with a conversation of this group goes on with that; the anonymous service ends."""
        ann = await self.admin()
        customer = await self.guest("c")
        await customer.ok(22300, msg="last week")
        anonymous = await self.guest()
        await anonymous.ok(22300, msg="hello")
        await ann.push(32401, gid=anonymous.gid)
        back = await self.adopt("c", anonymous)
        self.assertEqual((back.gid, back.welcome["last_seq"]), (customer.gid, 1))
        await ann.push(32099, gid=anonymous.gid, state="ended")
        await self.assertForgotten(anonymous)
        self.assertIsNone(customer.closed)

    async def in_two_groups(self) -> tuple[int, Client, Client, Client, Client]:
        """Another group, the admins of both, and the tabs of an anonymous guest whom they serve."""
        other = await self.add_group("second")
        ann, eve = await self.admin(), await self.admin(name="Eve", group=other)
        here = await self.guest()
        there = await self.guest(guest_token=here.welcome["guest_token"], group_id=other)
        for client, admin in ((here, ann), (there, eve)):
            await client.ok(22300, msg="hello")
            await admin.push(32401, gid=here.gid)
            await admin.push(32399, gid=here.gid)
        return other, ann, eve, here, there

    async def test_new_customer_of_two_groups(self) -> None:
        """The conversations of all groups go on, and the tabs of all groups have to log in again."""
        other, ann, eve, here, there = await self.in_two_groups()
        customer = await self.adopt("c", here)
        self.assertEqual((customer.gid, customer.welcome["state"]), (here.gid, "serving"))
        await self.assertForgotten(here)
        self.assertEqual((await there.closing())[0], 4000)
        back = await self.guest("c", group_id=other)
        self.assertEqual((back.gid, back.welcome["state"]), (here.gid, "serving"))
        self.assertEqual((await eve.push(32099, gid=here.gid))["external_id"], "c")
        self.assertNotIn(32401, eve.numbers())

    async def test_known_customer_of_two_groups(self) -> None:
        """In each group for itself: the customer's own conversation is taken, or the guest's is taken along."""
        await self.guest("c")
        other, ann, eve, here, there = await self.in_two_groups()
        customer = await self.adopt("c", here)
        self.assertNotEqual(customer.gid, here.gid)
        self.assertEqual((customer.welcome["state"], customer.welcome["last_seq"]), ("new", 0))
        await ann.push(32099, gid=here.gid, state="ended")
        await eve.push(32099, gid=here.gid, state="ended")
        self.assertEqual(sorted((await eve.push(32401, gid=customer.gid))["recs"]), ["1"])
        await self.assertForgotten(here)
        self.assertEqual((await there.closing())[0], 4000)
        back = await self.guest("c", group_id=other)
        self.assertEqual((back.gid, back.welcome["state"], back.welcome["last_seq"]), (customer.gid, "serving", 1))
        self.assertNotIn(32401, ann.numbers())

    async def test_as_many_tabs_as_there_may_be(self) -> None:
        """The tabs that have to go do not keep the customer out."""
        anonymous = await self.guest()
        token = anonymous.welcome["guest_token"]
        tabs = [anonymous] + [await self.guest(guest_token=token) for _ in range(15)]
        customer = await self.adopt("c", anonymous)
        self.assertEqual(customer.gid, anonymous.gid)
        for tab in tabs:
            self.assertEqual((await tab.closing())[0], 4000)

    async def test_fails_late(self) -> None:
        """A login that fails after the anonymous service ended: the desk and the tabs are told all the same."""
        ann = await self.admin()
        await self.guest("c")
        for module, name in ((history, "welcome"), (people, "come_in")):
            anonymous = await self.guest()
            await anonymous.ok(22300, msg="hello")
            await ann.push(32401, gid=anonymous.gid)
            login = {"token": self.token(sub="c"), "guest_token": anonymous.welcome["guest_token"]}
            client, works = self.connect(), getattr(module, name)
            self.patch(module, name, away)
            code = await client.code(21000, call_type=1, group_id=self.group, **login)
            self.patch(module, name, works)
            self.assertEqual(code, -9995, name)
            await ann.push(32099, gid=anonymous.gid, state="ended")
            await self.assertForgotten(anonymous)
            self.assertEqual(await client.code(22000), -9999)

    async def test_waiting(self) -> None:
        """Who waits keeps the place."""
        other = await self.add_group("second")
        await self.guest("c", group_id=other)
        first, second = await self.guest(), await self.guest()
        await first.ok(22000)
        await second.ok(22000)
        moved = await self.adopt("c", first)
        self.assertEqual(moved.welcome["queue"], {"position": 1, "waiting": 2, "admins_online": 0})

    async def test_bad_guest_token(self) -> None:
        """A bad guest_token beside a good token is ignored."""
        data = await self.connect().ok(21000, call_type=1, token=self.token(sub="c"), guest_token="x" * 43)
        self.assertEqual(data["guest_token"], "")

    async def test_two_tabs_at_once(self) -> None:
        """Two tabs that log in to the shop at the same moment do not end the service that goes on."""
        await self.admin()
        for sub in "abc":
            anonymous = await self.guest()
            await anonymous.ok(22300, msg="hello")
            login = {"token": self.token(sub=sub), "guest_token": anonymous.welcome["guest_token"]}
            tabs = [self.connect(), self.connect(), self.connect()]
            ids = [tab.send(21000, call_type=1, **login) for tab in tabs]
            replies = [await tab.reply_or_end(request_id) for tab, request_id in zip(tabs, ids, strict=True)]
            self.assertEqual({reply["data"].get("gid") for reply in replies if reply}, {anonymous.gid})
            self.assertEqual((await self.guest(sub)).welcome["state"], "serving")

    async def test_banned_customer(self) -> None:
        """A banned customer does not come in, and the anonymous guest stays who it was."""
        await self.guest("c")
        await self.sql("UPDATE guest SET status = 'banned'")
        anonymous = await self.guest()
        token = anonymous.welcome["guest_token"]
        code, _ = await self.connect().refused(21000, call_type=1, token=self.token(sub="c"), guest_token=token)
        self.assertEqual(code, -21003)
        self.assertIsNone(anonymous.closed)
        self.assertEqual((await self.guest(guest_token=token)).gid, anonymous.gid)

    async def test_on_the_same_connection(self) -> None:
        """A tab that logs in to the shop without reconnecting stays open where it is the same guest."""
        anonymous = await self.guest()
        await anonymous.ok(22300, msg="hello")
        data = await anonymous.ok(
            21000, call_type=1, token=self.token(sub="c"), guest_token=anonymous.welcome["guest_token"]
        )
        self.assertEqual((data["gid"], data["guest_token"]), (anonymous.gid, ""))
        self.assertIsNone(anonymous.closed)
        await anonymous.ok(22000)
