from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatproto import errors
from chatproto.errors import ChatError
from chatproto.wire import bodies, codes
from chatproto.wire.bodies import Limits
from chatproto.wire.frame import BadFrame
from tests.wire.samples import NO_IDS, NO_INTEGERS, NO_STRINGS, checked, each, frame, values, written

REQUESTS: dict[int, Any] = {
    codes.ADMIN_LOGIN: bodies.AdminLogin,
    codes.ADMIN_LOGOUT: bodies.AdminLogout,
    codes.CHAT_LIST: bodies.ChatList,
    codes.TAKE_GUEST: bodies.TakeGuest,
    codes.END_SERVICE: bodies.EndService,
    codes.CHAT_CONTENT: bodies.ChatContent,
    codes.MARK_READ: bodies.MarkRead,
    codes.SEND_TO_GUEST: bodies.SendToGuest,
    codes.RECALL: bodies.Recall,
    codes.TYPING: bodies.Typing,
    codes.TRANSFER: bodies.Transfer,
    codes.SUSPEND: bodies.Suspend,
    codes.ADMINS_ONLINE: bodies.AdminsOnline,
    codes.GUEST_LOGIN: bodies.GuestLogin,
    codes.GUEST_LOGOUT: bodies.GuestLogout,
    codes.GUEST_START: bodies.GuestStart,
    codes.GUEST_END: bodies.GuestEnd,
    codes.GUEST_HISTORY: bodies.GuestHistory,
    codes.GUEST_MARK_READ: bodies.GuestMarkRead,
    codes.GUEST_SEND: bodies.GuestSend,
    codes.GUEST_RECALL: bodies.GuestRecall,
    codes.GUEST_TYPING: bodies.GuestTyping,
    codes.GUEST_CONTEXT: bodies.GuestContext,
    codes.GUEST_RATE: bodies.GuestRate,
}

#: Parameters of any request, for requests that are mostly right.
PARAMETERS = [
    *("call_type", "token", "guest_token", "v", "state", "page_index", "page_size", "before_seq", "after_seq", "seq"),
    *("gid", "group_id", "aix", "note", "status", "msg", "file_type", "cmid", "context", "score", "text"),
    "typing",
]


class BodyCase(SynchronousTestCase):
    request: Any

    def decode(self, **fields: object) -> Any:
        return self.request.decode(frame(**fields), Limits())

    def assert_error(self, error: type[ChatError], **fields: object) -> None:
        raised = self.assertRaises(ChatError, self.request.decode, frame(**fields), Limits())
        self.assertEqual((type(raised), raised.data), (error, {}), fields)

    def assert_blames(self, field: str, **fields: object) -> None:
        raised = self.assertRaises(errors.Malformed, self.request.decode, frame(**fields), Limits())
        self.assertEqual(raised.data, {"field": field}, fields)

    def assert_id(self, name: str, missing: type[ChatError] | None, **others: object) -> None:
        """*name* is an id of this request; when it is missing, *missing* is the answer, or None its value."""
        for value in each(1, "1", 2**63 - 1, "9" * 18):
            self.assertEqual(getattr(self.decode(**others, **{name: value}), name), int(value))
        absents: tuple[dict[str, object], ...] = ({}, {name: None}, {name: ""}, {name: 0}, {name: "0"})
        for absent in absents:
            if missing is None:
                self.assertIsNone(getattr(self.decode(**others, **absent), name))
            else:
                self.assert_error(missing, **others, **absent)
        for wrong in NO_IDS:
            self.assert_blames(name, **others, **{name: wrong})

    def assert_optional_text(self, name: str, most: int | None, **others: object) -> None:
        for value in each("a", "你" * (most or 9000)):
            self.assertEqual(getattr(self.decode(**others, **{name: value}), name), value)
        absents: tuple[dict[str, object], ...] = ({}, {name: None}, {name: ""})
        for absent in absents:
            self.assertIsNone(getattr(self.decode(**others, **absent), name))
        for value in NO_STRINGS if most is None else (*NO_STRINGS, "a" * (most + 1)):
            self.assert_blames(name, **others, **{name: value})

    def assert_seq(self, name: str, **others: object) -> None:
        for value, meant in each((0, 0), (7, 7), ("7", 7), (2**63, 2**53 - 1)):
            self.assertEqual(getattr(self.decode(**others, **{name: value}), name), meant)
        absents: tuple[dict[str, object], ...] = ({}, {name: None}, {name: ""})
        for absent in absents:
            self.assertIsNone(getattr(self.decode(**others, **absent), name))
        for wrong in each(*NO_INTEGERS, -1, "-1"):
            self.assert_blames(name, **others, **{name: wrong})

    def assert_needed_seq(self, missing: type[ChatError], **others: object) -> None:
        for value, meant in each((0, 0), (7, 7), ("7", 7), (2**63, 2**53 - 1)):
            self.assertEqual(self.decode(**others, seq=value).seq, meant)
        absents: tuple[dict[str, object], ...] = ({}, {"seq": None}, {"seq": ""})
        for absent in absents:
            self.assert_error(missing, **others, **absent)
        for wrong in each(*NO_INTEGERS, -1, "-1"):
            self.assert_blames("seq", **others, seq=wrong)

    def assert_typing(self, **others: object) -> None:
        for value, meant in each((True, True), (False, False), (None, True), ("", True)):
            self.assertIs(self.decode(**others, typing=value).typing, meant)
        self.assertIs(self.decode(**others).typing, True)
        for wrong in each(0, 1, "true", "x", 1.0, [], {}):
            self.assert_blames("typing", **others, typing=wrong)

    def assert_page_size(self, **others: object) -> None:
        for value, meant in each((None, 10), ("", 10), (0, 10), (1, 1), ("100", 100), (101, 100), (2**63, 100)):
            self.assertEqual(self.decode(**others, page_size=value).page_size, meant)
        for wrong in each(*NO_INTEGERS, -1, "-1"):
            self.assert_blames("page_size", **others, page_size=wrong)

    def assert_page_index(self, **others: object) -> None:
        for value, meant in each((None, 1), ("", 1), (0, 1), (1, 1), ("3", 3)):
            self.assertEqual(self.decode(**others, page_index=value).page_index, meant)
        for wrong in each(*NO_INTEGERS, -1, "-1"):
            self.assert_blames("page_index", **others, page_index=wrong)

    def assert_before_and_after(self, **others: object) -> None:
        self.assert_seq("before_seq", **others)
        self.assert_seq("after_seq", **others)
        self.assert_blames("after_seq", **others, before_seq=5, after_seq=1)
        self.assert_blames("after_seq", **others, before_seq=0, after_seq=0)
        self.assertEqual(self.decode(**others, before_seq=5, after_seq=None).before_seq, 5)


