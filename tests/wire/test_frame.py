from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatproto import errors
from chatproto.wire import codes
from chatproto.wire.frame import BadFrame, Frame, as_integer, failure, parse, push, reply
from tests.wire.samples import NO_INTEGERS, checked, each, texts, values


def nested(depth: int, opening: str = "[", middle: str = "", closing: str = "]") -> str:
    """A request whose outermost object is depth 1 and whose innermost bracket is *depth*."""
    inner = opening * (depth - 1) + middle + closing * (depth - 1)
    return f'{{"api_key":32300,"request_id":"r","msg":{inner}}}'


class WireCase(SynchronousTestCase):
    def refused(self, payload: bytes | str) -> BadFrame:
        return self.assertRaises(BadFrame, parse, payload.encode() if isinstance(payload, str) else payload)

    def assert_refused(
        self, payload: bytes | str, api_key: int, request_id: str | int | None = None, field: str | None = None
    ) -> None:
        bad = self.refused(payload)
        data = {} if field is None else {"field": field}
        self.assertEqual((bad.code, bad.api_key, bad.request_id, bad.data), (-9998, api_key, request_id, data))


class Parsing(WireCase):
    def test_request(self) -> None:
        """An ordinary request is read."""
        payload = b'{"api_key":32300,"call_type":3,"gid":7,"msg":"\xe4\xbd\xa0\xe5\xa5\xbd","request_id":"a1"}'
        read = parse(payload)
        self.assertEqual((read.api_key, read.call_type, read.request_id), (32300, 3, "a1"))
        self.assertEqual((read.values["gid"], read.values["msg"]), (7, "你好"))
        self.assertIs(read.payload, payload)

    def test_white_space(self) -> None:
        """A client may indent."""
        self.assertEqual(parse(b' \r\n{\t"api_key" :\n31000 }\n').api_key, 31000)

    def test_no_object(self) -> None:
        """What is no JSON object is answered with api_key 0 and nothing else."""
        for payload in ("", " ", "{", "[]", '"x"', "7", "null", "hello", "{'api_key':1}", '{"api_key":1}x', "{}{}"):
            self.assert_refused(payload, 0)

    def test_not_rfc_8259(self) -> None:
        """NaN, comments, trailing commas and control characters are no JSON."""
        for value in ("NaN", "Infinity", "-Infinity", "01", "+1", ".5", "1.", "0x1", "[1,]", "1/**/", '"\t"', "'a'"):
            self.assert_refused(f'{{"api_key":32300,"msg":{value}}}', 0)
        for payload in (b'\xef\xbb\xbf{"api_key":1}', b'{"api_key":1,"x":"\xff"}', b'{"api_key":1,"x":"\0"}'):
            self.assert_refused(payload, 0)

    def test_number_beyond_a_double(self) -> None:
        """A number that other clients could not read is refused, and the reply finds its request."""
        self.assert_refused('{"api_key":32300,"request_id":4,"msg":1e999}', 32300, 4)

    def test_depth(self) -> None:
        """32 deep is read, 33 is not; the reply finds its request."""
        for brackets in (("[", "", "]"), ('{"a":', "1", "}")):
            self.assertEqual(parse(nested(32, *brackets).encode()).api_key, 32300)
            self.assert_refused(nested(33, *brackets), 32300, "r")
        self.assert_refused('{"api_key":1,"x":' + '{"a":[' * 16 + "]}" * 16 + "}", 1)

    def test_depth_far_beyond(self) -> None:
        """A frame full of brackets costs an error reply, not the connection."""
        for depth in (1023, 1024, 1025, 30_000):
            self.assertEqual(self.refused(nested(depth)).code, -9998)

    def test_depth_in_an_overwritten_field(self) -> None:
        """Deep JSON does not get through behind an equal key."""
        deep = "[" * 32 + "]" * 32
        self.assert_refused(f'{{"api_key":5,"x":{deep},"x":1}}', 5)

    def test_brackets_that_are_not_deep(self) -> None:
        """Many brackets side by side or inside strings are no depth."""
        self.assertEqual(parse(b'{"api_key":1,"x":[' + b",".join([b"{}"] * 500) + b"]}").api_key, 1)
        for text in ("[" * 100, '\\"' + "{" * 100, "\\\\" + "[" * 50 + "]" * 10, "]" * 40 + "[" * 40):
            self.assertEqual(parse(f'{{"api_key":1,"x":"{text}","y":["{text}"]}}'.encode()).api_key, 1)

    def test_nul(self) -> None:
        """U+0000 is refused wherever it stands, also in keys and in fields that nobody reads."""
        for part in (
            r'"msg":"a\u0000"',
            r'"\u0000":1',
            r'"x":[{"y":"\u0000"}]',
            r'"x":{"y\u0000":1}',
            r'"x":"\\\u0000"',
            r'"x":"\n\u0000"',
            r'"msg":"\u0000","msg":"fine"',
        ):
            self.assert_refused(f'{{"api_key":32300,"request_id":9,{part}}}', 32300, 9)

    def test_nul_that_is_none(self) -> None:
        """A backslash before u0000, as one writes about code, is no U+0000."""
        for written, meant in ((r"\\u0000", r"\u0000"), (r"\\\\u0000", r"\\u0000"), (r"\u00000", None)):
            payload = f'{{"api_key":1,"msg":"{written}"}}'.encode()
            if meant is None:
                self.refused(payload)
            else:
                self.assertEqual(parse(payload).values["msg"], meant)

    def test_lone_surrogates(self) -> None:
        """Half a character is refused, a whole pair is read."""
        for part in (r'"x":"\ud800"', r'"x":"\udc00"', r'"\ud800":1', r'"x":["\uDBFFa"]', r'"x":"\ude00\ud83d"'):
            self.assert_refused(f'{{"api_key":32300,"request_id":"q",{part}}}', 32300, "q")
        self.assert_refused(b'{"api_key":32300,"x":"\xed\xa0\x80"}', 0)
        self.assertEqual(parse(rb'{"api_key":1,"x":"\ud83d\ude00"}').values["x"], "\U0001f600")

    def test_equal_keys(self) -> None:
        """Of equal keys the last counts."""
        read = parse(rb'{"api_key":1,"gid":1,"\u0067id":2,"api_key":32000}')
        self.assertEqual((read.api_key, read.values["gid"]), (32000, 2))

    @checked
    @given(st.binary(max_size=80) | values.map(orjson.dumps))
    def test_any_bytes(self, payload: bytes) -> None:
        """Whatever arrives is a request or one error, nothing else."""
        try:
            read = parse(payload)
        except BadFrame as bad:
            self.assertTrue(failure(bad.api_key, bad, "en", bad.request_id))
        else:
            self.assertIsInstance(read, Frame)

    @checked
    @given(st.text(), st.text(), values)
    def test_any_fields(self, key: str, text: str, value: Any) -> None:
        """Any strings are read back as they were, or refused because of U+0000 or half a character."""
        fields = {"api_key": 32300, key: value, "msg": text}
        payload = json.dumps(fields).encode()
        try:
            read = parse(payload)
        except BadFrame as bad:
            self.assertTrue(failure(bad.api_key, bad, "zh", bad.request_id))
            clean = not any("\0" in part or any("\ud800" <= c <= "\udfff" for c in part) for part in (key, text))
            self.assertFalse(clean and key not in ("api_key", "request_id"))
        else:
            self.assertEqual(read.values["msg"], text)

    @checked
    @given(texts, texts)
    def test_round_trip(self, text: str, request_id: str) -> None:
        """Every character comes back as it was sent."""
        request_id = request_id[:64]
        read = parse(orjson.dumps({"api_key": 1, "msg": text, "request_id": request_id}))
        echoed = orjson.loads(reply(1, {"msg": read.values["msg"]}, read.request_id))
        self.assertEqual((echoed["data"]["msg"], echoed["request_id"]), (text, request_id))


