"""The results as Markdown and JSON. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from bench.results import Key, Measurement, Results, Spread, Target, Term

LABELS: Mapping[str, str] = {
    "rate": "per second",
    "ack_p50": "ack p50 ms",
    "ack_p99": "ack p99 ms",
    "push_p50": "push p50 ms",
    "push_p99": "push p99 ms",
    "push_max": "push max ms",
    "p50": "p50 ms",
    "p99": "p99 ms",
    "max": "max ms",
    "cpu": "CPU-s/1,000, all",
    "cpu_server": "server",
    "cpu_backends": "backends",
    "cpu_others": "rest of PostgreSQL",
    "cpu_postgres": "CPU-s/1,000, PostgreSQL",
    "cpu_client": "pgbench",
    "load_cores": "load generator, cores",
    "lag_p99": "sent late, p99 ms",
    "function": "function, CPU-µs a row",
    "plain": "plain INSERT, CPU-µs a row",
    "ratio": "ratio",
    "kib": "KiB a connection",
    "rss_mib": "RSS MiB",
    "idle_cores": "server, cores, idle",
    "idle_backends": "backends, cores, idle",
    "pings": "pings answered",
    "down": "server down s",
    "back_50": "half back s",
    "back_99": "99 % back s",
    "back_100": "all back s",
    "attempts": "attempts a client",
    "told": "told to log in later",
    "failed_connect": "refused",
    "failed_handshake": "no handshake",
    "failed_login": "no login",
    "replaced": "replaced",
    "calm_p99": "p99 alone ms",
    "attacked_p99": "p99 with them ms",
    "p99_ratio": "with ÷ alone",
    "after_p99": "p99 when they go ms",
    "asked": "requests taken",
    "rss_first": "RSS MiB first",
    "rss_most": "most",
    "rss_last": "last",
    "rss_slope": "MiB an hour",
    "files_first": "files first",
    "files_most": "most files",
    "files_last": "files last",
    "files_left": "files left",
    "files_slope": "files an hour",
    "p99_first": "p99 first ms",
    "p99_last": "p99 last ms",
    "lag_max": "lag max ms",
    "cores": "server, cores",
}
"""Column heads; a metric without one is only in the JSON."""


GROWTH = "Growth: "
"""How the names of scenarios begin that :mod:`bench.axes` shows."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the numbers were made with.

    :ivar title: such as "Full run" or "Quick run".
    :ivar machine: name → value, for people.
    :ivar notes: what a reader has to know, one sentence each.
    """

    title: str
    rounds: int
    machine: Mapping[str, str]
    notes: Sequence[str]


def number(value: float) -> str:
    """With three digits that count, and at most four places: 25,300 · 9.81 · 0.0420."""
    if value == 0:
        return "0"
    places = min(2 - floor(log10(abs(value))), 4)
    return f"{round(value, places):,.{max(places, 0)}f}"


def cell(spread: Spread | None, unit: str = "") -> str:
    """median (min–max); the median alone where there is no difference."""
    if spread is None:
        return ""
    middle, least, most = number(spread.median) + unit, number(spread.least), number(spread.most)
    return middle if least == most else f"{middle} ({least}–{most})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _scenario(results: Results, keys: Sequence[Key]) -> list[str]:
    metrics = [name for name in LABELS if any(name in results.metrics(key) for key in keys)]
    rows = [[key.point, key.system, *(cell(results.spread(key, name)) for name in metrics)] for key in keys]
    return table(["", "system", *(LABELS[name] for name in metrics)], rows)


def _ratios(results: Results, keys: Sequence[Key]) -> list[str]:
    """The first system at each point against the others there, round by round; nothing where there is one only."""
    by_point: dict[str, list[Key]] = {}
    for key in keys:
        by_point.setdefault(key.point, []).append(key)
    others = list(dict.fromkeys(key.system for first, *rest in by_point.values() for key in rest))
    if not others:
        return []
    first = keys[0].system
    head = [f"{first} ÷ …", *(f"{other}: {what}" for other in others for what in ("rate", "CPU"))]
    rows = []
    for point in by_point:
        row = [point]
        for other in others:
            for metric in ("rate", "cpu"):
                of, over = (Term(metric, (Key(keys[0].scenario, point, system),)) for system in (first, other))
                row.append(cell(Target("", of, over, 0, 0).spread(results)))
        rows.append(row)
    return table(head, rows)


def _targets(results: Results, targets: Sequence[Target]) -> list[str]:
    rows = []
    for target in targets:
        spread = target.spread(results)
        sign = "≤" if target.low else "≥"
        bounds = [f"{sign} {number(bound)}{target.unit}" for bound in (target.must, target.reach)]
        if spread is None:
            rows.append([target.what, *bounds, "not measured", ""])
        else:
            rows.append([target.what, *bounds, cell(spread, target.unit), target.verdict(spread.median)])
    return table(["", "must", "reach for", "measured", ""], rows)


def _by_scenario(results: Results) -> dict[str, list[Key]]:
    """Without what is shown along an axis."""
    found: dict[str, list[Key]] = {}
    for key in results.measured():
        if not key.scenario.startswith(GROWTH):
            found.setdefault(key.scenario, []).append(key)
    return found


def markdown(run: Run, results: Results, targets: Sequence[Target]) -> str:
    """The whole report."""
    rounds = "one round" if run.rounds == 1 else f"{run.rounds} interleaved rounds: median (min–max)"
    lines = [f"**{run.title}**, {rounds}.", ""]
    flaws = results.flaws()
    if flaws:
        lines += ["**Not as it has to be:**", "", *(f"- {flaw}" for flaw in flaws), ""]
    else:
        lines += [
            "Every message was received once and in order, and every acknowledged one stood in the database.",
            "",
        ]
    lines += table(["machine", ""], [[name, value] for name, value in run.machine.items()])
    lines += ["", *(f"- {note}" for note in run.notes)]
    if targets:
        lines += ["", "### Against the targets", "", *_targets(results, targets)]
    for scenario, keys in _by_scenario(results).items():
        lines += ["", f"### {scenario}", "", *_scenario(results, keys)]
        ratios = _ratios(results, keys)
        if ratios:
            lines += ["", *ratios]
    return "\n".join(lines) + "\n"


def document(run: Run, results: Results, targets: Sequence[Target]) -> dict[str, Any]:
    """The whole report for programs."""
    summary = []
    for key in results.measured():
        spreads = {name: results.spread(key, name) for name in results.metrics(key)}
        metrics = {name: spread.json() for name, spread in spreads.items() if spread is not None}
        summary.append({"scenario": key.scenario, "point": key.point, "system": key.system, "metrics": metrics})
    reached = []
    for target in targets:
        spread = target.spread(results)
        reached.append(
            {
                "what": target.what,
                "must": target.must,
                "reach": target.reach,
                "low": target.low,
                "measured": spread.json() if spread is not None else None,
                "verdict": target.verdict(spread.median) if spread is not None else None,
            }
        )
    return {
        "title": run.title,
        "rounds": run.rounds,
        "machine": dict(run.machine),
        "notes": list(run.notes),
        "flaws": results.flaws(),
        "targets": reached,
        "summary": summary,
        "measurements": [one.json() for one in results.measurements],
    }


def read_document(kept: Mapping[str, Any]) -> tuple[Run, Results]:
    """What :func:`document` was made of."""
    described = Run(kept["title"], kept["rounds"], kept["machine"], kept["notes"])
    return described, Results(Measurement.of_json(one) for one in kept["measurements"])


def marks(name: str) -> tuple[str, str]:
    """What stands before and behind a part of the document that is made by the benchmark."""
    return f"<!-- {name}: made by python -m bench --record -->", f"<!-- end of {name} -->"


def replaced(text: str, name: str, report: str) -> str:
    """The document with the report in place of the one between the marks.

    :raises ValueError: the marks are not there.
    """
    begin, end = marks(name)
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no marks for {name}")
    return f"{before}{begin}\n\n{report}\n{end}{after}"