class Tables(SynchronousTestCase):
    def test_every_command_has_a_request(self) -> None:
        """No command of the protocol is forgotten, and no request is without a command."""
        self.assertEqual(set(REQUESTS), codes.ADMIN_COMMANDS | codes.GUEST_COMMANDS)
        found = {
            made
            for made in vars(bodies).values()
            if inspect.isclass(made) and made.__module__ == bodies.__name__ and not made.__name__.startswith("_")
        }
        self.assertEqual(found, set(REQUESTS.values()))

    def test_frozen_and_slotted(self) -> None:
        """A request cannot change while it waits, and carries nothing besides its parameters."""
        for request in REQUESTS.values():
            self.assertTrue(request.__struct_config__.frozen)
            self.assertEqual(request.__dictoffset__, 0, request)

    def test_every_request_says_its_number(self) -> None:
        """Who reads a request finds its command in the protocol."""
        for number, request in REQUESTS.items():
            self.assertTrue(request.__doc__.startswith(f"{number}: "), request)

    def test_without_parameters(self) -> None:
        """Requests without parameters take anything: unknown fields are ignored."""
        for request in (
            bodies.AdminLogout,
            bodies.AdminsOnline,
            bodies.GuestLogout,
            bodies.GuestStart,
            bodies.GuestEnd,
        ):
            self.assertEqual(request.decode(frame(gid=True, x=[1]), Limits()), request())

    def test_limits_are_the_documented_ones(self) -> None:
        """Without configuration the bounds of the protocol hold."""
        self.assertEqual(
            dataclasses.asdict(Limits()),
            {
                "max_url": 2048,
                "max_profile": 4096,
                "max_note": 500,
                "max_text": 5000,
                "max_body": 16384,
                "max_page": 100,
            },
        )

    @checked
    @given(st.sampled_from(sorted(REQUESTS)), st.dictionaries(st.sampled_from(PARAMETERS), values))
    def test_any_values(self, number: int, fields: dict[str, Any]) -> None:
        """Whatever the parameters are, there is one typed request or one error that this command may answer."""
        self.check(number, fields)

    @checked
    @given(
        st.sampled_from(sorted(REQUESTS)),
        st.fixed_dictionaries({name: st.sampled_from([1, 3, "1", "x"]) for name in PARAMETERS}),
        st.dictionaries(st.sampled_from(PARAMETERS), values, max_size=2),
    )
    def test_nearly_right_values(self, number: int, right: dict[str, Any], wrong: dict[str, Any]) -> None:
        """The same, where most parameters are plausible."""
        self.check(number, right | wrong)

    def check(self, number: int, fields: dict[str, Any]) -> None:
        request = REQUESTS[number]
        try:
            read = frame(**fields)
        except BadFrame:  # a heartbeat is none of the commands
            return
        try:
            decoded = request.decode(read, Limits())
        except ChatError as error:
            if type(error) is errors.Malformed:
                self.assertIn(error.data["field"], PARAMETERS)
            else:
                self.assertTrue(0 < -error.code - number < 20, error)
        else:
            self.assertIs(type(decoded), request)
            hash(decoded)


