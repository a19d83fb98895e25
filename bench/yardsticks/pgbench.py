"""What PostgreSQL alone does with the same rows: pgbench, one row a commit and fifty."""

from __future__ import annotations

import re
import resource
import subprocess
import time
from pathlib import Path

from bench.errors import BenchError
from bench.people import TEXT
from bench.postgres import Cluster, execute
from bench.usage import postgres_cpu

TABLE = """
CREATE TABLE plain (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversation_id bigint NOT NULL,
    sender_id bigint NOT NULL,
    created_at bigint NOT NULL,
    sender_type smallint NOT NULL,
    file_type smallint NOT NULL,
    cmid text NOT NULL,
    body text NOT NULL
)
"""
"""The columns of a message, with one index and nothing to look up."""

INSERT = "INSERT INTO plain (conversation_id, sender_id, created_at, sender_type, file_type, cmid, body) VALUES "

_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)


def script(rows: int) -> str:
    """A script of pgbench that inserts *rows* rows in one statement."""
    values = (f"(:c{i}, :c{i}, 1731400000000, 1, 0, 'c1-' || :c{i}, '\"{TEXT}\"')" for i in range(rows))
    variables = "".join(f"\\set c{i} random(1, 1000000)\n" for i in range(rows))
    return f"{variables}{INSERT}{', '.join(values)};\n"


def transactions_per_second(output: str) -> float:
    """:raises BenchError: this is no report of pgbench."""
    found = _TPS.search(output)
    if found is None:
        raise BenchError(f"pgbench says no tps: {output[-300:]}")
    return float(found[1])


def run(cluster: Cluster, directory: Path, *, rows: int, clients: int, seconds: float) -> dict[str, float]:
    """Insert for some seconds.

    :returns: rate (rows a second), and CPU seconds per 1,000 rows of PostgreSQL and of pgbench.
    """
    dsn = cluster.fresh("bench_pgbench")
    execute(dsn, TABLE)
    file = directory / f"pgbench-{rows}.sql"
    file.write_text(script(rows))
    program = cluster.programs / "pgbench"
    if not program.exists():
        raise BenchError(f"there is no {program}")
    threads = min(clients, 2)
    options = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(threads), "-T", str(max(1, round(seconds)))]
    before, own = postgres_cpu(cluster.postmaster), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([program, *options, "-f", file, dsn], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"pgbench failed: {done.stderr}")
    time.sleep(0.1)  # its backends have to end, before the postmaster counts their time
    after, own_after = postgres_cpu(cluster.postmaster), resource.getrusage(resource.RUSAGE_CHILDREN)
    [(stored,)] = execute(dsn, "SELECT count(*) FROM plain")
    cluster.drop("bench_pgbench")
    spent = after.backends + after.others - before.backends - before.others
    client = own_after.ru_utime + own_after.ru_stime - own.ru_utime - own.ru_stime
    return {
        "rate": transactions_per_second(done.stdout) * rows,
        "cpu_postgres": spent / stored * 1000,
        "cpu_client": client / stored * 1000,
    }
