"""Who serves whom: hand-overs, the queue, capacity, grace, log-outs, expiry and bans, with exactly one owner always."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

from tests.integration.case import ROOMY, DaemonTestCase, all_of
from tests.integration.client import Client, Frame, same
from tests.integration.daemon import eventually, token

SHORT_GRACE = (*ROOMY, "--grace", "2")


class ServingTestCase(DaemonTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.alice, self.bob = (self.daemon.add_admin(self.group_id, name) for name in ("Alice", "Bob"))

    async def served(self, admin: Client, name: str = "guest", **fields: Any) -> Client:
        """A guest who came to *admin*, the only one who can take, and has written."""
        guest = await self.guest(name, **fields)
        await guest.good_request(22300, msg="hello")
        await admin.push(32401, same("gid", guest.gid))
        await admin.push(32399, same("gid", guest.gid))
        return guest

    def owner(self, guest: Client) -> tuple[str, int | None]:
        [row] = self.daemon.sql(
            "SELECT state, admin_id FROM conversation WHERE group_id = %s AND guest_id = %s", self.group_id, guest.gid
        )
        return row

    def services(self, guest: Client) -> int:
        """How many services are open."""
        [(count,)] = self.daemon.sql(
            "SELECT count(*) FROM service s JOIN conversation c ON c.id = s.conversation_id"
            " WHERE c.guest_id = %s AND s.ended_at IS NULL",
            guest.gid,
        )
        return int(count)


class TransferTests(ServingTestCase):
    async def test_a_hand_over(self) -> None:
        """Both admins and the guest learn of a transfer once; from then on the other one gets the messages."""
        alice = await self.admin(self.alice, "alice")
        guest = await self.served(alice)
        bob = await self.admin(self.bob, "bob")
        handed = await alice.good_request(32400, gid=guest.gid, aix=self.bob, note="wants red shoes")
        arrived, done, told = await all_of(
            bob.push(32401), alice.push(32402), guest.push(22099, same("reason", "transferred"))
        )
        for data in (arrived, done):
            self.assertEqual(data, handed)
        self.assertEqual((handed["data"]["from_aix"], handed["data"]["to_aix"]), (self.alice, self.bob))
        self.assertEqual(told["admin"]["aix"], self.bob)
        self.assertNotIn("red shoes", json.dumps(guest.frames))
        await guest.good_request(22300, msg="are you there?")
        await bob.push(32399)
        self.assertEqual(await alice.code(32300, gid=guest.gid, msg="mine"), -32306)
        self.assertEqual(await alice.code(32400, gid=guest.gid, aix=self.bob), -32409)
        await all_of(alice.beat(), bob.beat(), guest.beat())
        self.assertEqual(len(alice.pushed(32399)), 1)
        self.assertEqual([len(bob.pushed(32401)), len(alice.pushed(32402)), len(bob.pushed(32402))], [1, 1, 0])
        self.assertEqual([data["reason"] for data in guest.pushed(22099)].count("transferred"), 1)

    async def test_whom_a_guest_may_be_given(self) -> None:
        """Each refusal has its code, and leaves the guest where the guest is."""
        alice = await self.admin(self.alice, "alice")
        guest = await self.served(alice)

        async def code(aix: int) -> int:
            return await alice.code(32400, gid=guest.gid, aix=aix)

        stranger = self.daemon.add_admin(self.daemon.add_group("other"), "Eve")
        full = await self.admin(self.daemon.add_admin(self.group_id, "Full", 0), "full")
        self.assertEqual(await code(stranger), -32405)
        self.assertEqual(await code(self.alice), -32405)
        self.assertEqual(await code(self.bob), -32406)
        [full_id] = [data["aix"] for data in full.data["admin_list"].values() if data["name"] == "Full"]
        self.assertEqual(await code(full_id), -32408)
        bob = await self.admin(self.bob, "bob")
        await bob.good_request(32500, status=1)
        self.assertEqual(await code(self.bob), -32407)
        await bob.good_request(32500, status=0)
        self.assertEqual(self.owner(guest), ("serving", self.alice))
        self.assertEqual(await code(self.bob), 200)

    async def test_two_give_the_same_guest_at_once(self) -> None:
        """Admins who snatch a guest from each other while the guest writes: one owner at every moment, no word lost."""
        alice = await self.admin(self.alice, "alice")
        guest = await self.served(alice)
        bob = await self.admin(self.bob, "bob")
        carol_id = self.daemon.add_admin(self.group_id, "Carol")
        carol = await self.admin(carol_id, "carol")
        by_id = {self.alice: alice, self.bob: bob, carol_id: carol}
        for round_ in range(10):
            _, owner_id = self.owner(guest)
            assert owner_id is not None
            receivers = [aix for aix in by_id if aix != owner_id]
            # The owner gives the guest to both others, and both others try to, too.
            giving = [by_id[owner_id].request(32400, gid=guest.gid, aix=aix) for aix in receivers]
            giving += [by_id[aix].request(32400, gid=guest.gid, aix=owner_id) for aix in receivers]
            words = [guest.request(22300, msg=f"{round_}.{n}", cmid=f"{round_}.{n}") for n in range(5)]
            given = Counter(reply["code"] for reply in await all_of(*giving))
            self.assertLessEqual(set(given), {200, -32409})
            self.assertGreaterEqual(given[200], 1)
            self.assertEqual({reply["code"] for reply in await all_of(*words)}, {200})
            state, now_id = self.owner(guest)
            self.assertEqual((state, self.services(guest)), ("serving", 1))
            self.assertIn(now_id, by_id)
        history = self.handovers(guest)
        # A chain: who gives is always who was given.
        for (_, taker), (giver, _) in zip([(None, self.alice), *history], history, strict=False):
            self.assertEqual(giver, taker)
        self.assertEqual((await guest.good_request(22100))["last_seq"], 51)
        for client in by_id.values():
            await client.beat()
        seen = {info["seq"] for client in by_id.values() for info in self.shown(client)}
        self.assertEqual(seen, set(range(1, 52)))
        for aix, client in by_id.items():
            self.assertEqual(len(client.pushed(32402)), sum(giver == aix for giver, _ in history))
            self.assertEqual(
                len([d for d in client.pushed(32401) if d["data"]["from_aix"]]), sum(t == aix for _, t in history)
            )

    def handovers(self, guest: Client) -> list[tuple[int, int]]:
        return self.daemon.sql(
            "SELECT t.from_admin_id, t.to_admin_id FROM transfer t JOIN conversation c ON c.id = t.conversation_id"
            " WHERE c.guest_id = %s ORDER BY t.id",
            guest.gid,
        )

    def shown(self, client: Client) -> list[Frame]:
        """All messages that were pushed to an admin, alone or with a guest who arrived."""
        alone = [data["message_info"] for data in client.pushed(32399)]
        return alone + [info for data in client.pushed(32401) for info in data["recs"].values()]


class QueueTests(ServingTestCase):
    async def test_first_come_first_served(self) -> None:
        """Nobody can take: guests wait in order, see their place, and are served in it when somebody resumes."""
        alice = await self.admin(self.alice, "alice")
        await alice.good_request(32500, status=1)
        guests = [await self.guest(f"guest {n}") for n in range(3)]
        for place, guest in enumerate(guests, 1):
            standing = await guest.good_request(22000)
            self.assertEqual((standing["state"], standing["admin"]), ("queued", None))
            self.assertEqual((standing["queue"]["position"], standing["queue"]["waiting"]), (place, place))
        await alice.push(32098, same("waiting", 3))
        await alice.good_request(32500, status=0)
        order = [(await alice.push(32401))["gid"] for _ in guests]
        self.assertEqual(order, [guest.gid for guest in guests])
        for guest in guests:
            told = await guest.push(22099, same("reason", "assigned"))
            self.assertEqual((told["state"], told["admin"]["aix"], told["queue"]), ("serving", self.alice, None))
        await alice.push(32098, same("waiting", 0))

    async def test_capacity_binds(self) -> None:
        """An admin gets as many guests as fit; who ends one gets the next from the queue at once."""
        one = self.daemon.add_admin(self.group_id, "One", 1)
        admin = await self.admin(one, "one")
        first = await self.served(admin, "first")
        second, third = await self.guest("second"), await self.guest("third")
        for guest in (second, third):
            self.assertEqual((await guest.good_request(22000))["state"], "queued")
        self.assertEqual(await admin.code(32020), -32023)
        ended = await admin.good_request(32060, gid=first.gid)
        self.assertEqual(ended["gid"], first.gid)
        self.assertEqual((await first.push(22099, same("reason", "ended_by_admin")))["state"], "ended")
        self.assertEqual((await admin.push(32401))["gid"], second.gid)
        self.assertEqual((await third.push(22098))["queue"]["position"], 1)
        # Writing takes a guest who waits, whatever the capacity.
        await admin.good_request(32300, gid=third.gid, msg="one moment please")
        self.assertEqual((await admin.push(32401))["gid"], third.gid)
        self.assertEqual(self.owner(third), ("serving", one))

    async def test_taking_from_the_queue(self) -> None:
        """A suspended admin picks a guest, or the next; two who pick the same one do not both get the guest."""
        alice, bob = await self.admin(self.alice, "alice"), await self.admin(self.bob, "bob")
        for admin in (alice, bob):
            await admin.good_request(32500, status=1)
        self.assertEqual(await alice.code(32020), -32021)
        guests = [await self.guest(f"guest {n}") for n in range(3)]
        for guest in guests:
            await guest.good_request(22000)
        picked = await alice.good_request(32020, gid=guests[1].gid)
        self.assertEqual(picked["gid"], guests[1].gid)
        replies = await all_of(*(admin.request(32020, gid=guests[0].gid) for admin in (alice, bob)))
        self.assertEqual(sorted(reply["code"] for reply in replies), [-32022, 200])
        [lost] = [reply for reply in replies if reply["code"] != 200]
        self.assertEqual(self.owner(guests[0]), ("serving", lost["data"]["admin_id"]))
        self.assertEqual((await bob.good_request(32020))["gid"], guests[2].gid)
        self.assertEqual(await bob.code(32020), -32021)

    async def test_a_waiting_guest_gives_up(self) -> None:
        """Who leaves the queue moves everybody behind up; a guest who has ended may write again and waits anew."""
        first, second = await self.guest("first"), await self.guest("second")
        for guest in (first, second):
            await guest.good_request(22000)
        await first.good_request(22060)
        self.assertEqual(await first.code(22060), -22061)
        self.assertEqual((await second.push(22098))["queue"], {"position": 1, "waiting": 1, "admins_online": 0})
        again = await first.good_request(22300, msg="I am back")
        self.assertEqual((again["state"], again["queue"]["position"]), ("queued", 2))

    async def test_capacity_raised_by_the_operator(self) -> None:
        """`chatproto admin capacity` takes effect at once: who waits is served."""
        one = self.daemon.add_admin(self.group_id, "One", 0)
        admin, guest = await self.admin(one, "one"), await self.guest()
        self.assertEqual((await guest.good_request(22000))["state"], "queued")
        await self.daemon.command_line("admin", "capacity", str(one), "1")
        self.assertEqual((await admin.push(32401))["gid"], guest.gid)


class LeavingTests(ServingTestCase):
    OPTIONS = SHORT_GRACE

    async def test_who_comes_back_in_time_keeps_the_guests(self) -> None:
        """A cut connection: colleagues see that at once, the guest sees nothing, all stay together."""
        alice = await self.admin(self.alice, "alice")
        guest = await self.served(alice)
        bob = await self.admin(self.bob, "bob")
        await alice.drop()
        await bob.push(33099, lambda data: data["aix"] == self.alice and data["status"] == 0)
        self.assertEqual(self.owner(guest), ("serving", self.alice))
        back = await self.admin(self.alice, "alice again")
        self.assertEqual(back.data["guest_list"][str(guest.gid)]["admin_id"], self.alice)
        sent = await guest.good_request(22300, msg="still there?")
        self.assertEqual((await back.push(32399))["message_info"], sent["message_info"])
        self.assertEqual([data["reason"] for data in guest.pushed(22099)], ["assigned"])

    async def test_who_stays_away_loses_those_who_wait_for_an_answer(self) -> None:
        """When the grace is over, a guest who wrote last goes to a colleague; one with an answer stays till writing."""
        alice = await self.admin(self.alice, "alice")
        answered, waiting = await self.served(alice, "answered"), await self.served(alice, "waiting")
        await alice.good_request(32300, gid=answered.gid, msg="hi")
        bob = await self.admin(self.bob, "bob")
        await alice.drop()
        arrived = await bob.push(32401)
        self.assertEqual((arrived["gid"], arrived["data"]["from_aix"]), (waiting.gid, None))
        told = await waiting.push(22099, lambda data: bool(data["admin"]) and data["admin"]["aix"] == self.bob)
        self.assertEqual(told["state"], "serving")
        self.assertEqual(self.owner(answered), ("serving", self.alice))
        await answered.good_request(22300, msg="and me?")
        self.assertEqual((await bob.push(32401))["gid"], answered.gid)

    async def test_a_log_out_grants_no_grace(self) -> None:
        """31020 of the last connection hands the waiting guests on at once; with another connection nothing happens."""
        desk, phone = await self.admin(self.alice, "desk"), await self.admin(self.alice, "phone")
        guest = await self.served(desk)
        bob = await self.admin(self.bob, "bob")
        await phone.good_request(31020)
        self.assertEqual((await phone.closed())[0], 1000)
        self.assertEqual(self.owner(guest), ("serving", self.alice))
        await desk.good_request(31020)
        self.assertEqual(self.owner(guest), ("serving", self.bob))
        self.assertEqual((await bob.push(32401))["gid"], guest.gid)
        self.assertEqual((await desk.closed())[0], 1000)

    async def test_nobody_left(self) -> None:
        """With nobody on line, the guest of a lost admin waits at the head of the queue, and the next login serves."""
        alice = await self.admin(self.alice, "alice")
        guest = await self.served(alice)
        later = await self.guest("later")
        await alice.drop()
        await eventually_queued(self, later)
        told = await guest.push(22099, same("reason", "admin_lost"))
        self.assertEqual((told["state"], told["queue"]["position"]), ("queued", 1))
        bob = await self.admin(self.bob, "bob")
        # Both were assigned by the login; its reply or pushes after it say so.
        served = [int(gid) for gid, entry in bob.data["guest_list"].items() if entry["state"] == "serving"]
        while len(served) < 2:
            served.append((await bob.push(32401))["gid"])
        self.assertEqual(set(served), {guest.gid, later.gid})
        rows = self.daemon.sql(
            "SELECT c.guest_id FROM service s JOIN conversation c ON c.id = s.conversation_id WHERE s.admin_id = %s"
            " AND s.ended_at IS NULL ORDER BY c.id",
            self.bob,
        )
        self.assertEqual([gid for (gid,) in rows], [guest.gid, later.gid])

    async def test_an_anonymous_guest_logs_out(self) -> None:
        """21020 ends the service, closes the other tabs, and the guest_token opens nothing any more."""
        alice = await self.admin(self.alice, "alice")
        guest = await self.served(alice)
        tab = await self.guest("tab", guest_token=guest.data["guest_token"])
        await guest.good_request(21020)
        self.assertEqual((await guest.closed())[0], 1000)
        self.assertEqual((await tab.closed())[0], 4001)
        self.assertEqual((await alice.push(32099, same("state", "ended")))["gid"], guest.gid)
        again = await self.client("again").connect(self.daemon.port)
        reply = await again.request(21000, call_type=1, guest_token=guest.data["guest_token"], group_id=self.group_id)
        self.assertEqual(reply["code"], -21002)


async def eventually_queued(test: ServingTestCase, guest: Client) -> None:
    """Start service for a guest once nobody is on line any more."""

    async def nobody() -> bool:
        rows = test.daemon.sql(
            "SELECT FROM session WHERE person_type = 3 AND group_id = %s AND ended_at IS NULL", test.group_id
        )
        return not rows

    await eventually(nobody, "nobody on line")
    test.assertEqual((await guest.good_request(22000))["state"], "queued")


class ExpiryTests(ServingTestCase):
    async def test_an_expired_token(self) -> None:
        """After exp: -9999, no pushes; a new login on the same connection works, and nothing was lost."""
        alice = await self.admin(self.alice, "alice", life=5)
        guest = await self.served(alice)

        async def expired() -> bool:
            return await alice.code(32500, status=0) == -9999

        await eventually(expired, "the end of the token")
        await eventually(lambda: self.silent(guest, alice), "silence")
        self.assertIsNone(alice.end)
        again = await alice.good_request(31000, call_type=3, token=token(admin_id=self.alice), v=2)
        last_seq = (await guest.good_request(22100))["last_seq"]
        self.assertEqual(again["guest_list"][str(guest.gid)]["last_seq"], last_seq)
        sent = await guest.good_request(22300, msg="welcome back")
        await alice.push(32399, lambda data: data["message_info"] == sent["message_info"])

    async def silent(self, guest: Client, admin: Client) -> bool:
        """Whether a message is stored and not pushed."""
        sent = await guest.good_request(22300, msg=f"{time.time()}")
        await admin.beat()
        return sent["message_info"] not in [data["message_info"] for data in admin.pushed(32399)]

    async def test_a_refresh_extends_the_connection(self) -> None:
        """A list with an ageing token brings a new one, and the connection lives on past the old one's end."""
        alice = await self.admin(self.alice, "alice", life=8, age=2)

        async def renewed() -> bool:
            reply = await alice.request(32000)
            self.assertEqual(reply["code"], 200)
            return bool(reply["data"]["is_refresh"])

        await eventually(renewed, "a new token")
        over_at = time.time() + 4

        async def over() -> bool:
            self.assertEqual(await alice.code(33000), 200)
            return time.time() > over_at

        await eventually(over, "the end of the first token")

    async def test_another_identity_on_a_live_connection(self) -> None:
        """A connection has one person: logging in as another is refused, and the first goes on."""
        alice = await self.admin(self.alice, "alice")
        self.assertEqual(await alice.code(31000, call_type=3, token=token(admin_id=self.bob)), -9994)
        self.assertEqual(await alice.code(21000, call_type=1, group_id=self.group_id), -9994)
        self.assertEqual(await alice.code(31000, call_type=3, token="rubbish"), -31001)
        self.assertEqual(await alice.code(22300, msg="x"), -9994)
        self.assertEqual(await alice.code(33000), 200)


