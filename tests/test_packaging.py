"""What is built from this tree: nothing of the server may be missing from it, and nothing of Twisted be in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = "twisted/plugins/chatproto_plugin.py"


def shipped_sources() -> set[str]:
    """The files below chatproto/ that the server needs, relative to the root."""
    return {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "*.sql")
        for path in (ROOT / "chatproto").rglob(pattern)
    }


class SourceTreeTests(SynchronousTestCase):
    def test_twisted_stays_a_namespace(self) -> None:
        """Installing or removing chatproto leaves Twisted's own package alone."""
        self.assertEqual([], list((ROOT / "twisted").rglob("__init__.py")))
        self.assertTrue((ROOT / PLUGIN).is_file())


@dataclass(frozen=True)
class Built:
    """The names in both distributions, and the wheel's entry points."""

    sdist: frozenset[str]
    wheel: frozenset[str]
    entry_points: str


@cache
def build() -> Built:
    """Build the sdist, and the wheel from that sdist, without network."""
    with tempfile.TemporaryDirectory(prefix="chatproto-build-") as temporary:
        # A copy: a build leaves build/ and *.egg-info behind, and reads a stale one.
        tree = Path(temporary, "tree")
        skipped = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "_trial_temp*")
        shutil.copytree(ROOT, tree, ignore=skipped)
        run = subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", "--outdir", temporary, str(tree)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=temporary,
        )
        if run.returncode:
            raise AssertionError(f"the build failed:\n{run.stdout}")
        with tarfile.open(next(Path(temporary).glob("*.tar.gz"))) as sdist:
            packed = frozenset(name.partition("/")[2] for name in sdist.getnames())
        with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
            names = frozenset(wheel.namelist())
            (entry_points,) = (name for name in names if name.endswith("/entry_points.txt"))
            return Built(packed, names, wheel.read(entry_points).decode())


class BuiltTests(SynchronousTestCase):
    def test_wheel_is_whole(self) -> None:
        """What is installed from the wheel has every module, every schema file and the plugin of twistd."""
        self.assertEqual(set(), (shipped_sources() | {PLUGIN}) - build().wheel)

    def test_sdist_is_whole(self) -> None:
        """A distribution that builds from the sdist gets the same files, and the tests and licence beside them."""
        self.assertEqual(set(), (shipped_sources() | {PLUGIN, "LICENSE", "tests/test_packaging.py"}) - build().sdist)

    def test_nothing_of_others(self) -> None:
        """The wheel writes nothing into Twisted but one plugin file, and no top-level package ``tests``."""
        foreign = {name for name in build().wheel if not name.startswith("chatproto")} - {PLUGIN}
        self.assertEqual(set(), foreign)

    def test_command(self) -> None:
        """Installing gives the command ``chatproto``."""
        self.assertIn("chatproto = chatproto.cli:main", build().entry_points)
