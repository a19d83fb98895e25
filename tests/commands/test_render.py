from __future__ import annotations

import orjson
from hypothesis import given
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from chatproto.commands import render
from chatproto.domain.model import EMPTY, ENDED, NEW, QUEUED, SERVING, Handover, QueuePlace, Standing
from chatproto.wire.codes import PUSH_GUEST_MESSAGE
from chatproto.wire.frame import push, reply
from tests.commands.samples import (
    ADMIN_FIELDS,
    ANN,
    BOB,
    ENTRY_FIELDS,
    GID,
    GROUP,
    GUS,
    MESSAGE_FIELDS,
    conversation,
    desk,
    message,
    read,
)
from tests.wire.samples import checked, texts, values

#: Bodies that a decoder and an encoder would not give back as they came.
ODD_BODIES = (
    '"a\\u00e9\\/b"',
    '"\u4f60\u597d \U0001f600"',
    '{ "url" : "https://x/1.png",\n "b":1,"a":2, "a":3 }',
    '{"price":1.10,"big":123456789012345678901234567890,"e":1E400}',
    "[]",
    "007",
)


class Messages(SynchronousTestCase):
    def test_fields(self) -> None:
        """A message_info holds what the document lists, no more and no less."""
        info = read(render.message_info(message(5, file_type=1, cmid="c-1", body='{"url":"u"}')))
        self.assertEqual(info.keys(), MESSAGE_FIELDS)
        sender = {"type": "guest", "id": GID, "name": "Gus", "avatar": "https://shop/gus.png"}
        self.assertEqual(
            info,
            {
                "gid": GID,
                "group_id": GROUP,
                "seq": 5,
                "sender": sender,
                "msg": {"url": "u"},
                "file_type": 1,
                "cmid": "c-1",
                "created_at": 1_700_000_000_005,
            },
        )
        self.assertIsNone(read(render.message_info(message(5)))["cmid"])

    def test_of_admin(self) -> None:
        """A message of an admin names the guest of the conversation, and the admin as its sender."""
        info = read(render.message_info(message(6, ANN)))
        self.assertEqual(info["gid"], GID)
        self.assertEqual(info["sender"], {"type": "admin", "id": 7, "name": "Ann", "avatar": "https://shop/ann.png"})

    def test_bytes(self) -> None:
        """What a client sent comes back byte for byte: escapes, spaces, order, numbers of any size."""
        for body in ODD_BODIES:
            info = render.message_info(message(body=body))
            for frame in (
                push(PUSH_GUEST_MESSAGE, {"message_info": info}),
                reply(32100, {"recs": {"5": info}}, "r"),
                orjson.dumps(render.guest_entry(conversation(last_message=message(body=body)))),
            ):
                self.assertIn(b',"msg":%b,"file_type":' % body.encode(), frame)

    @checked
    @given(values, texts, texts)
    def test_any(self, value: object, name: str, cmid: str) -> None:
        """No name and no message can break the frame around it."""
        body = orjson.dumps(value).decode()
        sender = type(GUS)(GUS.role, GUS.id, name, name)
        info = read(render.message_info(message(sender=sender, body=body, cmid=cmid)))
        self.assertEqual(info.keys(), MESSAGE_FIELDS)
        self.assertEqual((info["sender"]["name"], info["cmid"]), (name, cmid))
        self.assertEqual(info["msg"], orjson.loads(body))

    def test_recs(self) -> None:
        """recs is an object by seq, everywhere."""
        found = read(render.recs([message(9), message(10, ANN)]))
        self.assertEqual({seq: info["seq"] for seq, info in found.items()}, {"9": 9, "10": 10})
        self.assertEqual(render.recs([]), {})

    def test_recalled(self) -> None:
        """What was recalled, and the recall, say so in one field more; no other message has it."""
        usual = message(9, body=EMPTY)
        gone, recall = read(render.recs([replace(usual, recalled=True), replace(usual, seq=10, recalls=9)])).values()
        self.assertEqual(gone, {**read(render.message_info(usual)), "recalled": True})
        self.assertEqual(recall, {**read(render.message_info(usual)), "seq": 10, "recalls": 9})

    def test_recs_of_the_given_document(self) -> None:
        """Its clients are shown no recall, but in its place the message that was recalled."""
        found = [message(9, body=EMPTY, recalled=True), message(10, body=EMPTY, recalls=9), message(11)]
        self.assertEqual(list(render.recs(found)), ["9", "10", "11"])
        self.assertEqual(list(render.recs(found, 2)), ["9", "10", "11"])
        self.assertEqual(list(render.recs(found, 1)), ["9", "11"])
        handover = Handover(None, 7, None, 1234)
        self.assertEqual(list(render.handed(handover, conversation(), found, 1)["recs"]), ["9", "11"])


