"""The benchmark: ``python -m bench`` compares chatproto with yardsticks on this machine (docs/performance.md)."""
