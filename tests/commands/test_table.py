"""The command table: every number of the protocol, and nothing else."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

import chatproto.connection.dispatch  # noqa: F401  (it fills the table)
from chatproto.commands.table import TABLE, Answer, Call, command
from chatproto.domain.model import Role
from chatproto.wire import bodies, codes


class TableTests(SynchronousTestCase):
    def test_every_number(self) -> None:
        """Each command of docs/protocol.md is served, and no number that it does not name."""
        self.assertEqual(TABLE.keys(), codes.ADMIN_COMMANDS | codes.GUEST_COMMANDS)
        self.assertEqual([number for number, entry in TABLE.items() if entry.api_key != number], [])

    def test_who_may_call(self) -> None:
        """Admins and guests have families of their own; the two logins are open to who is nobody yet."""
        for number in codes.ADMIN_COMMANDS - {codes.ADMIN_LOGIN}:
            self.assertIs(TABLE[number].role, Role.ADMIN, number)
        for number in codes.GUEST_COMMANDS - {codes.GUEST_LOGIN}:
            self.assertIs(TABLE[number].role, Role.GUEST, number)
        self.assertEqual([TABLE[number].role for number in (codes.ADMIN_LOGIN, codes.GUEST_LOGIN)], [None, None])

    def test_only_sends_overlap(self) -> None:
        """Any other command waits for what was sent before it."""
        overlapping = {number for number, entry in TABLE.items() if entry.overlaps}
        self.assertEqual(overlapping, {codes.SEND_TO_GUEST, codes.GUEST_SEND})

    def test_reads(self) -> None:
        """Only what changes nothing is never of unknown outcome."""
        self.assertEqual(
            {number for number, entry in TABLE.items() if entry.reads},
            {codes.CHAT_LIST, codes.CHAT_CONTENT, codes.ADMINS_ONLINE, codes.GUEST_HISTORY}
            | {codes.TYPING, codes.GUEST_TYPING},
        )

    def test_two_with_one_number(self) -> None:
        """A number is used once: a second command with it fails at import."""

        async def run(call: Call, request: bodies.GuestStart) -> Answer:
            return Answer({})

        before = dict(TABLE)
        register = command(codes.GUEST_START, bodies.GuestStart, Role.GUEST)
        refused = self.assertRaises(ValueError, register, run)
        self.assertIn("22000", str(refused))
        self.assertEqual(TABLE, before)
