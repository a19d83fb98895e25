"""chatproto: the server that connects a shop's customers with its service agents."""

from __future__ import annotations

__version__ = "0.1.0"