class ApiKey(WireCase):
    def test_forms(self) -> None:
        """Old clients send numbers as strings."""
        for written, meant in (("32000", 32000), ('"32000"', 32000), ("-5", -5), ('"-5"', -5), ('"007"', 7), ("0", 0)):
            self.assertEqual(parse(f'{{"api_key":{written}}}'.encode()).api_key, meant)

    def test_none(self) -> None:
        """Without an api_key that is an integer the request cannot be understood; the reply says which field."""
        for written in ("null", '""', "true", "1.0", "1.5", "1e3", '"1.0"', '" 1"', '"1\\n"', '"+1"', "[]", "{}"):
            self.assert_refused(f'{{"api_key":{written},"request_id":"r"}}', 0, "r", "api_key")
        self.assert_refused('{"api_key":"१"}', 0, None, "api_key")
        self.assert_refused('{"request_id":7}', 0, 7, "api_key")
        self.assert_refused("{}", 0, None, "api_key")

    def test_string_of_18_digits(self) -> None:
        """18 digits are an integer, 19 are none."""
        self.assertEqual(parse(b'{"api_key":"-999999999999999999"}').api_key, -(10**18) + 1)
        self.assert_refused('{"api_key":"1000000000000000000"}', 0, None, "api_key")

    def test_integers(self) -> None:
        """One rule for every integer of the protocol."""
        good = {5: 5, -5: -5, "5": 5, "-0": 0, "0" * 18: 0, 2**63: 2**63}
        for value, meant in good.items():
            self.assertEqual(as_integer(value), meant)
        for bad in each(*NO_INTEGERS, None, "", "-", "--1", "1-", "5 ", "٣", "1_0"):
            self.assertIsNone(as_integer(bad), bad)


