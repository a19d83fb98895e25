"""On what the numbers were made."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median


def _first(path: str, pattern: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return "?"
    return found[1].strip() if found else "?"


def file_system(path: Path, mounts: str) -> str:
    """The kind and device of the file system that holds a path.

    :param mounts: as in /proc/mounts.
    """
    best, told = "", "?"
    for line in mounts.splitlines():
        device, place, kind = line.split()[:3]
        inside = place == "/" or str(path) == place or str(path).startswith(place + "/")
        if inside and len(place) >= len(best):
            best, told = place, f"{kind} on {device}"
    return told


def sync_milliseconds(directory: Path) -> float:
    """How long it takes to write 8 KiB and have it on the disk: the median of fifty."""
    taken = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(50):
            began = time.perf_counter()
            os.pwrite(file.fileno(), bytes(8192), 0)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken) * 1000


def describe(data: Path, settings: Mapping[str, str], postgres: str) -> dict[str, str]:
    """:param data: where the database lies.
    :param settings: of PostgreSQL.
    """
    memory = int(_first("/proc/meminfo", r"^MemTotal:\s*(\d+)"))
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    model = _first("/proc/cpuinfo", r"^model name\s*:\s*(.*)$")
    disk = file_system(data.resolve(), Path("/proc/mounts").read_text())
    packages = ", ".join(f"{name} {version(name)}" for name in ("twisted", "autobahn", "psycopg2-binary", "orjson"))
    return {
        "CPU": f"{len(os.sched_getaffinity(0))} × {model}",
        "memory": f"{memory / (1 << 20):.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "disk of the database": f"{disk}; 8 KiB are on it after {sync_milliseconds(data):.2f} ms",
        "Python": f"{platform.python_version()}; {packages}",
        "PostgreSQL": f"{postgres}; " + ", ".join(f"{name} {value}" for name, value in settings.items()),
        "chatproto": f"{version('chatproto')}, {commit.stdout.strip() or 'no commit'}",
    }
