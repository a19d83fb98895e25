"""What is built from this tree: nothing of the server may be missing from it, and nothing of Twisted be in it."""

from __future__ import annotations

import json
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

from chatproto.web.assets import STATIC, named_by_pages, packed_name

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = "twisted/plugins/chatproto_plugin.py"


def shipped_sources() -> set[str]:
    """The files below chatproto/ that the server needs, relative to the root, without what the build makes."""
    pages = {
        path.relative_to(ROOT).as_posix() for path in STATIC.rglob("*") if path.is_file() and ".min." not in path.name
    }
    code = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "*.sql")
        for path in (ROOT / "chatproto").rglob(pattern)
    }
    return (code | pages) - made_by_build()


def made_by_build() -> set[str]:
    """The libraries of the web pages, their licences, and the small copy of each script and style sheet."""
    names = ("vendor/ui.js", "vendor/LICENSES.txt", *map(packed_name, named_by_pages(STATIC)))
    return {(STATIC / name).relative_to(ROOT).as_posix() for name in names}


class SourceTreeTests(SynchronousTestCase):
    def test_twisted_stays_a_namespace(self) -> None:
        """Installing or removing chatproto leaves Twisted's own package alone."""
        self.assertEqual([], list((ROOT / "twisted").rglob("__init__.py")))
        self.assertTrue((ROOT / PLUGIN).is_file())


@dataclass(frozen=True)
class Built:
    """The names in both distributions, the wheel's entry points, and what the build made: name → content.

    :ivar again: the same made a second time, elsewhere.
    """

    sdist: frozenset[str]
    wheel: frozenset[str]
    entry_points: str
    made: dict[str, bytes]
    again: dict[str, bytes]


@cache
def build() -> Built:
    """Build the sdist, and the wheel from that sdist, without network but for what npm has not kept."""
    with tempfile.TemporaryDirectory(prefix="chatproto-build-") as temporary:
        # A copy: a build leaves build/ and *.egg-info behind, and reads a stale one.
        tree = Path(temporary, "tree")
        skipped = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "_trial_temp*")
        shutil.copytree(ROOT, tree, ignore=skipped)
        for name in made_by_build():
            (tree / name).unlink(missing_ok=True)
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
            made = {name: wheel.read(name) for name in made_by_build() & names}
            told = wheel.read(entry_points).decode()
        subprocess.run([sys.executable, "setup.py", "-q", "build_ui", "--inplace"], cwd=tree, check=True)
        again = {name: (tree / name).read_bytes() for name in made_by_build()}
        return Built(packed, names, told, made, again)


class BuiltTests(SynchronousTestCase):
    def test_wheel_is_whole(self) -> None:
        """What is installed from the wheel has every module, every schema file and the plugin of twistd."""
        self.assertEqual(set(), (shipped_sources() | made_by_build() | {PLUGIN}) - build().wheel)

    def test_sdist_is_whole(self) -> None:
        """A distribution that builds from the sdist gets the same files, and the tests and licence beside them."""
        beside = {PLUGIN, "LICENSE", "package-lock.json", "tests/test_packaging.py"}
        self.assertEqual(set(), (shipped_sources() | beside) - build().sdist)

    def test_made_anew(self) -> None:
        """Libraries of others are in no source distribution: each wheel makes them, and two makes are the same."""
        self.assertEqual(set(), made_by_build() & build().sdist)
        self.assertEqual(build().made, build().again)

    def test_libraries(self) -> None:
        """The bundle is what package-lock.json names, with the licence of each library beside it."""
        licences = build().made["chatproto/web/static/vendor/LICENSES.txt"].decode()
        for name in json.loads((ROOT / "package.json").read_text())["dependencies"]:
            self.assertIn(f"{name}\n===", licences)
            lock = json.loads((ROOT / "package-lock.json").read_text())["packages"]
            self.assertIn("integrity", lock[f"node_modules/{name}"])

    def test_packed(self) -> None:
        """All small copies were made of the same sources, those beside them."""
        first = {content.partition(b"\n")[0] for name, content in build().made.items() if ".min." in name}
        self.assertEqual(len(first), 1)

    def test_nothing_of_others(self) -> None:
        """The wheel writes nothing into Twisted but one plugin file, and no top-level package ``tests``."""
        foreign = {name for name in build().wheel if not name.startswith("chatproto")} - {PLUGIN}
        self.assertEqual(set(), foreign)

    def test_command(self) -> None:
        """Installing gives the command ``chatproto``."""
        self.assertIn("chatproto = chatproto.cli:main", build().entry_points)
