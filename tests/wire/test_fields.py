from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatproto.errors import Malformed, SendGidMissing
from chatproto.wire import fields
from chatproto.wire.fields import Limits
from tests.wire.samples import NO_IDS, NO_INTEGERS, NO_STRINGS, each, frame, written

MISSING = each(None, "")


class FieldCase(SynchronousTestCase):
    def assert_blames(self, field: str, decode: Callable[..., object], *arguments: Any, **bounds: Any) -> None:
        self.assertEqual(self.assertRaises(Malformed, decode, *arguments, **bounds).data, {"field": field})


class Idents(FieldCase):
    def test_ids(self) -> None:
        """An id is a positive integer that the database can hold, as a number or a string."""
        for value, meant in each((1, 1), ("12", 12), (2**63 - 1, 2**63 - 1), ("9" * 18, 10**18 - 1)):
            self.assertEqual(fields.ident({"gid": value}, "gid", SendGidMissing), meant)
            self.assertEqual(fields.optional_ident({"gid": value}, "gid"), meant)

    def test_missing(self) -> None:
        """Absent, null, "" and 0 are missing: the code of the command, or no id."""
        for value in each(*MISSING, 0, "0", "-0", "000"):
            self.assertRaises(SendGidMissing, fields.ident, {"gid": value}, "gid", SendGidMissing)
            self.assertIsNone(fields.optional_ident({"gid": value}, "gid"))
        self.assertRaises(SendGidMissing, fields.ident, {}, "gid", SendGidMissing)
        self.assertIsNone(fields.optional_ident({}, "gid"))

    def test_wrong(self) -> None:
        """Everything else is malformed and blames the field."""
        for value in NO_IDS:
            self.assert_blames("gid", fields.ident, {"gid": value}, "gid", SendGidMissing)
            self.assert_blames("gid", fields.optional_ident, {"gid": value}, "gid")


class Integers(FieldCase):
    def test_bounds(self) -> None:
        """Both bounds belong to what is allowed."""
        for value in each(1, "1", 5):
            self.assertEqual(fields.integer({"n": value}, "n", least=1, most=5), int(value))
        for wrong in each(0, 6, -1, "6", *NO_INTEGERS):
            self.assert_blames("n", fields.integer, {"n": wrong}, "n", least=1, most=5)
        for value in MISSING:
            self.assertIsNone(fields.integer({"n": value}, "n", least=1))
        self.assertEqual(fields.integer({"n": -7}, "n"), -7)

    def test_booleans(self) -> None:
        """Only true and false are yes and no; 1 and "true" are a mistake of the client."""
        for value in (True, False):
            self.assertIs(fields.boolean({"b": value}, "b", not value), value)
        for value in MISSING:
            self.assertIs(fields.boolean({"b": value}, "b", True), True)
            self.assertIs(fields.boolean({"b": value}, "b", False), False)
        self.assertIs(fields.boolean({}, "b", True), True)
        for wrong in each(0, 1, "0", "true", 1.0, [], {}):
            self.assert_blames("b", fields.boolean, {"b": wrong}, "b", True)

    def test_positions(self) -> None:
        """A seq of 0 is a place; one past every conversation counts as the end."""
        for value, meant in each((0, 0), (7, 7), (2**53 - 1, 2**53 - 1), (2**53, 2**53 - 1), (2**64 - 1, 2**53 - 1)):
            self.assertEqual(fields.position({"seq": value}, "seq"), meant)
        for value in MISSING:
            self.assertIsNone(fields.position({"seq": value}, "seq"))
        for wrong in each(-1, "-1", *NO_INTEGERS):
            self.assert_blames("seq", fields.position, {"seq": wrong}, "seq")


