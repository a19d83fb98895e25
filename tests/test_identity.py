"""The name of a node: it outlives a restart, and one process has it at a time."""

from __future__ import annotations

import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatproto.errors import StartError
from chatproto.identity import NodeName


class NodeNameTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.data = Path(self.mktemp())
        self.data.mkdir()

    def name(self) -> NodeName:
        name = NodeName(self.data)
        self.addCleanup(name.give_back)
        return name

    def test_outlives_a_restart(self) -> None:
        """A node that starts again is the same one, so what it left behind is ended at once."""
        first = self.name()
        taken = first.take()
        self.assertRegex(taken, "^[0-9a-f]{16}$")
        first.give_back()
        self.assertEqual(self.name().take(), taken)
        self.assertEqual(stat.S_IMODE((self.data / "node").stat().st_mode), 0o600)

    def test_unique(self) -> None:
        """Two data directories are two nodes."""
        other = self.data / "other"
        other.mkdir()
        second = NodeName(other)
        self.addCleanup(second.give_back)
        self.assertNotEqual(self.name().take(), second.take())

    def test_in_use(self) -> None:
        """Two daemons on one data directory: the second says so and what to do."""
        taken = self.name().take()
        refused = self.assertRaises(StartError, self.name().take)
        self.assertIn(str(self.data), str(refused))
        self.assertIn("--data", str(refused))
        self.assertEqual((self.data / "node").read_text(), taken)

    def test_given_back_twice(self) -> None:
        """Giving back what is not held does nothing."""
        name = self.name()
        name.give_back()
        name.take()
        name.give_back()
        name.give_back()

    def test_no_directory(self) -> None:
        """A data directory that cannot be used is one clear line."""
        name = NodeName(self.data / "missing")
        self.assertIn("No such file", str(self.assertRaises(StartError, name.take)))
