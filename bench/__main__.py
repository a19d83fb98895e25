"""``python -m bench``: runs the comparison and writes its table (docs/performance.md)."""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.build import load_generator
from bench.errors import BenchError
from bench.machine import describe
from bench.people import PER_ADDRESS
from bench.postgres import ROOT, Cluster
from bench.report import Run, document, markdown, number, replaced
from bench.results import Measurement, Results
from bench.scenarios import QUICK, SCENARIOS, Found, Scenarios, Sizes, Step
from bench.servers import LIFTED
from bench.targets import targets

DOCUMENT = ROOT / "docs" / "performance.md"
MOST_OF_AN_ERROR = 500

NOTES = (
    "Load generator, servers and PostgreSQL share the machine; one server process runs at a time, on a fresh database"
    " of the same PostgreSQL (the embedded one, with the daemon's settings). Only ratios within one run say much.",
    "Production's limits hold, but in the closed loop and the fan-out, where one connection sends more than a person"
    f" does: {', '.join(f'--{name} {value}' for name, value in LIFTED.items())}. Open files: the user's hard limit.",
    f"Clients come from many addresses of 127.0.0.0/8, {PER_ADDRESS} from each, with a browser's headers.",
    "CPU-s/1,000: CPU seconds per 1,000 messages (fan-out: pushes; logins where these are counted) of the server and"
    " PostgreSQL together, and of these the server, its database backends and the rest of PostgreSQL.",
    "Times are from the sending of a message to its acknowledgement and to the receiver; at a fixed rate from when it"
    " was due. The echo has one time for both.",
)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Compare chatproto with its yardsticks here.")
    parser.add_argument("--quick", action="store_true", help="one short round of a part, about two minutes")
    parser.add_argument("--rounds", type=int, default=None, help="rounds, at least one [3; --quick: 1]")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="of %(default)s")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "bench", help="where results.md and results.json go [build/bench]"
    )
    parser.add_argument("--record", action="store_true", help="put the results into docs/performance.md as well")
    parser.add_argument(
        "--scratch", type=Path, default=None, help="where the database lies meanwhile [the temporary directory]"
    )
    chosen = parser.parse_args(given)
    unknown = sorted(set(chosen.only.split(",")) - set(SCENARIOS))
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is none of {', '.join(SCENARIOS)}")
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds: at least 1")
    return chosen


class Progress:
    """One line that says what is going on; where nobody looks, one line for each step."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()

    def begins(self, number_: int, rounds: int, step: Step) -> None:
        key, passed = step.key, time.monotonic() - self._began
        left = f", about {_clock(passed / self._done * (self._total - self._done))} left" if self._done else ""
        what = f"{key.scenario}, {key.point}, {key.system}"
        self._done += 1
        self._line = f"[{self._done}/{self._total} {_clock(passed)}{left}] round {number_}/{rounds}: {what}"
        if self._live:
            print(f"\r\033[K{self._line} …", end="", file=sys.stderr, flush=True)

    def ends(self, measurement: Measurement) -> None:
        shown = ("rate", "push_p99", "ratio", "kib", "back_100")
        told = [f"{name} {number(measurement.metrics[name])}" for name in shown if name in measurement.metrics]
        start = "\r\033[K" if self._live else ""
        print(f"{start}{self._line}: {', '.join([*told, *measurement.flaws])}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def measure(steps: Sequence[Step], rounds: int) -> Results:
    """All steps in turn, several times; one that fails leaves the others be."""
    results, progress = Results(), Progress(len(steps) * rounds)
    for number_ in range(1, rounds + 1):
        for step in steps:
            progress.begins(number_, rounds, step)
            try:
                found = step.run()
            except BenchError as error:
                found = Found({}, [" ".join(str(error).split())[:MOST_OF_AN_ERROR]])
            measurement = Measurement(number_, step.key, found.metrics, found.flaws)
            results.add(measurement)
            progress.ends(measurement)
    return results


def main(given: Sequence[str]) -> int:
    """:returns: 0; 1 where something failed, or a message was lost, doubled or late in its order."""
    chosen = arguments(given)
    sizes = replace(QUICK if chosen.quick else Sizes(), only=frozenset(chosen.only.split(",")))
    rounds = chosen.rounds or (1 if chosen.quick else 3)
    # For the servers and the load generator, which inherit it: 10,000 connections are as many files.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # So that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scratch = Path(tempfile.mkdtemp(prefix="chatproto-bench-", dir=chosen.scratch))
    began = time.time()
    try:
        program = load_generator()
        cluster = Cluster(scratch / "postgres")
        try:
            machine = describe(scratch, cluster.settings(), cluster.version)
            results = measure(Scenarios(cluster, program, scratch, sizes).steps(), rounds)
        finally:
            cluster.close()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    day = time.strftime("%Y-%m-%d", time.gmtime(began))
    title = f"{'Quick run (too short to rely on)' if chosen.quick else 'Full run'} of {day}"
    run = Run(title, rounds, machine, NOTES)
    report = markdown(run, results, targets(sizes))
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "results.md").write_text(report)
    (chosen.out / "results.json").write_text(json.dumps(document(run, results, targets(sizes)), indent=1) + "\n")
    if chosen.record:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), report))
    print(report)
    return 1 if results.flaws() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