class Pages(FieldCase):
    def test_index(self) -> None:
        """Missing and 0 are page 1; a negative page is malformed."""
        self.assertEqual(fields.page_index({}), 1)
        for value, meant in each((None, 1), ("", 1), (0, 1), ("0", 1), (1, 1), ("2", 2), (2**64 - 1, 2**53 - 1)):
            self.assertEqual(fields.page_index({"page_index": value}), meant)
        for wrong in each(-1, "-1", *NO_INTEGERS):
            self.assert_blames("page_index", fields.page_index, {"page_index": wrong})

    def test_size(self) -> None:
        """Missing and 0 are 10; too many count as the most; a negative size is malformed."""
        limits = Limits()
        self.assertEqual(fields.page_size({}, limits), 10)
        cases = ((None, 10), ("", 10), (0, 10), (1, 1), ("20", 20), (100, 100), (101, 100), (2**64 - 1, 100))
        for value, meant in cases:
            self.assertEqual(fields.page_size({"page_size": value}, limits), meant)
        self.assertEqual(fields.page_size({}, Limits(max_page=5)), 5)
        for wrong in each(-1, "-1", *NO_INTEGERS):
            self.assert_blames("page_size", fields.page_size, {"page_size": wrong}, limits)

    def test_seqs(self) -> None:
        """One of the two at most; null and "" are none, 0 is one."""
        cases: tuple[tuple[dict[str, object], tuple[int | None, int | None]], ...] = (
            ({}, (None, None)),
            ({"before_seq": 5}, (5, None)),
            ({"after_seq": "5"}, (None, 5)),
            ({"after_seq": 0, "before_seq": None}, (None, 0)),
            ({"after_seq": "", "before_seq": 0}, (0, None)),
        )
        for values, meant in cases:
            self.assertEqual(fields.seq_bounds(values), meant)
        for both in ({"before_seq": 5, "after_seq": 1}, {"before_seq": 0, "after_seq": 0}):
            self.assert_blames("after_seq", fields.seq_bounds, both)
        self.assert_blames("before_seq", fields.seq_bounds, {"before_seq": -1})
        self.assert_blames("after_seq", fields.seq_bounds, {"after_seq": 1.5})


class Texts(FieldCase):
    def test_text(self) -> None:
        """A string up to the bound in code points; null and "" are none."""
        for value in each("a", "你" * 5, "\U0001f600" * 5, " "):
            self.assertEqual(fields.text({"note": value}, "note", 5), value)
        for value in MISSING:
            self.assertIsNone(fields.text({"note": value}, "note", 5))
        self.assertIsNone(fields.text({}, "note", 5))
        self.assertEqual(fields.text({"note": "a" * 9000}, "note"), "a" * 9000)
        for wrong in each(*NO_STRINGS, "a" * 6):
            self.assert_blames("note", fields.text, {"note": wrong}, "note", 5)

    def test_cmid(self) -> None:
        """A string of up to 64 characters; "" and null are none."""
        for value in each("a", "0", "你" * 64):
            self.assertEqual(fields.cmid({"cmid": value}), value)
        for value in MISSING:
            self.assertIsNone(fields.cmid({"cmid": value}))
        for wrong in each(*NO_STRINGS, "a" * 65):
            self.assert_blames("cmid", fields.cmid, {"cmid": wrong})


class Contexts(FieldCase):
    limits = Limits()

    def test_kept_as_it_is(self) -> None:
        """The admin sees what the page said: prices, order and fields of its own included."""
        for text in (
            "{}",
            '{ "title":"\\u4f60", "page_url" : "https://a/b" , "referrer":null,"product":{"price":1.50},"order":{}}',
            '{"page_url":"","product":null,"order":"","cart":[1]}',
        ):
            self.assertEqual(fields.context(written(f'"context":{text}'), self.limits), text)

    def test_missing(self) -> None:
        """Absent, null and "" are none."""
        self.assertIsNone(fields.context(frame(), self.limits))
        for value in MISSING:
            self.assertIsNone(fields.context(frame(context=value), self.limits))

    def test_wrong(self) -> None:
        """What is no object, or has fields of another type, is malformed."""
        wrong: list[Any] = ["x", 0, 5, True, [], [{}]]
        wrong += [{name: value} for name in ("page_url", "title", "referrer") for value in NO_STRINGS]
        wrong += [{name: value} for name in ("product", "order") for value in each(0, 5, True, 1.5, "x", [], [{}])]
        for value in wrong:
            self.assert_blames("context", fields.context, frame(context=value), self.limits)

    def test_urls(self) -> None:
        """2,048 characters of URL are allowed, a title may be long."""
        for name in ("page_url", "referrer"):
            self.assertIsNotNone(fields.context(frame(context={name: "u" * 2048}), self.limits))
            long = frame(context={name: "u" * 2049})
            self.assert_blames("context", fields.context, long, self.limits)
        self.assertIsNotNone(fields.context(frame(context={"title": "t" * 3000}), self.limits))

    def test_size(self) -> None:
        """4 KiB as JSON is allowed, one byte more is not; a Chinese character counts three."""
        for filling, more in (("a" * (4096 - 12), "a"), ("你" * 1361 + "a", "b")):
            fits = f'{{"title":"{filling}"}}'
            self.assertEqual(len(fits.encode()), 4096)
            self.assertEqual(fields.context(written(f'"context":{fits}'), self.limits), fits)
            long = written(f'"context":{{"title":"{filling}{more}"}}')
            self.assert_blames("context", fields.context, long, self.limits)
