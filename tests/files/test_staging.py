from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatproto.files.refusal import UploadRefused
from chatproto.files.staging import Staging
from tests.database import ROOT, scratch

_FULL = """
import resource, sys
from pathlib import Path
from chatproto.files.refusal import UploadRefused
from chatproto.files.staging import Staging
staging = Staging(Path(sys.argv[1]), 0)
staging.clear()
staged = staging.open(10)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
staged.write(b"x" * 1000)
try:
    staged.write(b"x")
except UploadRefused as refused:
    print(refused.error)
staged.discard()
print(list(Path(sys.argv[1]).iterdir()))
"""


class StagingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = scratch()
        self.addCleanup(shutil.rmtree, self.folder)
        self.staging = Staging(self.folder / "a" / "b", 0)
        self.staging.clear()

    def left(self) -> list[Path]:
        return list(self.staging.directory.iterdir())

    def test_arrives(self) -> None:
        """A file is what was written, in its order, and nobody else may read it meanwhile."""
        staged = self.staging.open(6)
        staged.write(b"abc")
        staged.write(b"def")
        staged.seal()
        self.assertEqual(staged.path.read_bytes(), b"abcdef")
        self.assertEqual(staged.path.stat().st_mode & 0o777, 0o600)
        staged.discard()
        self.assertEqual(self.left(), [])

    def test_discarded(self) -> None:
        """What is not wanted is gone, at whatever point, and discarding what was moved away does no harm."""
        self.staging.open(6).discard()
        staged = self.staging.open(6)
        staged.write(b"abc")
        staged.discard()
        staged.discard()
        moved = self.staging.open(1)
        moved.seal()
        moved.path.rename(self.folder / "kept")
        moved.discard()
        self.assertEqual(self.left(), [])
        self.assertTrue((self.folder / "kept").exists())

    def test_cleared(self) -> None:
        """What a killed process left is gone after the next start."""
        self.staging.open(1).write(b"x")
        (self.staging.directory / "deeper").mkdir()
        self.staging.clear()
        self.assertEqual(self.left(), [])

    def test_room(self) -> None:
        """The disk is not filled to the brim, as the database needs some of it."""
        free = shutil.disk_usage(self.staging.directory).free
        roomy = Staging(self.staging.directory, free // 2)
        roomy.open(free // 4).discard()
        refused = self.assertRaises(UploadRefused, roomy.open, free * 3 // 4)
        self.assertEqual((refused.error, refused.details), ("no_room", {}))
        self.assertEqual(self.left(), [])

    def test_room_for_all(self) -> None:
        """Nor is it by many files that arrive at once, of which each alone would have room."""
        free = shutil.disk_usage(self.staging.directory).free
        roomy = Staging(self.staging.directory, free // 2)
        first = roomy.open(free // 3)
        first.write(b"x")
        self.assertEqual(self.assertRaises(UploadRefused, roomy.open, free // 3).error, "no_room")
        first.discard()
        first.discard()
        again = roomy.open(free // 3)
        self.assertRaises(UploadRefused, roomy.open, free // 3)
        again.discard()
        self.assertEqual(self.left(), [])

    def test_full(self) -> None:
        """A disk that takes no more is a refusal that says so, and what there was of the file goes.

        The kernel's own limit of a file's size stands for the end of the disk: both end in a write that fails.
        """
        done = subprocess.run(
            [sys.executable, "-c", _FULL, str(self.folder / "full")], capture_output=True, text=True, cwd=ROOT
        )
        self.assertEqual(done.stdout, "no_room\n[]\n", done.stderr)