class AdminLogin(BodyCase):
    request = bodies.AdminLogin

    def test_login(self) -> None:
        """An old client's login is one of version 1."""
        self.assertEqual(self.decode(call_type=3, token="t"), bodies.AdminLogin("t", 1))
        self.assertEqual(self.decode(call_type="3", token="t"), bodies.AdminLogin("t", 1))

    def test_call_type(self) -> None:
        """At login the call_type must be that of an admin."""
        for wrong in each(1, "1", 2, None, "", True, 3.0, [], "x"):
            self.assert_blames("call_type", call_type=wrong, token="t")
        self.assert_blames("call_type", token="t")
        self.assert_blames("call_type")

    def test_token(self) -> None:
        """A token that is missing or no string cannot be parsed."""
        self.assert_error(errors.AdminTokenBad, call_type=3)
        for wrong in each(None, "", *NO_STRINGS):
            self.assert_error(errors.AdminTokenBad, call_type=3, token=wrong)

    def test_v(self) -> None:
        """2 or more asks for the pushes of part 2."""
        cases: tuple[tuple[object, int], ...] = ((None, 1), ("", 1), (0, 1), (1, 1), (-3, 1), (2, 2), ("2", 2), (3, 2))
        for value, meant in cases:
            self.assertEqual(self.decode(call_type=3, token="t", v=value).v, meant)
        for wrong in NO_INTEGERS:
            self.assert_blames("v", call_type=3, token="t", v=wrong)


class ChatList(BodyCase):
    request = bodies.ChatList

    def test_plain(self) -> None:
        """An old client asks for the list without parameters."""
        self.assertEqual(self.decode(), bodies.ChatList(None, 1))

    def test_state(self) -> None:
        """A state of the protocol or none; "" and null are none."""
        for state in ("new", "queued", "serving", "ended"):
            self.assertEqual(self.decode(state=state, page_index=2), bodies.ChatList(state, 2))
        for missing in (None, ""):
            self.assertIsNone(self.decode(state=missing).state)
        for wrong in each(*NO_STRINGS, "Ended", "x"):
            self.assert_blames("state", state=wrong)

    def test_page_index(self) -> None:
        """Pages count from 1."""
        self.assert_page_index(state="ended")


class TakeGuest(BodyCase):
    request = bodies.TakeGuest

    def test_gid(self) -> None:
        """A guest, or whoever waits longest."""
        self.assert_id("gid", None)


class EndService(BodyCase):
    request = bodies.EndService

    def test_gid(self) -> None:
        """The guest must be named."""
        self.assert_id("gid", errors.EndGidMissing)


class ChatContent(BodyCase):
    request = bodies.ChatContent

    def test_plain(self) -> None:
        """The defaults are those of the given document."""
        self.assertEqual(self.decode(gid=1, group_id=2), bodies.ChatContent(1, 2, 1, 10, None, None))

    def test_ids(self) -> None:
        """Each id has its own code, and gid is judged first."""
        self.assert_id("gid", errors.ContentGidMissing, group_id=1)
        self.assert_id("group_id", errors.ContentGroupMissing, gid=1)
        self.assert_error(errors.ContentGidMissing)
        self.assert_error(errors.ContentGidMissing, group_id="x", page_size=-1)
        self.assert_blames("gid", gid=-1)
        self.assert_error(errors.ContentGroupMissing, gid=1, page_index=-1)

    def test_pages(self) -> None:
        """page_index, page_size and the seqs obey the protocol."""
        self.assert_page_index(gid=1, group_id=2)
        self.assert_page_size(gid=1, group_id=2)
        self.assert_before_and_after(gid=1, group_id=2)


class MarkRead(BodyCase):
    request = bodies.MarkRead

    def test_ids(self) -> None:
        """Each id has its own code, and gid is judged first."""
        self.assert_id("gid", errors.ReadGidMissing, group_id=1)
        self.assert_id("group_id", errors.ReadGroupMissing, gid=1)
        self.assert_error(errors.ReadGidMissing, group_id="x", seq=-1)
        self.assert_error(errors.ReadGroupMissing, gid=1, seq=-1)

    def test_seq(self) -> None:
        """Without a seq everything is read; 0 is a seq."""
        self.assert_seq("seq", gid=1, group_id=2)