class Heartbeat(WireCase):
    def test_without_api_key(self) -> None:
        """call_type 0 alone is a heartbeat."""
        for written in ("0", '"0"', '"-0"'):
            read = parse(f'{{"call_type":{written},"request_id":1}}'.encode())
            self.assertTrue(read.heartbeat)
            self.assertEqual((read.api_key, read.request_id), (0, 1))

    def test_api_key_does_not_matter(self) -> None:
        """A heartbeat may carry any api_key and is answered with 0."""
        for written in ("32300", '"x"', "null", "1.5", "true"):
            read = parse(f'{{"call_type":0,"api_key":{written}}}'.encode())
            self.assertEqual((read.heartbeat, read.api_key), (True, 0))

    def test_refused(self) -> None:
        """The frame of a heartbeat obeys the rules of all frames."""
        self.assert_refused('{"call_type":0,"api_key":32300,"request_id":[]}', 0, None, "request_id")
        self.assert_refused(r'{"call_type":0,"api_key":32300,"x":"\u0000"}', 0)

    def test_other_call_types(self) -> None:
        """A call_type that means nothing does not hurt, and what it was can be seen at a login."""
        for written, meant in (("3", 3), ('"3"', 3), ("1", 1), ("-4", -4), ("null", None), ('""', None)):
            read = parse(f'{{"api_key":32000,"call_type":{written}}}'.encode())
            self.assertEqual((read.heartbeat, read.call_type, read.api_key), (False, meant, 32000))
        for written in ('"x"', "0.0", "false", "[]", "{}", "1.5"):
            read = parse(f'{{"api_key":32000,"call_type":{written}}}'.encode())
            self.assertEqual((read.heartbeat, read.call_type), (False, None))
            self.assertEqual(read.values["call_type"], json.loads(written))

    def test_api_key_0_is_no_heartbeat(self) -> None:
        """Only call_type makes a heartbeat."""
        self.assertFalse(parse(b'{"api_key":0}').heartbeat)


