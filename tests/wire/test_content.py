from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatproto.errors import ChatError, SendKindUnknown, SendMsgBad, SendMsgMissing
from chatproto.wire.content import Content, ContentErrors, content
from chatproto.wire.fields import Limits
from chatproto.wire.frame import Frame
from tests.wire.samples import checked, each, frame, texts, values, written

ERRORS = ContentErrors(SendMsgMissing, SendKindUnknown, SendMsgBad)


def judge(frame: Frame, limits: Limits | None = None) -> Content | ChatError:
    return content(frame, limits or Limits(), ERRORS)


class ContentCase(SynchronousTestCase):
    def assert_stored(self, judged: Content | ChatError, file_type: int, body: str) -> None:
        self.assertEqual(judged, (file_type, body))

    def assert_wrong(self, judged: Content | ChatError, error: type[ChatError]) -> None:
        self.assertIs(type(judged), error)
        assert isinstance(judged, ChatError)
        self.assertEqual(judged.data, {})


class Missing(ContentCase):
    def test_missing(self) -> None:
        """Absent, null and "" are no message, of whatever kind; that is said first."""
        for more in ({}, {"file_type": 1}, {"file_type": 9}):
            self.assert_wrong(judge(frame(**more)), SendMsgMissing)
            self.assert_wrong(judge(frame(msg=None, **more)), SendMsgMissing)
            self.assert_wrong(judge(frame(msg="", **more)), SendMsgMissing)


class Kinds(ContentCase):
    def test_missing_is_text(self) -> None:
        """Without a file_type the message is text."""
        for value in each(None, "", 0, "0", "-0"):
            self.assert_stored(judge(frame(msg="a", file_type=value)), 0, '"a"')
        self.assert_stored(judge(frame(msg="a")), 0, '"a"')

    def test_known(self) -> None:
        """0 to 6 are known, as numbers or strings."""
        for kind in range(7):
            for value in each(kind, str(kind)):
                self.assert_stored(judge(frame(msg="https://a", file_type=value)), kind, '"https://a"')

    def test_unknown(self) -> None:
        """Anything else is an unknown file_type, also one of a wrong type."""
        for value in each(7, -1, "7", "x", True, False, 0.0, 1.5, [], {}, 2**64 - 1):
            self.assert_wrong(judge(frame(msg="a", file_type=value)), SendKindUnknown)
            self.assert_wrong(judge(frame(msg=True, file_type=value)), SendKindUnknown)


class Text(ContentCase):
    def test_string(self) -> None:
        """Text comes back character by character, whatever its escapes were."""
        self.assert_stored(judge(written(r'"msg":"\u4f60\/\n\"好"')), 0, r'"你/\n\"好"')
        self.assert_stored(judge(frame(msg=" ")), 0, '" "')

    def test_length(self) -> None:
        """5,000 characters are allowed, 5,001 are not; a character is a code point."""
        for character in ("a", "你", "\U0001f600"):
            self.assert_stored(judge(frame(msg=character * 5000)), 0, f'"{character * 5000}"')
            self.assert_wrong(judge(frame(msg=character * 5001)), SendMsgBad)

    def test_number(self) -> None:
        """A number is taken as its digits, exactly as written."""
        for digits in ("0", "-0", "1.50", "1e2", "1E+2", "-12.0", "123456789012345678901234567890", "9" * 300):
            self.assert_stored(judge(written(f'"msg":{digits}')), 0, f'"{digits}"')

    def test_length_of_number(self) -> None:
        """Digits are characters too."""
        self.assert_stored(judge(written('"msg":12345'), Limits(max_text=5)), 0, '"12345"')
        self.assert_wrong(judge(written('"msg":123456'), Limits(max_text=5)), SendMsgBad)
        self.assert_wrong(judge(written(f'"msg":0.{"1" * 5000}')), SendMsgBad)

    def test_wrong(self) -> None:
        """Booleans, arrays and objects are no text."""
        for value in each(True, False, [], ["a"], {}, {"url": "x"}):
            self.assert_wrong(judge(frame(msg=value)), SendMsgBad)


class Others(ContentCase):
    def test_objects(self) -> None:
        """Any object is stored exactly as it was sent, an empty one too."""
        for text in ("{}", '{"url":"https://a"}', '{ "b":1.50 ,"a":[ {"\\u4f60":null} ],"b":2 }'):
            for kind in range(1, 7):
                self.assert_stored(judge(written(f'"file_type":{kind},"msg":{text}')), kind, text)

    def test_wrong(self) -> None:
        """What is neither a string nor an object is refused."""
        for value in each(True, False, 0, 5, 1.5, [], [{}]):
            self.assert_wrong(judge(frame(msg=value, file_type=1)), SendMsgBad)

    def test_size(self) -> None:
        """16 KiB as JSON are allowed, one byte more is not; the URL bound does not hold here."""
        for filling, more in (("a" * (16384 - 2), "a"), ("你" * 5460 + "aa", "b")):
            string = f'"{filling}"'
            self.assertEqual(len(string.encode()), 16384)
            self.assert_stored(judge(written(f'"file_type":6,"msg":{string}')), 6, string)
            self.assert_wrong(judge(written(f'"file_type":6,"msg":"{filling}{more}"')), SendMsgBad)
        for filling, more in (("a" * (16384 - 8), "a"), ("你" * 5458 + "aa", "b")):
            body = f'{{"u":"{filling}"}}'
            self.assertEqual(len(body.encode()), 16384)
            self.assert_stored(judge(written(f'"file_type":6,"msg":{body}')), 6, body)
            self.assert_wrong(judge(written(f'"file_type":6,"msg":{{"u":"{filling}{more}"}}')), SendMsgBad)


class Whatever(ContentCase):
    @checked
    @given(values, values | st.integers(0, 6))
    def test_any_values(self, msg: Any, file_type: Any) -> None:
        """Whatever is sent is stored with its value unchanged or refused with one code of the command."""
        judged = judge(frame(msg=msg, file_type=file_type))
        if isinstance(judged, ChatError):
            self.assertIn(type(judged), (SendMsgMissing, SendKindUnknown, SendMsgBad))
        elif type(msg) in (int, float):
            self.assertEqual(float(json.loads(judged[1])), float(msg))
        else:
            self.assertEqual(json.loads(judged[1]), msg)

    @checked
    @given(texts.filter(bool), st.integers(0, 6))
    def test_any_text(self, msg: str, file_type: int) -> None:
        """Every string comes back as it was, for every kind."""
        judged = judge(frame(msg=msg, file_type=file_type))
        assert isinstance(judged, tuple)
        self.assertEqual((judged[0], json.loads(judged[1])), (file_type, msg))
