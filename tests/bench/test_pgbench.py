"""The scripts for pgbench, and its report."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.errors import BenchError
from bench.machine import file_system
from bench.yardsticks.pgbench import script, transactions_per_second


class PgbenchTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """Fifty rows are one statement."""
        made = script(50)
        self.assertEqual(
            (made.count("INSERT"), made.count("(:c"), made.count("\\set"), made.count(";\n")), (1, 50, 50, 1)
        )

    def test_report(self) -> None:
        """The rate is without the time that connecting took."""
        self.assertEqual(
            transactions_per_second("latency = 1 ms\ntps = 123.5 (without initial connection time)\n"), 123.5
        )

    def test_no_report(self) -> None:
        """A pgbench that failed has no rate."""
        with self.assertRaises(BenchError):
            transactions_per_second("pgbench: error")


class FileSystemTests(SynchronousTestCase):
    def test_innermost(self) -> None:
        """The reader learns on what disk the commits were."""
        mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n"
        for path, told in (("/home", "ext4 on /dev/a"), ("/tmp/x", "tmpfs on tmpfs"), ("/tmp/disk/x", "xfs on /dev/b")):
            self.assertEqual(file_system(Path(path), mounts), told)
        self.assertEqual(file_system(Path("/tmpx"), mounts), "ext4 on /dev/a")