class BanTests(ServingTestCase):
    async def test_a_banned_admin(self) -> None:
        """All connections are closed with 4001 at once, the guests go to a colleague, and no login works."""
        desk, phone = await self.admin(self.alice, "desk"), await self.admin(self.alice, "phone")
        guest = await self.served(desk)
        bob = await self.admin(self.bob, "bob")
        await self.daemon.command_line("admin", "ban", str(self.alice))
        for connection in (desk, phone):
            self.assertEqual((await connection.closed())[0], 4001)
        self.assertEqual((await bob.push(32401))["gid"], guest.gid)
        self.assertEqual(self.owner(guest), ("serving", self.bob))
        again = await self.client("again").connect(self.daemon.port)
        self.assertEqual(await again.code(31000, call_type=3, token=token(admin_id=self.alice)), -31003)
        await self.daemon.command_line("admin", "unban", str(self.alice))
        self.assertEqual(await again.code(31000, call_type=3, token=token(admin_id=self.alice)), 200)

    async def test_an_admin_moved_to_another_group(self) -> None:
        """Closed with 4000: the next login is in the new group, and the guests stay in the old one."""
        alice = await self.admin(self.alice, "alice")
        guest = await self.served(alice)
        bob = await self.admin(self.bob, "bob")
        other = self.daemon.add_group("other")
        await self.daemon.command_line("admin", "move", str(self.alice), "--group", str(other))
        self.assertEqual((await alice.closed())[0], 4000)
        self.assertEqual((await bob.push(32401))["gid"], guest.gid)
        again = await self.admin(self.alice, "again")
        self.assertEqual([entry["group_id"] for entry in again.data["admin_list"].values()], [other])

    async def test_a_banned_guest(self) -> None:
        """The service ends, the guest is told "banned" before 4001, and neither side can write any more."""
        alice = await self.admin(self.alice, "alice")
        who = token(sub=f"b{self.group_id}")
        guest = await self.served(alice, token=who)
        await self.daemon.command_line("guest", "ban", str(guest.gid))
        self.assertEqual((await guest.closed())[0], 4001)
        self.assertEqual([data["reason"] for data in guest.pushed(22099)][-1:], ["banned"])
        await alice.push(32099, same("state", "ended"))
        self.assertEqual(await alice.code(32300, gid=guest.gid, msg="x"), -32305)
        again = await self.client("again").connect(self.daemon.port)
        login = {"call_type": 1, "token": who, "group_id": self.group_id}
        self.assertEqual(await again.code(21000, **login), -21003)
        await self.daemon.command_line("guest", "unban", str(guest.gid))
        self.assertEqual(await again.code(21000, **login), 200)

    async def test_a_banned_group(self) -> None:
        """Everybody is closed with 4001; who served whom stays, for when the ban is lifted."""
        alice = await self.admin(self.alice, "alice")
        guest = await self.served(alice)
        await self.daemon.command_line("group", "ban", str(self.group_id))
        for connection in (alice, guest):
            self.assertEqual((await connection.closed())[0], 4001)
        self.assertEqual(self.owner(guest), ("serving", self.alice))
        again = await self.client("again").connect(self.daemon.port)
        self.assertEqual(await again.code(31000, call_type=3, token=token(admin_id=self.alice)), -31004)
        self.assertEqual(await again.code(21000, call_type=1, group_id=self.group_id), -21004)
        await self.daemon.command_line("group", "unban", str(self.group_id))
        back = await again.good_request(31000, call_type=3, token=token(admin_id=self.alice))
        self.assertEqual(back["guest_list"][str(guest.gid)]["admin_id"], self.alice)