class Entries(SynchronousTestCase):
    def test_guest(self) -> None:
        """A guest_list entry holds what the document lists; unread and read_seq are those of the admin."""
        entry = read(render.guest_entry(conversation()))
        self.assertEqual(entry.keys(), ENTRY_FIELDS)
        self.assertEqual(
            entry,
            {
                "gid": GID,
                "external_id": "customer-1",
                "group_id": GROUP,
                "name": "Gus",
                "avatar": "https://shop/gus.png",
                "online": True,
                "state": "serving",
                "admin_id": 7,
                "unread": 2,
                "last_seq": 25,
                "read_seq": 21,
                "guest_read_seq": 22,
                "last_message": read(render.message_info(message(25))),
                "last_time": 1_700_000_000_025,
                "queued_at": None,
                "profile": {"vip": True},
                "context": {"page_url": "https://shop/1"},
            },
        )

    def test_nulls(self) -> None:
        """Who ended has no admin, who waits a time, the anonymous no id of the shop, the silent no last message."""
        ended = read(render.guest_entry(conversation(state=ENDED, admin_id=7, ended_at=5)))
        self.assertIsNone(ended["admin_id"])
        queued = read(render.guest_entry(conversation(state=QUEUED, admin_id=None, queued_at=77)))
        self.assertEqual((queued["admin_id"], queued["queued_at"]), (None, 77))
        new = read(render.guest_entry(conversation(state=NEW, admin_id=None, external_id=None, last_message=None)))
        self.assertEqual((new["external_id"], new["last_message"]), (None, None))
        for entry in (ended, queued, new):
            self.assertEqual(entry.keys(), ENTRY_FIELDS)

    def test_profile_and_context(self) -> None:
        """Profile and context are kept as they are."""
        entry = render.guest_entry(conversation(profile='{ "a":1.0, "a":2 }', context="{}"))
        self.assertIn(b'"profile":{ "a":1.0, "a":2 },"context":{}', orjson.dumps(entry))

    def test_guest_list(self) -> None:
        """guest_list is keyed by gid."""
        self.assertEqual(read(render.guest_list([conversation()])), {"12": read(render.guest_entry(conversation()))})

    def test_handover(self) -> None:
        """An entry of the list says how a guest came whom a colleague transferred; others say nothing of it."""
        entry = conversation()
        shown = read(
            render.guest_list([entry], {entry.id: Handover(8, 7, "likes tea", 1234), 0: Handover(9, 7, None, 5)})
        )
        told = {"from_aix": 8, "to_aix": 7, "note": "likes tea", "at": 1234}
        self.assertEqual(shown, {"12": {**read(render.guest_entry(entry)), "handover": told}})

    def test_admin(self) -> None:
        """An admin_list entry holds what the document lists; aix equals admin_id; keyed by it."""
        entry = render.admin_entry(desk(BOB, status=2))
        self.assertEqual(entry.keys(), ADMIN_FIELDS)
        self.assertEqual(
            entry,
            {
                "aix": 8,
                "admin_id": 8,
                "name": "Bob",
                "avatar": "",
                "group_id": GROUP,
                "group_name": "Shoes",
                "status": 2,
                "guest_count": 4,
                "capacity": 6,
            },
        )
        self.assertEqual(render.admin_list([desk(BOB, status=2)]), {"8": entry})


class Standings(SynchronousTestCase):
    def test_served(self) -> None:
        """A served guest sees the admin's number, name and picture."""
        self.assertEqual(
            render.standing(Standing(SERVING, ANN, None)),
            {
                "state": "serving",
                "admin": {"aix": 7, "name": "Ann", "avatar": "https://shop/ann.png"},
                "queue": None,
            },
        )

    def test_waiting(self) -> None:
        """Who waits sees the place, how many wait and how many admins are there."""
        self.assertEqual(
            render.standing(Standing(QUEUED, None, QueuePlace(2, 5, 3))),
            {"state": "queued", "admin": None, "queue": {"position": 2, "waiting": 5, "admins_online": 3}},
        )
        self.assertEqual(render.standing(Standing(NEW, None, None)), {"state": "new", "admin": None, "queue": None})


class Handing(SynchronousTestCase):
    def test_fields(self) -> None:
        """32400, 32401, 32402 and 32020 carry the same four fields; a note that is none is null."""
        handover = Handover(8, 7, "wants a refund", 1234)
        found = read(render.handed(handover, conversation(), [message(24), message(25)]))
        self.assertEqual(found.keys(), {"gid", "data", "guest_info", "recs"})
        self.assertEqual(found["gid"], GID)
        self.assertEqual(found["data"], {"from_aix": 8, "to_aix": 7, "note": "wants a refund", "at": 1234})
        self.assertEqual(found["guest_info"], read(render.guest_entry(conversation())))
        self.assertEqual(found["recs"].keys(), {"24", "25"})
        taken = read(render.handed(Handover(None, 7, None, 1234), conversation(), []))
        self.assertEqual(taken["data"], {"from_aix": None, "to_aix": 7, "note": None, "at": 1234})
        self.assertEqual(taken["recs"], {})