class SendToGuest(BodyCase):
    request = bodies.SendToGuest

    def test_plain(self) -> None:
        """An old client sends a gid and a text."""
        self.assertEqual(self.decode(gid=7, msg="a"), bodies.SendToGuest(7, None, (0, '"a"')))

    def test_gid(self) -> None:
        """The guest must be named, whatever the message is."""
        self.assert_id("gid", errors.SendGidMissing)
        self.assert_error(errors.SendGidMissing, cmid=5)

    def test_cmid(self) -> None:
        """A malformed cmid is refused before the message is judged: nothing can be repeated by it."""
        self.assert_optional_text("cmid", 64, gid=7)
        self.assert_optional_text("cmid", 64, gid=7, msg="a")

    def test_bad_content(self) -> None:
        """What is wrong with the message waits, because a repeat of its cmid is answered first."""
        cases: tuple[tuple[dict[str, object], type[ChatError]], ...] = (
            ({}, errors.SendMsgMissing),
            ({"msg": "a", "file_type": 7}, errors.SendKindUnknown),
            ({"msg": True}, errors.SendMsgBad),
        )
        for fields, error in cases:
            decoded = self.decode(gid=7, cmid="c", **fields)
            self.assertEqual((decoded.gid, decoded.cmid, type(decoded.content)), (7, "c", error))

    def test_exact_body(self) -> None:
        """A product leaves as it came."""
        decoded = bodies.SendToGuest.decode(written('"gid":7,"file_type":3,"msg":{ "price":1.50}'), Limits())
        self.assertEqual(decoded.content, (3, '{ "price":1.50}'))


class Recall(BodyCase):
    request = bodies.Recall

    def test_gid(self) -> None:
        """Whose message is to be recalled is missed first, and with a code of its own."""
        self.assert_id("gid", errors.RecallGidMissing, seq=1)
        self.assert_error(errors.RecallGidMissing)

    def test_seq(self) -> None:
        """Which message is to be recalled has to be said; 0 is a place, if one without a message."""
        self.assert_needed_seq(errors.RecallSeqMissing, gid=1)


class Typing(BodyCase):
    request = bodies.Typing

    def test_gid(self) -> None:
        """Whom the admin writes to has to be said."""
        self.assert_id("gid", errors.TypingGidMissing)

    def test_typing(self) -> None:
        """Who says nothing types."""
        self.assert_typing(gid=1)


class Transfer(BodyCase):
    request = bodies.Transfer

    def test_ids(self) -> None:
        """Each id has its own code, and gid is judged first."""
        self.assert_id("gid", errors.TransferGidMissing, aix=1)
        self.assert_id("aix", errors.TransferAixMissing, gid=1)
        self.assert_error(errors.TransferGidMissing, aix="x", note=5)
        self.assert_error(errors.TransferAixMissing, gid=1, note=5)

    def test_note(self) -> None:
        """A note is optional; 500 characters at most."""
        self.assert_optional_text("note", 500, gid=1, aix=2)


class Suspend(BodyCase):
    request = bodies.Suspend

    def test_status(self) -> None:
        """0 resumes, 1 suspends, everything else has one code."""
        for value, meant in each((0, False), ("0", False), (1, True), ("1", True)):
            self.assertIs(self.decode(status=value).suspended, meant)
        self.assert_error(errors.SuspendStatusBad)
        for wrong in each(None, "", 2, -1, "2", True, False, 0.0, 1.0, 1.5, "x", [], {}):
            self.assert_error(errors.SuspendStatusBad, status=wrong)


class GuestLogin(BodyCase):
    request = bodies.GuestLogin

    def test_anonymous(self) -> None:
        """A guest needs no token."""
        self.assertEqual(self.decode(call_type=1), bodies.GuestLogin(None, None, None, None))

    def test_everything(self) -> None:
        """Both tokens may come together."""
        decoded = self.decode(call_type="1", token="t", guest_token="g", group_id="3", context={"title": "x"})
        self.assertEqual(decoded, bodies.GuestLogin("t", "g", 3, '{"title":"x"}'))

    def test_call_type(self) -> None:
        """At login the call_type must be that of a guest."""
        for wrong in each(3, "3", None, "", True, 1.0, [], "x"):
            self.assert_blames("call_type", call_type=wrong)
        self.assert_blames("call_type")

    def test_parameters(self) -> None:
        """All are optional, none may be of another type."""
        self.assert_optional_text("token", None, call_type=1)
        self.assert_optional_text("guest_token", None, call_type=1)
        self.assert_id("group_id", None, call_type=1)
        for wrong in each(5, True, "x", [], {"page_url": 5}, {"referrer": "u" * 2049}):
            self.assert_blames("context", call_type=1, context=wrong)


