"""A daemon whose lease, and whatever goes with it, is shorter: a test waits seconds, not a minute.

``CHATPROTO_TEST_HURRY`` says how many times shorter.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.scripts import twistd

import chatproto.server
from chatproto.connection import heartbeat
from chatproto.services import presence as presence_service
from chatproto.storage import presence

_HURRY = "CHATPROTO_TEST_HURRY"


def hurried(times: float) -> dict[str, Any]:
    """What makes a :class:`~tests.integration.daemon.Daemon` such a one."""
    return {"program": ("-m", __name__), "environment": {_HURRY: f"{times:g}"}}


def hurry(times: float) -> None:
    presence.LEASE = int(presence.LEASE / times)
    presence_service.LEASE_SECONDS /= times
    heartbeat.BEAT /= times
    for name in ("RENEW_EVERY", "ROUND_EVERY", "COMPARE_EVERY"):
        setattr(chatproto.server, name, getattr(chatproto.server, name) / times)


if __name__ == "__main__":
    hurry(float(os.environ[_HURRY]))
    twistd.run()
