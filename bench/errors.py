"""What ends a run of the benchmark."""

from __future__ import annotations


class BenchError(Exception):
    """The run cannot go on; the message is for people."""
