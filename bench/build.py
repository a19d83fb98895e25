"""Builds the load generator, bench/load.c, once for each version of its source."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from platformdirs import user_cache_dir

from bench.errors import BenchError

SOURCE = Path(__file__).with_name("load.c")
_FLAGS = ("-O2", "-std=gnu11")


def compiler() -> str | None:
    """The C compiler, or None."""
    return next((found for name in (os.environ.get("CC", "cc"), "gcc", "clang") if (found := shutil.which(name))), None)


def load_generator(source: Path = SOURCE) -> Path:
    """The compiled program, built now unless it is in the cache.

    :raises BenchError: there is no compiler, or it fails.
    """
    name = hashlib.sha256(" ".join(_FLAGS).encode() + source.read_bytes()).hexdigest()[:16]
    program = Path(user_cache_dir("chatproto-bench")) / f"load-{name}"
    if program.exists():
        return program
    cc = compiler()
    if cc is None:
        raise BenchError("the load generator needs a C compiler: apt install gcc libc6-dev, or set CC")
    program.parent.mkdir(parents=True, exist_ok=True)
    new = program.with_name(f"{program.name}.{os.getpid()}")
    done = subprocess.run([cc, *_FLAGS, "-o", new, source], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{cc} cannot build {source}:\n{done.stderr}")
    new.replace(program)
    return program