class RequestIds(WireCase):
    def echoed(self, written: str) -> str:
        read = parse(f'{{"api_key":1,"request_id":{written}}}'.encode())
        return reply(1, {}, read.request_id).decode().partition(',"request_id":')[2][:-1]

    def test_echo(self) -> None:
        """A string or integer comes back as it was."""
        for written in ('"a"', '""', '"你"', "0", "-7", "18446744073709551615", '"0"', '"\\""'):
            self.assertEqual(self.echoed(written), written)

    def test_none(self) -> None:
        """Absent and null are none: the reply has no such field."""
        for payload in (b'{"api_key":1}', b'{"api_key":1,"request_id":null}'):
            self.assertIsNone(parse(payload).request_id)
        self.assertNotIn("request_id", orjson.loads(reply(1, {}, None)))

    def test_64_characters(self) -> None:
        """64 characters are echoed, 65 are refused; a character is a code point."""
        for character in ("a", "你", "\U0001f600"):
            self.assertEqual(self.echoed(f'"{character * 64}"'), f'"{character * 64}"')
            self.assert_refused(f'{{"api_key":8,"request_id":"{character * 65}"}}', 8, None, "request_id")

    def test_long_integers(self) -> None:
        """An integer of up to 64 characters is an id, too, though no machine word holds it."""
        for written in ("18446744073709551616", "-9223372036854775809", "9" * 64, "-" + "9" * 63):
            self.assertEqual(self.echoed(written), written)
        for written in ("9" * 65, "-" + "9" * 64):
            self.assert_refused(f'{{"api_key":8,"request_id":{written}}}', 8, None, "request_id")

    def test_other_types(self) -> None:
        """Another type is refused and not echoed; the api_key is."""
        for written in ("true", "false", "1.0", "1.5", "1e3", "1e30", "-0.0", "[]", "{}", '["a"]'):
            self.assert_refused(f'{{"api_key":"8","request_id":{written}}}', 8, None, "request_id")
        self.assert_refused('{"request_id":true}', 0, None, "request_id")

    def test_broken_ids_are_not_echoed(self) -> None:
        """An id with U+0000, half a character or of a wrong kind never leaves the server."""
        for written in (r'"\u0000"', r'"\ud800"'):
            self.assert_refused(f'{{"api_key":8,"request_id":{written}}}', 8)
        for written in ("true", "1.5", f'"{"a" * 65}"', "9" * 65):
            self.assert_refused(rf'{{"api_key":8,"x":"\ud800","request_id":{written}}}', 8)
        self.assert_refused(rf'{{"api_key":8,"x":"\ud800","request_id":{"9" * 64}}}', 8, int("9" * 64))


