"""Passwords: what opens, what does not, and what a damaged database may not do."""

from __future__ import annotations

import re
from functools import cache

from twisted.trial.unittest import SynchronousTestCase

from chatproto.domain.passwords import LONGEST, fault, hashed, matches

PASSWORD = "correct horse ä"


@cache
def stored() -> str:
    return hashed(PASSWORD)


class Passwords(SynchronousTestCase):
    def test_right_and_wrong(self) -> None:
        """The password opens, anything else does not."""
        self.assertTrue(matches(PASSWORD, stored()))
        for wrong in ("", "correct horse a", PASSWORD + " ", PASSWORD.upper(), "x" * (LONGEST + 1)):
            self.assertFalse(matches(wrong, stored()), wrong[:20])

    def test_without_password(self) -> None:
        """Who has no password cannot log in with any, not even with an empty one."""
        for password in ("", PASSWORD):
            self.assertFalse(matches(password, None))

    def test_typed_elsewhere(self) -> None:
        """A keyboard that composes its letters, or writes them wide, types the same password."""
        self.assertTrue(matches("correct horse a\u0308", stored()))
        self.assertTrue(matches("ｃｏｒｒｅｃｔ horse ä", stored()))

    def test_form(self) -> None:
        """A PHC string with a salt of its own: two who chose the same password do not show it."""
        self.assertTrue(re.fullmatch(r"\$scrypt\$ln=15,r=8,p=3\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}", stored()))
        self.assertNotEqual(stored(), hashed(PASSWORD))

    def test_other_settings(self) -> None:
        """What a later release stores with other settings is understood: the vector of RFC 7914, 12."""
        vector = (
            "$scrypt$ln=10,r=8,p=16$TmFDbA$"
            "/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA"
        )
        self.assertTrue(matches("password", vector))
        self.assertFalse(matches("passwort", vector))

    def test_damaged(self) -> None:
        """What is no string of ours opens nothing, and takes neither memory nor time."""
        good = stored()
        for damaged in (
            "",
            "plain",
            "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            good[:-30],
            good.replace("ln=15", "ln=24"),
            good.replace("ln=15", "ln=0"),
            good.replace("r=8", "r=0"),
            good.replace("p=3", "p=99"),
            good.replace("ln=15", "ln=99"),
            good + "\n",
            good[:-2],
        ):
            self.assertFalse(matches(PASSWORD, damaged), damaged)

    def test_new_ones(self) -> None:
        """A new password has a length that holds, and nothing that a keyboard cannot type again."""
        for fine in ("eight ch", "密码密码密码密码", "x" * LONGEST):
            self.assertIsNone(fault(fine))
        for bad in ("", "seven c", "x" * (LONGEST + 1), "tab\tin between", "nul\0 in it"):
            self.assertIsNotNone(fault(bad), bad[:20])