class GuestHistory(BodyCase):
    request = bodies.GuestHistory

    def test_pages(self) -> None:
        """Without a seq the newest page, of 10."""
        self.assertEqual(self.decode(), bodies.GuestHistory(10, None, None))
        self.assert_page_size()
        self.assert_before_and_after()


class GuestMarkRead(BodyCase):
    request = bodies.GuestMarkRead

    def test_seq(self) -> None:
        """Without a seq everything is read; 0 is a seq."""
        self.assert_seq("seq")


class GuestSend(BodyCase):
    request = bodies.GuestSend

    def test_plain(self) -> None:
        """A guest's message needs no gid."""
        self.assertEqual(self.decode(msg="a"), bodies.GuestSend(None, (0, '"a"')))

    def test_cmid(self) -> None:
        """A malformed cmid is refused before the message is judged."""
        self.assert_optional_text("cmid", 64)

    def test_bad_content(self) -> None:
        """The errors are those of 22300."""
        cases: tuple[tuple[dict[str, object], type[ChatError]], ...] = (
            ({}, errors.GuestMsgMissing),
            ({"msg": "a", "file_type": 7}, errors.GuestKindUnknown),
            ({"msg": True}, errors.GuestMsgBad),
        )
        for fields, error in cases:
            decoded = self.decode(cmid="c", **fields)
            self.assertEqual((decoded.cmid, type(decoded.content)), ("c", error))


class GuestRecall(BodyCase):
    request = bodies.GuestRecall

    def test_seq(self) -> None:
        """Which message is to be recalled has to be said."""
        self.assert_needed_seq(errors.GuestRecallSeqMissing)


class GuestTyping(BodyCase):
    request = bodies.GuestTyping

    def test_typing(self) -> None:
        """Who says nothing types."""
        self.assert_typing()


class GuestContext(BodyCase):
    request = bodies.GuestContext

    def test_context(self) -> None:
        """An object, kept as it is; {} is one, and there must be one."""
        for text in ("{}", '{"product":{"price": 1.50},"page_url":"https://a"}'):
            self.assertEqual(bodies.GuestContext.decode(written(f'"context":{text}'), Limits()).context, text)
        self.assert_blames("context")
        for wrong in each(None, "", 5, True, "x", [], {"product": 5}, {"title": "t" * 4096}):
            self.assert_blames("context", context=wrong)


class GuestRate(BodyCase):
    request = bodies.GuestRate

    def test_score(self) -> None:
        """1 to 5; everything else, and none, has one code, whatever the text is."""
        for score in range(1, 6):
            self.assertEqual(self.decode(score=score), bodies.GuestRate(score, None))
            self.assertEqual(self.decode(score=str(score), text="ok"), bodies.GuestRate(score, "ok"))
        self.assert_error(errors.ScoreBad)
        for wrong in each(None, "", 0, 6, -1, "6", True, 1.0, 4.5, "x", [], {}):
            self.assert_error(errors.ScoreBad, score=wrong, text=5)

    def test_text(self) -> None:
        """A text is optional; 500 characters at most."""
        self.assert_optional_text("text", 500, score=5)


class Configured(SynchronousTestCase):
    def test_configured_limits(self) -> None:
        """What the operator configures holds in place of the defaults."""
        limits = Limits(max_url=3, max_profile=40, max_note=2, max_text=2, max_body=9, max_page=4)
        decoders: tuple[Callable[[], object], ...] = (
            lambda: bodies.GuestContext.decode(frame(context={"page_url": "abcd"}), limits),
            lambda: bodies.GuestContext.decode(frame(context={"title": "t" * 40}), limits),
            lambda: bodies.Transfer.decode(frame(gid=1, aix=2, note="abc"), limits),
            lambda: bodies.GuestRate.decode(frame(score=1, text="abc"), limits),
        )
        for decode in decoders:
            self.assertRaises(errors.Malformed, decode)
        for fields in ({"msg": "abc"}, {"msg": {"u": "abc"}, "file_type": 1}):
            self.assertIsInstance(bodies.GuestSend.decode(frame(**fields), limits).content, errors.GuestMsgBad)
        self.assertEqual(bodies.GuestHistory.decode(frame(), limits).page_size, 4)
