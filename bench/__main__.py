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
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import psycopg2

from bench.axes import AXES, Axis, section
from bench.build import load_generator
from bench.errors import BenchError
from bench.growth import QUICK as QUICK_GROWTH
from bench.growth import TALKING, Growth, GrowthSizes
from bench.hostile import QUICK as QUICK_HOSTILE
from bench.hostile import Hostile, HostileSizes
from bench.machine import describe
from bench.people import PER_ADDRESS
from bench.postgres import ROOT, Cluster
from bench.report import Run, document, markdown, number, read_document, replaced
from bench.results import Measurement, Results
from bench.scenarios import QUICK, SCENARIOS, Scenarios, Sizes
from bench.servers import LIFTED
from bench.soak import QUICK as QUICK_SOAK
from bench.soak import Soak, SoakSizes
from bench.stage import Found, Stage, Step
from bench.targets import targets

DOCUMENT = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"
GROWTH = "growth"
ALONE = frozenset(("soak", "hostile"))
"""What runs only when it is asked for, and in one round where nothing else is said."""
MOST_OF_AN_ERROR = 500
SPARE_FILES = 500
"""Open files of a process beside its connections."""

NOTES = (
    "Load generator, servers and PostgreSQL share the machine; one server process runs at a time, on a fresh database"
    " of the same PostgreSQL (the embedded one, with the daemon's settings). Only ratios within one run say much.",
    "Production's limits hold, but in the closed loop, the fan-out and the growth, where one connection sends more than"
    f" a person does: {', '.join(f'--{name} {value}' for name, value in LIFTED.items())}. Open files: the user's hard"
    " limit.",
    f"Clients come from many addresses of 127.0.0.0/8, {PER_ADDRESS} from each, with a browser's headers.",
    "CPU-s/1,000: CPU seconds per 1,000 messages (fan-out: pushes; logins where these are counted) of the server and"
    " PostgreSQL together, and of these the server, its database backends and the rest of PostgreSQL.",
    "Times are from the sending of a message to its acknowledgement and to the receiver; at a fixed rate from when it"
    " was due. The echo has one time for both.",
)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Compare chatproto with its yardsticks here.")
    parser.add_argument("--quick", action="store_true", help="one short round of a part, a few minutes")
    parser.add_argument("--rounds", type=int, default=None, help="rounds, at least one [3; --quick: 1]")
    parser.add_argument(
        "--only",
        default=",".join(SCENARIOS),
        help=f"of %(default)s; or of {','.join(AXES)}, which {GROWTH!r} stands for; or of {','.join(sorted(ALONE))}"
        " [the first of these lists]",
    )
    parser.add_argument("--minutes", type=float, default=None, help="of the soak [30; --quick: 3]")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "bench", help="where results and plots go [build/bench]"
    )
    parser.add_argument("--record", action="store_true", help="put the results into docs/performance.md as well")
    parser.add_argument(
        "--scratch", type=Path, default=None, help="where the database lies meanwhile [the temporary directory]"
    )
    parser.add_argument(
        "--results", type=Path, default=None, help="measure nothing: report what is in this results.json"
    )
    chosen = parser.parse_args(given)
    names = set(chosen.only.split(","))
    if GROWTH in names:
        names = names - {GROWTH} | set(AXES)
    unknown = sorted(names - set(SCENARIOS) - set(AXES) - ALONE)
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is none of {', '.join((*SCENARIOS, GROWTH, *AXES, *sorted(ALONE)))}")
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds: at least 1")
    if chosen.minutes is not None and not 1 <= chosen.minutes <= 1440:
        parser.error("--minutes: from 1 to 1440")
    chosen.only = names
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
        shown = ("rate", "push_p99", "ratio", "kib", "back_100", "us_send", "p99_ratio", "rss_last")
        told = [f"{name} {number(measurement.metrics[name])}" for name in shown if name in measurement.metrics]
        start = "\r\033[K" if self._live else ""
        print(f"{start}{self._line}: {', '.join([*told, *measurement.flaws])}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def measure(steps: Sequence[Step], rounds: int, after_round: Callable[[Results], object]) -> Results:
    """All steps in turn, several times; one that fails leaves the others be."""
    results, progress = Results(), Progress(len(steps) * rounds)
    for number_ in range(1, rounds + 1):
        for step in steps:
            progress.begins(number_, rounds, step)
            try:
                found = step.run()
            except (BenchError, psycopg2.Error, OSError) as error:
                found = Found({}, [" ".join(f"{type(error).__name__}: {error}".split())[:MOST_OF_AN_ERROR]])
            measurement = Measurement(number_, step.key, found.metrics, found.flaws)
            results.add(measurement)
            progress.ends(measurement)
        after_round(results)
    return results


def run(chosen: argparse.Namespace) -> tuple[Run, Results]:
    """Measure; what is there after each round is kept.

    :raises BenchError: nothing can be measured.
    """
    sizes, growth = (QUICK, QUICK_GROWTH) if chosen.quick else (Sizes(), GrowthSizes())
    rounds = chosen.rounds or (1 if chosen.quick or chosen.only <= ALONE else 3)
    # For the servers and the load generator, which inherit it: 10,000 connections are as many files.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = files_needed(chosen.only, sizes, growth)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(f"{needed:,} open files are needed, and the hard limit is {hard:,} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # So that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    scratch = Path(tempfile.mkdtemp(prefix="chatproto-bench-", dir=chosen.scratch))
    day = time.strftime("%Y-%m-%d", time.gmtime())
    title = f"{'Quick run (too short to rely on)' if chosen.quick else 'Full run'} of {day}"
    try:
        program = load_generator()
        cluster = Cluster(scratch / "postgres")
        try:
            machine = describe(scratch, cluster.settings(), cluster.version)
            stage = Stage(cluster, program, scratch, sizes.warm, sizes.measure)
            comparison = {SCENARIOS[name] for name in chosen.only if name in SCENARIOS}
            steps = [step for step in Scenarios(stage, sizes).steps() if step.key.scenario in comparison]
            steps += Growth(stage, growth).steps(chosen.only)
            steps += alone(chosen, stage)
            described = Run(title, rounds, machine, NOTES)
            results = measure(steps, rounds, lambda results: keep(chosen, described, results))
        finally:
            cluster.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return described, results


def alone(chosen: argparse.Namespace, stage: Stage) -> Sequence[Step]:
    """The steps of what runs only when it is asked for."""
    soak, hostile = (QUICK_SOAK, QUICK_HOSTILE) if chosen.quick else (SoakSizes(), HostileSizes())
    steps: list[Step] = []
    if "hostile" in chosen.only:
        steps += Hostile(stage, hostile).steps()
    if "soak" in chosen.only:
        soak = replace(soak, minutes=chosen.minutes or soak.minutes)
        steps += Soak(stage, soak, chosen.out).steps()
    return steps


def files_needed(names: Collection[str], sizes: Sizes, growth: GrowthSizes) -> int:
    """Open files of a process, for the most connections that are held at once."""
    connections = {
        "idle": max(sizes.idle),
        "storm": sizes.storm,
        AXES["connections"].name: max(growth.connections) + 2 * TALKING,
        AXES["groups"].name: 2 * max(growth.groups),
        AXES["pairs"].name: 2 * max(growth.pairs),
    }
    return SPARE_FILES + max((count for name, count in connections.items() if name in names), default=0)


def keep(chosen: argparse.Namespace, described: Run, results: Results) -> str:
    """Write the results down, and return the report."""
    sizes = QUICK if chosen.quick else Sizes()
    report = markdown(described, results, targets(sizes) if compared(results) else ())
    sections = {name: section(axis, results, described.title) for name, axis in grown(results).items()}
    for name, text in sections.items():
        report += f"\n### {AXES[name].scenario}\n\n{text}"
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "results.md").write_text(report)
    kept = document(described, results, targets(sizes))
    (chosen.out / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
    return report


def record(described: Run, results: Results) -> None:
    """Put what was measured into the page: the comparison, and each axis along which cost may grow."""
    text = DOCUMENT.read_text()
    if compared(results):
        text = replaced(text, "results", markdown(described, results, targets(Sizes())))
    for name, axis in grown(results).items():
        text = replaced(text, f"growth-{name}", section(axis, results, described.title))
    DOCUMENT.write_text(text)


def compared(results: Results) -> bool:
    return any(key.scenario in SCENARIOS.values() for key in results.measured())


def grown(results: Results) -> dict[str, Axis]:
    """The axes of the results."""
    scenarios = {key.scenario for key in results.measured()}
    return {name: axis for name, axis in AXES.items() if axis.scenario in scenarios}


def plot(results: Results, directories: Sequence[Path]) -> None:
    """:raises BenchError: there is no matplotlib."""
    try:
        from bench.plots import draw
    except ModuleNotFoundError as error:
        raise BenchError(f"no plots: {error}; pip install -e '.[bench]', then --results") from error
    for axis in grown(results).values():
        for directory in directories:
            draw(axis, results, directory)


def main(given: Sequence[str]) -> int:
    """:returns: 0; 1 where something failed, or a message was lost, doubled or late in its order."""
    chosen = arguments(given)
    try:
        if chosen.results is None:
            described, results = run(chosen)
        else:
            described, results = read_document(json.loads(chosen.results.read_text()))
        report = keep(chosen, described, results)
        if chosen.record:
            record(described, results)
        print(report)
        if grown(results):
            plot(results, [chosen.out / "images", *([IMAGES] if chosen.record else [])])
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 1 if results.flaws() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
