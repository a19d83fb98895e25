from __future__ import annotations

import re
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from chatproto import errors
from chatproto.wire import codes


def _all(kind: type[errors.ChatError]) -> Iterator[type[errors.ChatError]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _all(sub)


def _own_codes() -> set[int]:
    return {kind.code for kind in _all(errors.ChatError) if kind.__module__ == errors.__name__}


class Messages(SynchronousTestCase):
    def test_every_error_has_words(self) -> None:
        """Whatever goes wrong, people read words in the configured language."""
        for language in codes.LANGUAGES:
            for code in _own_codes():
                self.assertTrue(codes.message(code, language), (code, language))

    def test_no_words_without_error(self) -> None:
        """The languages name the same codes, and none that no command can answer."""
        for catalogue in codes._CATALOGUE.values():
            self.assertEqual(set(catalogue), _own_codes())

    def test_given_words_stay(self) -> None:
        """Clients that show or compare the words of the given document find them in every language."""
        given = {
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
        for language in ("en", "zh"):
            self.assertEqual({code: codes.message(code, language) for code in given}, given)

    def test_languages_differ(self) -> None:
        """An English desk reads English and a Chinese one Chinese, but for the given words."""
        han = re.compile("[\u4e00-\u9fff]")
        for code in set(codes._ENGLISH) - set(codes._GIVEN):
            self.assertIsNone(han.search(codes.message(code, "en")), code)
            self.assertIsNotNone(han.search(codes.message(code, "zh")), code)

    def test_unknown_language(self) -> None:
        """A language nobody translated is a mistake of the program, not an empty message."""
        self.assertRaises(KeyError, codes.message, -9999, "fr")


class Numbers(SynchronousTestCase):
    def test_commands_and_pushes_are_apart(self) -> None:
        """A number means one thing, whoever sees it."""
        groups = (codes.ADMIN_COMMANDS, codes.GUEST_COMMANDS, codes.ADMIN_PUSHES, codes.GUEST_PUSHES)
        self.assertEqual(len(frozenset.union(*groups)), sum(map(len, groups)))

    def test_every_name_is_in_a_group(self) -> None:
        """No number of the protocol is forgotten."""
        named = {value for name, value in vars(codes).items() if type(value) is int and value > 10_000}
        grouped = codes.ADMIN_COMMANDS | codes.GUEST_COMMANDS | codes.ADMIN_PUSHES | codes.GUEST_PUSHES
        self.assertEqual(named, grouped)

    def test_error_codes_belong_to_a_command(self) -> None:
        """Error n of a command is -(api_key) - n."""
        commands = codes.ADMIN_COMMANDS | codes.GUEST_COMMANDS
        for code in _own_codes():
            if code < -9999:
                self.assertTrue(any(0 < -code - command < 20 for command in commands), code)

    def test_kinds(self) -> None:
        """file_type counts from 0 in the order of the given document."""
        self.assertEqual(codes.KINDS, ("text", "image", "voice", "product", "order", "video", "file"))
