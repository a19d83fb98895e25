"""A daemon whose lease, and whatever goes with it, is a tenth as long: a test waits seconds, not a minute."""

from __future__ import annotations

from twisted.scripts import twistd

import chatproto.server
from chatproto.connection import heartbeat
from chatproto.services import presence as presence_service
from chatproto.storage import presence

LEASE = presence.LEASE / 10_000
"""Seconds that a node is believed to live after it said so."""


def hurry() -> None:
    presence.LEASE = int(LEASE * 1000)
    presence_service.LEASE_SECONDS = LEASE
    heartbeat.BEAT /= 10
    for name in ("RENEW_EVERY", "ROUND_EVERY", "COMPARE_EVERY"):
        setattr(chatproto.server, name, getattr(chatproto.server, name) / 10)


if __name__ == "__main__":
    hurry()
    twistd.run()