class Raw(WireCase):
    def raw(self, payload: str, name: str = "msg") -> str:
        return parse(payload.encode()).raw(name)

    def test_exact(self) -> None:
        """Order, spaces, escapes and digits stay as the client wrote them."""
        for value in (
            "1.50",
            "1e2",
            "-0",
            "123456789012345678901234567890",
            '{ "b":1 ,\n"a" : [ 1.0,{"\\u4f60":"\\/"} ] }',
            "{}",
            '"\\u4f60\\n"',
            "null",
            "true",
            '{"a":1,"a":2}',
        ):
            self.assertEqual(self.raw(f'{{ "api_key" : 1 , "msg" :\t{value}  , "z":0 }}'), value)
            self.assertEqual(self.raw(f'{{"msg":{value},"api_key":1}}'), value)
            self.assertEqual(self.raw(f' {{"api_key":1,"msg":{value}\n}} '), value)

    def test_last_of_equal_keys(self) -> None:
        """The text belongs to the value that counts, also where a key is escaped."""
        self.assertEqual(self.raw(r'{"api_key":1,"msg":1,"\u006dsg":2.0}'), "2.0")
        self.assertEqual(self.raw(r'{"api_key":1,"\u006d\u0073g":{ },"x":{"msg":5}}'), "{ }")

    def test_names_inside_values(self) -> None:
        """A value that looks like the field is not taken for it."""
        self.assertEqual(self.raw(r'{"api_key":1,"x":"\"msg\":1","y":{"msg":2},"z":"msg","msg":3}'), "3")

    def test_absent(self) -> None:
        """There is no text of a field that is not there."""
        self.assertRaises(KeyError, parse(b'{"api_key":1,"x":{"msg":1}}').raw, "msg")

    def test_huge_numbers_elsewhere(self) -> None:
        """A long number in some other field does not stand in the way."""
        self.assertEqual(self.raw(f'{{"api_key":1,"x":0.{"1" * 6000},"msg":[1]}}'), "[1]")

    @checked
    @given(st.dictionaries(texts, values, max_size=5), values, st.sampled_from([None, 0, 2]), st.booleans())
    def test_slices(self, others: dict[str, Any], value: Any, indent: int | None, ascii_only: bool) -> None:
        """For any request the text is the slice of it that stands for the value."""
        text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
        before = json.dumps(others | {"api_key": 1, "call_type": 1, "request_id": None}, ensure_ascii=ascii_only)
        read = parse(f'{before[:-1]}, "msg" :{text}\n}}'.encode())
        self.assertEqual(read.raw("msg"), text)


class Envelopes(SynchronousTestCase):
    def test_reply(self) -> None:
        """A success has code 200, status "Success", no message and the request_id, in the given order."""
        self.assertEqual(
            reply(32300, {"gid": 7}, "r"),
            b'{"api_key":32300,"data":{"gid":7},"code":200,"message":"","status":"Success","request_id":"r"}',
        )
        self.assertEqual(
            reply(0, {"server_time": 1}),
            b'{"api_key":0,"data":{"server_time":1},"code":200,"message":"","status":"Success"}',
        )

    def test_failure(self) -> None:
        """A failure has the code, the words of the language and what the error table says as data."""
        self.assertEqual(
            orjson.loads(failure(32300, errors.SendServedByAnother(admin_id=3), "en", 5)),
            {
                "api_key": 32300,
                "data": {"admin_id": 3},
                "code": -32306,
                "message": "another admin serves this guest",
                "status": "Error",
                "request_id": 5,
            },
        )
        self.assertEqual(
            failure(31000, errors.AdminTokenBad(), "zh").decode(),
            '{"api_key":31000,"data":{},"code":-31001,"message":"解析token失败","status":"Error"}',
        )

    def test_push(self) -> None:
        """api_key and code both hold the number of the push: a client may look at either."""
        self.assertEqual(
            push(codes.PUSH_GUEST_MESSAGE, {"gid": 7}),
            b'{"api_key":32399,"data":{"gid":7},"code":32399,"message":"","status":"Success"}',
        )

    def test_fragments(self) -> None:
        """A stored message body leaves exactly as it came."""
        body = '{"b":1.50, "a":"\\u4f60"}'
        for made in (reply(1, {"msg": orjson.Fragment(body)}), push(1, {"msg": orjson.Fragment(body)})):
            self.assertIn(b'"data":{"msg":' + body.encode() + b"}", made)

    def test_bad_frame(self) -> None:
        """The error of a frame names the field to blame, where there is one."""
        self.assertEqual(orjson.loads(failure(0, BadFrame(0, None), "en"))["data"], {})
        bad = BadFrame(5, "r", "request_id")
        self.assertEqual(orjson.loads(failure(5, bad, "en"))["data"], {"field": "request_id"})
        self.assertIsInstance(bad, errors.Malformed)

    def test_slots(self) -> None:
        """A frame carries nothing but its fields: thousands may wait."""
        self.assertFalse(hasattr(parse(b'{"api_key":1}'), "__dict__"))
