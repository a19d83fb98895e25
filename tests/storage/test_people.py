"""Groups, admins and guests: who is who, who may come in, and whose conversation is whose."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import DeferredList, gatherResults

from chatproto import errors
from chatproto.domain.model import OFFLINE, ONLINE, SUSPENDED, Person, Role
from chatproto.errors import StorageError
from chatproto.storage import history, people
from chatproto.storage.people import GuestRecord, Newcomer
from tests.worlds import WorldTestCase, age, guest_draft, new_customer, new_group, run

DAY = 86_400_000


class AdminTests(WorldTestCase):
    async def test_admin(self) -> None:
        """A login learns who the admin is, and whether admin or group are banned."""
        ann = self.admin()
        record = await people.admin(self.server.pool, ann.person.id)
        self.assertEqual(record, people.AdminRecord(ann.person, self.group, False, False))
        self.query("UPDATE admin SET status = 'banned'")
        self.query("UPDATE service_group SET status = 'banned'")
        record = await people.admin(self.server.pool, ann.person.id)
        self.assertEqual(record, people.AdminRecord(ann.person, self.group, True, True))
        self.assertIsNone(await people.admin(self.server.pool, 10**12))

    async def test_other_shop(self) -> None:
        """Admins, groups and guests of another shop are not found."""
        ann = self.admin()
        await self.guest()
        self.query("INSERT INTO shop (id, name) VALUES (2, 'another')")
        self.query("UPDATE service_group SET shop_id = 2")
        self.query("UPDATE guest SET shop_id = 2, external_id = 'c-1'")
        pool = self.server.pool
        self.assertIsNone(await people.admin(pool, ann.person.id))
        self.assertEqual(await people.groups(pool), {})
        self.assertIsNone(await people.guest_by_external_id(pool, "c-1"))

    async def test_list(self) -> None:
        """``admin_list`` shows all of the group but the banned, with status and guests."""
        ann, bob = await self.on_duty(capacity=2), await self.on_duty("Bob")
        cleo, banned = self.admin("Cleo"), await self.on_duty("Dan")
        await self.server.assignment.suspend(bob, True)
        self.query("UPDATE admin SET status = 'banned' WHERE id = %s", banned.person.id)
        await self.customer("serving")
        found = await people.admins(self.server.pool, self.group)
        self.assertEqual(
            [(each.person, each.status, each.guest_count, each.capacity) for each in found.values()],
            [(ann.person, ONLINE, 1, 2), (bob.person, SUSPENDED, 0, 10), (cleo.person, OFFLINE, 0, 10)],
        )
        self.assertEqual({(each.group_id, each.group_name) for each in found.values()}, {(self.group, "shop")})
        self.assertEqual(await people.admins(self.server.pool, new_group(self.dsn, "another")), {})

    async def test_some(self) -> None:
        """Only those asked for are listed."""
        ann, _ = self.admin(), self.admin("Bob")
        self.assertEqual(list(await people.admins(self.server.pool, self.group, [ann.person.id])), [ann.person.id])
        self.assertEqual(await people.admins(self.server.pool, self.group, []), {})

    async def test_persons(self) -> None:
        """Guests are shown name and avatar of an admin."""
        ann = self.admin()
        self.assertEqual(await people.persons(self.server.pool, [ann.person.id, 10**12]), {ann.person.id: ann.person})
        self.assertEqual(await people.persons(self.server.pool, []), {})

    async def test_admin_groups(self) -> None:
        """Of the admins who are connected, the group of each who is not banned."""
        ann, bob = self.admin(), self.admin("Bob")
        self.query("UPDATE admin SET status = 'banned' WHERE id = %s", bob.person.id)
        ids = [ann.person.id, bob.person.id, 10**12]
        self.assertEqual(await people.admin_groups(self.server.pool, ids), {ann.person.id: self.group})

    async def test_groups(self) -> None:
        """All groups, or those that are asked for, and which of them are banned; or not more than so many."""
        another = new_group(self.dsn, "another")
        self.query("UPDATE service_group SET status = 'banned' WHERE id = %s", another)
        pool = self.server.pool
        self.assertEqual(await people.groups(pool), {self.group: False, another: True})
        self.assertEqual(await people.groups(pool, [another, 10**12]), {another: True})
        self.assertEqual(await people.groups(pool, []), {})
        self.assertEqual(len(await people.groups(pool, limit=1)), 1)


class GuestTests(WorldTestCase):
    async def come(self, *, limit: int | None = None, ix: str = "tab", **guest: Any) -> tuple[int, Person, int]:
        newcomer = Newcomer(**{"group_id": self.group, **guest})
        return await people.come_in(self.server.pool, newcomer, self.server.node.id, ix, limit)

    async def anonymous(self, token: str) -> int:
        """The gid of a new one."""
        _, person, _ = await self.come(token=token, anew=True)
        return person.id

    async def test_token(self) -> None:
        """An anonymous guest comes back by the guest_token, of which only the hash is stored."""
        pool = self.server.pool
        came = await self.come(token="secret", anew=True)
        guest = GuestRecord(came[1], None, False)
        self.query("UPDATE guest_token SET last_used_at = 0")
        self.assertEqual(await people.guest_by_token(pool, "secret"), guest)
        [(stored, used)] = self.query("SELECT hash, last_used_at FROM guest_token")
        self.assertNotIn(b"secret", bytes(stored))
        self.assertGreater(used, 0)
        self.query("UPDATE guest_token SET last_used_at = 0")
        self.assertEqual(await self.come(token="secret"), came)
        self.assertGreater(self.query("SELECT last_used_at FROM guest_token")[0][0], 0)
        await people.revoke_tokens(pool, guest.person.id)
        for token in ("Secret", "secret"):
            self.assertIsNone(await people.guest_by_token(pool, token))
            with self.assertRaises(errors.GuestTokenRevoked):
                await self.come(token=token)

    async def test_customer(self) -> None:
        """A customer is made at the first login; later ones overwrite what the token says and leave the rest."""
        pool = self.server.pool
        _, first, _ = await self.come(external_id="c-1", name="Lee", profile='{"vip":1}')
        self.assertEqual(first, Person(Role.GUEST, first.id, "Lee", ""))
        _, again, _ = await self.come(external_id="c-1", avatar="a.png")
        self.assertEqual(again, Person(Role.GUEST, first.id, "Lee", "a.png"))
        self.assertEqual(self.query("SELECT profile FROM guest"), [('{"vip":1}',)])
        self.assertEqual(await people.guest_by_external_id(pool, "c-1"), GuestRecord(again, "c-1", False))
        _, other, _ = await self.come(external_id="C-1")
        self.assertNotEqual(other.id, first.id)
        _, empty, _ = await self.come(external_id="c-1", name="", profile="{}")
        self.assertEqual(empty, Person(Role.GUEST, first.id, "", "a.png"))
        self.assertEqual(self.query("SELECT profile FROM guest WHERE id = %s", first.id), [("{}",)])

    async def test_nothing_new(self) -> None:
        """Who comes back as before leaves the rows as they are: a restart is no storm of updates."""
        login: dict[str, Any] = {
            "external_id": "c-1",
            "name": "Lee",
            "avatar": "a.png",
            "profile": "{}",
            "context": '{"title":"a"}',
        }
        came = await self.come(**login)
        rows = "SELECT g.ctid::text, c.ctid::text FROM guest g JOIN conversation c ON c.guest_id = g.id"
        before = self.query(rows)
        self.assertEqual(await self.come(**login, ix="other"), came)
        self.assertEqual(self.query(rows), before)

    async def test_limit(self) -> None:
        """Of logins that come at the same moment no more are let in than a guest may have connections."""
        await self.come(external_id="c-1", ix="first")
        logins = [run(self.come(external_id="c-1", ix=f"tab{n}", limit=3)) for n in range(12)]
        results = await DeferredList(logins, consumeErrors=True)
        self.assertEqual(sum(succeeded for succeeded, _ in results), 2)
        for succeeded, result in results:
            if not succeeded:
                self.assertIsInstance(result.value, errors.TooManyConnections)
        self.assertEqual(self.query("SELECT count(*) FROM session"), [(3,)])

    async def test_first_logins_together(self) -> None:
        """A customer who opens many tabs at the very first moment is one guest with one conversation."""
        came = await gatherResults([run(self.come(external_id="c-1", ix=f"tab{n}")) for n in range(12)])
        self.assertEqual(len({person.id for _, person, _ in came}), 1)
        self.assertEqual(len({conversation_id for _, _, conversation_id in came}), 1)
        self.assertEqual(self.query("SELECT count(*) FROM session WHERE ended_at IS NULL"), [(12,)])

    async def test_given_up(self) -> None:
        """A node without a lease lets nobody in."""
        self.query("DELETE FROM node")
        with self.assertRaises(StorageError):
            await self.come(external_id="c-1")
        self.assertEqual(self.query("SELECT * FROM session"), [])

    async def test_become_customer(self) -> None:
        """An anonymous guest becomes the customer under the same gid; two cannot be the same customer."""
        pool = self.server.pool
        gid, other = await self.anonymous("one"), await self.anonymous("two")
        self.assertTrue(await people.become_customer(pool, gid, "c-1"))
        found = await people.guest_by_external_id(pool, "c-1")
        assert found is not None
        self.assertEqual(found.person.id, gid)
        with self.assertRaises(StorageError) as caught:
            await people.become_customer(pool, other, "c-1")
        self.assertEqual(caught.exception.sqlstate, "23505")
        for external_id in ("c-1", "c-2"):
            self.assertFalse(await people.become_customer(pool, gid, external_id))
        self.assertEqual(await people.guest_by_external_id(pool, "c-1"), found)
        self.assertIsNone(await people.guest_by_external_id(pool, "c-2"))

    async def test_conversation(self) -> None:
        """A guest has one conversation with each group; a login without context leaves the last one."""
        pool, another = self.server.pool, new_group(self.dsn, "another")
        _, person, first = await self.come(token="one", anew=True, context='{"title":"a"}')
        gid = person.id
        self.assertEqual((await self.come(token="one"))[2], first)
        self.assertEqual(self.query("SELECT context FROM conversation"), [('{"title":"a"}',)])
        await self.come(token="one", context='{"title":"b"}')
        self.assertEqual(self.query("SELECT context FROM conversation"), [('{"title":"b"}',)])
        await people.set_context(pool, first, "{}")
        self.assertEqual(self.query("SELECT context FROM conversation"), [("{}",)])
        second = (await self.come(token="one", group_id=another))[2]
        self.assertNotEqual(second, first)
        await self.anonymous("two")
        found = await people.conversations_of_guest(pool, gid)
        self.assertEqual(found, [(self.group, first), (another, second)])

    async def test_move_conversation(self) -> None:
        """A conversation that goes to the customer keeps its messages, and the customer is who wrote them."""
        ann = await self.on_duty()
        guest = await self.customer("serving")
        assert guest.conversation_id is not None
        await self.server.journal.append(guest_draft(guest, cmid="a"))
        await self.server.answer(ann, guest)
        pool = self.server.pool
        customer = new_customer(self.dsn, "c-1", "Lee")
        before = self.column(guest, "rev")
        await people.move_conversation(pool, guest.conversation_id, customer.id)
        entry = (await history.by_ids(pool, [guest.conversation_id]))[guest.conversation_id]
        self.assertEqual((entry.guest, entry.external_id), (customer, "c-1"))
        self.assertEqual((entry.rev, entry.step_rev), (before + 1, before + 1))
        found = await history.messages(pool, entry, newest=True, limit=9)
        self.assertEqual([message.sender for message in found], [customer, ann.person])

    async def test_banned(self) -> None:
        """Which of the connected guests are banned is asked for all of them at once."""
        guests = [await self.guest() for _ in range(3)]
        self.query("UPDATE guest SET status = 'banned' WHERE id = %s", guests[1].person.id)
        gids = [guest.person.id for guest in guests]
        self.assertEqual(await people.banned_guests(self.server.pool, gids), {gids[1]})


class RatingTests(WorldTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.ann = await self.on_duty()
        self.lee = await self.guest()

    async def served(self, *, answered: bool = True) -> None:
        await self.server.say(self.lee)
        if answered:
            await self.server.answer(self.ann, self.lee)

    async def end(self) -> None:
        await self.server.assignment.end_by_guest(self.lee)

    async def rate(self, score: int = 5, text: str | None = None) -> bool | None:
        assert self.lee.conversation_id is not None
        return await people.rate(self.server.pool, self.lee.conversation_id, score, text, DAY)

    def scores(self) -> list[tuple[object, ...]]:
        return self.query("SELECT score, score_text FROM service ORDER BY id")

    async def test_nothing(self) -> None:
        """Without a service, or with one in which no admin wrote, there is nothing to rate."""
        self.assertIsNone(await self.rate())
        await self.served(answered=False)
        self.assertIsNone(await self.rate())

    async def test_going_on(self) -> None:
        """A service can be rated while it goes on, once."""
        await self.served()
        self.assertIs(await self.rate(4, "quick"), True)
        self.assertIs(await self.rate(1), False)
        await self.end()
        self.assertIs(await self.rate(1), False)
        self.assertEqual(self.scores(), [(4, "quick")])

    async def test_ended(self) -> None:
        """A service can be rated for a day after its end."""
        await self.served()
        await self.end()
        age(self.dsn, DAY - 60_000)
        self.assertIs(await self.rate(), True)
        self.query("UPDATE service SET score = NULL")
        age(self.dsn, 60_000)
        self.assertIsNone(await self.rate())

    async def test_newest_with_an_answer(self) -> None:
        """It is the newest service in which an admin wrote that is rated."""
        for answered in (True, True, False):
            await self.served(answered=answered)
            await self.end()
        self.assertIs(await self.rate(3), True)
        self.assertEqual(self.scores(), [(None, None), (3, None), (None, None)])
        self.assertIs(await self.rate(3), False)
