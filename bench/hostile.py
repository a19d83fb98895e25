"""Do others suffer? Good pairs write at a steady rate, in turns alone and together with those who mean no good."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from socket import socket
from statistics import median

from bench.load import Load, flaws
from bench.peers import Company, Peer, dial, frame, request
from bench.people import Logins, People, pairs
from bench.postgres import execute
from bench.report import number
from bench.results import Key
from bench.servers import CHATPROTO
from bench.stage import Found, Running, Stage, Step
from bench.verify import compare, lengths, read
from bench.watch import Sample, Watch, tell

HOSTILE = "Hostile peers"
MOST_KIB = 1024.0
"""What one who never reads may cost."""
MOST_RATIO = 2.0
"""How many times the p99 without them the p99 with them may be."""
MOST_MORE_FILES = 10
"""Files more than at the start that may be open when all have gone."""
MOST_GROWTH = 1.1
"""How many times the memory after the first wave of connections the memory after the last may be."""

PAGE = 100
LARGE = 16_000  # characters; more would be refused
WRITES = 2.0  # large messages a second to each of those who do not read
ROOM = 4096  # bytes that the kernel may keep for them

# Behind the places of the pairs.
_WRITERS, _HOSTS, _FLOOD = 1000, 2000, 3000

_FILL = """
INSERT INTO message (conversation_id, seq, sender_id, created_at, sender_type, file_type, cmid, body)
    SELECT c, i, 1, 1731400000000 + i, 1, 6, 's' || i, %s
    FROM generate_series(%s, %s) c, generate_series(1, %s) i;
UPDATE conversation SET last_seq = %s, rev = %s, last_message_at = now_ms() WHERE id BETWEEN %s AND %s;
"""


@dataclass(frozen=True, slots=True)
class HostileSizes:
    """:ivar pairs: good ones.
    :ivar rate: messages a second of all of them.
    :ivar deaf: guests and admins who never read.
    :ivar flood: connections that arrive at once.
    :ivar turns: how often calm and attack take turns; *window* seconds each.
    """

    pairs: int = 100
    rate: int = 500
    deaf: int = 50
    flood: int = 5000
    turns: int = 4
    window: float = 12.0


QUICK = HostileSizes(pairs=20, rate=200, deaf=10, flood=500, turns=2, window=5.0)


@dataclass
class _Windows:
    """The samples of both kinds."""

    calm: list[Sample] = field(default_factory=list)
    attacked: list[Sample] = field(default_factory=list)
    after: list[Sample] = field(default_factory=list)

    def ratio(self) -> float:
        return _p99(self.attacked) / _p99(self.calm)

    def metrics(self) -> dict[str, float]:
        """Milliseconds; medians of the windows."""
        told = {"calm_p99": _p99(self.calm), "attacked_p99": _p99(self.attacked), "p99_ratio": self.ratio()}
        return told | ({"after_p99": _p99(self.after)} if self.after else {})


def _p99(samples: Sequence[Sample]) -> float:
    return median(sample.p99 for sample in samples)


class Hostile:
    def __init__(self, stage: Stage, sizes: HostileSizes) -> None:
        self._stage = stage
        self._sizes = sizes

    def steps(self) -> Iterator[Step]:
        sizes = self._sizes
        yield Step(Key(HOSTILE, f"{sizes.deaf} who never read", CHATPROTO), self._deaf)
        for wave in WAVES:
            point = f"{sizes.flood:,} connections at once, {wave.name}"
            yield Step(Key(HOSTILE, point, CHATPROTO), partial(self._flood, wave))

    def _deaf(self) -> Found:
        """They are written to all the time, by others: in the calm windows somebody else reads it."""
        sizes = self._sizes
        everybody = sizes.pairs + sizes.deaf
        people = People(everybody, everybody)
        gids = range(sizes.pairs + 1, everybody + 1)
        with self._stage.server(CHATPROTO, people) as running:
            assert running.dsn is not None
            text = json.dumps("".join(random.Random(1).choices("abcdefghij klmnop", k=LARGE)))
            execute(running.dsn, _FILL, text, gids[0], gids[-1], PAGE, PAGE, PAGE, gids[0], gids[-1])
            with self._good(running, people, 2 * sizes.turns) as (load, watch, wrong):
                writers = Writers(running, people, gids)
                windows, most, before = _Windows(), 0.0, 0.0
                try:
                    for turn in range(sizes.turns):
                        readers = Company(lambda peer: None)
                        for place, peer in enumerate(hosts(running, people, gids)):
                            readers.add(peer)
                            # One page: what making a large reply takes for a moment is no cost of who does not read.
                            peer.say(**_page(people, gids[place], guest=place % 2 == 0))
                        windows.calm.append(_look(load, watch, "all read"))
                        readers.close()
                        before = before or watch.rss()
                        nagging = Nagging(hosts(running, people, gids, ROOM), people, gids)
                        windows.attacked.append(_look(load, watch, f"{sizes.deaf} never read, {turn + 1}"))
                        most = max(most, watch.rss())
                        nagging.close()
                finally:
                    writers.close()
            cost = (most - before) * 1024 / sizes.deaf
            metrics = {"kib": cost, **windows.metrics(), "asked": nagging.asked}
        if cost > MOST_KIB:
            wrong.append(f"one who never reads costs {number(cost)} KiB")
        if windows.ratio() > MOST_RATIO:
            wrong.append(f"those who never read make p99 {number(windows.ratio())} times as long")
        return Found(metrics, wrong)

    def _flood(self, wave: Wave) -> Found:
        """They come, stay until they are thrown out or for a window, go all at once, and it is calm again."""
        sizes = self._sizes
        people = People(sizes.pairs, sizes.pairs)
        with (
            self._stage.server(CHATPROTO, people) as running,
            self._good(running, people, 1 + 3 * sizes.turns) as (load, watch, wrong),
        ):
            windows, after = _Windows(), []
            _look(load, watch, "before")
            files = watch.files()
            for turn in range(sizes.turns):
                windows.calm.append(_look(load, watch, "calm"))
                flood = Flood(running.server.port, sizes.flood, wave)
                windows.attacked.append(_look(load, watch, f"{sizes.flood:,} {wave.name}, {turn + 1}"))
                flood.close()
                windows.after.append(_look(load, watch, "gone"))
                after.append(windows.after[-1].rss)
            left = watch.files() - files
        metrics = {
            **windows.metrics(),
            "rss_first": windows.calm[0].rss,
            "rss_most": max(sample.rss for sample in windows.attacked),
            "rss_last": after[-1],
            "files_most": max(sample.files for sample in windows.attacked),
            "files_left": left,
        }
        if left > MOST_MORE_FILES:
            wrong.append(f"{left} files more are open when all have gone")
        if after[-1] > MOST_GROWTH * after[0]:
            first, last = number(after[0]), number(after[-1])
            wrong.append(f"memory goes on growing: {first} MiB after the first wave, {last} after the last")
        return Found(metrics, wrong)

    @contextmanager
    def _good(self, running: Running, people: People, windows: int) -> Iterator[tuple[Load, Watch, list[str]]]:
        """The good pairs; when they have ended, what was wrong with them is in the list."""
        sizes = self._sizes
        assert running.dsn is not None
        stood = lengths(running.dsn)
        wrong: list[str] = []
        load = running.load(
            (one for one in pairs(people, running.logins, sizes.pairs) if one.role != "idle"),
            "rate",
            rate=sizes.rate,
            warm=self._stage.warm,
            measure=windows * sizes.window + 0.5,
            sample=sizes.window,
            drain=60.0,
        )
        load.wait_for("ready")
        load.wait_for("measuring")
        yield load, Watch(running), wrong
        load.wait_for("measured")
        result = running.result(load)
        wrong += flaws(result)
        wrong += compare(load.counts(), read(running.dsn, stood)).flaws


def _look(load: Load, watch: Watch, what: str) -> Sample:
    sample = watch.look(load.wait_for("sample"))
    tell(what, sample)
    return sample


def hosts(running: Running, people: People, gids: Sequence[int], room: int | None = None) -> list[Peer]:
    """Of every second conversation the guest, of the others the admin."""
    logins = running.logins
    return [
        Peer(running.server.port, _HOSTS + place, _login(logins, people, gid, guest=place % 2 == 0), room)
        for place, gid in enumerate(gids)
    ]


def _login(logins: Logins, people: People, gid: int, guest: bool) -> str:
    return people.guest(logins, gid) if guest else logins.admin(people.admin_of(gid))


class Writers:
    """The other side of each conversation, which writes large messages, one after the other, and reads."""

    def __init__(self, running: Running, people: People, gids: Sequence[int]) -> None:
        text = "".join(random.Random(2).choices("abcdefghij klmnop", k=LARGE))
        self._company = Company(lambda peer: None)
        self._writing: list[tuple[Peer, bytes]] = []
        for place, gid in enumerate(gids):
            guest = place % 2 == 1
            peer = Peer(running.server.port, _WRITERS + place, _login(running.logins, people, gid, guest=guest))
            message = {"api_key": 22300} if guest else {"api_key": 32300, "gid": gid}
            self._writing.append((peer, frame(json.dumps({**message, "msg": text, "file_type": 6}).encode())))
            self._company.add(peer)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, name="writers", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        pause = 1 / (WRITES * len(self._writing))
        while True:
            for peer, message in self._writing:
                _send(peer.socket, message)
                if self._over.wait(pause):
                    return

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._company.close()


class Nagging:
    """Asks for pages of large messages, as often as the server takes it, and never reads one.

    :ivar asked: how many requests it took.
    """

    def __init__(self, peers: Sequence[Peer], people: People, gids: Sequence[int]) -> None:
        self.asked = 0
        self._peers = peers
        self._questions = [
            frame(json.dumps(_page(people, gid, guest=place % 2 == 0)).encode()) for place, gid in enumerate(gids)
        ]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._nag, name="nagging", daemon=True)
        self._thread.start()

    def _nag(self) -> None:
        while not self._over.wait(0.2):
            for peer, question in zip(self._peers, self._questions, strict=True):
                self.asked += sum(_send(peer.socket, question) for _ in range(10))

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for peer in self._peers:
            peer.reset()


def _page(people: People, gid: int, guest: bool) -> dict[str, int]:
    """The newest messages, by seq: such a page ends at 512 KiB."""
    if guest:
        return {"api_key": 22100, "page_size": PAGE}
    group_id = people.group_of(people.admin_of(gid))
    return {"api_key": 32100, "gid": gid, "group_id": group_id, "page_size": PAGE, "before_seq": PAGE + 1}


def _send(peer: socket, data: bytes) -> bool:
    """Whether it was taken; a part of a frame is no frame, and what a hostile peer sends may be broken off."""
    try:
        return peer.send(data) == len(data)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Wave:
    """What each of very many connections sends.

    :ivar head: all of it, for a port.
    :ivar drips: one byte of it every half second, instead of all at once.
    """

    name: str
    head: Callable[[int], bytes]
    drips: bool = False


WAVES = (
    Wave("which say nothing", lambda port: b""),
    Wave("with half a handshake", lambda port: request(port)[:-4]),
    Wave("with a byte of it now and then", request, drips=True),
    Wave("with a handshake and no login", request),
)


class Flood:
    """All of them begin to connect in one moment."""

    def __init__(self, port: int, count: int, wave: Wave) -> None:
        self._wave = wave
        self._head = wave.head(port)
        self._sockets = [dial(port, _FLOOD + place) for place in range(count)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="flood", daemon=True)
        self._thread.start()

    def _send_all(self) -> None:
        sent = [0] * len(self._sockets)
        while not self._over.wait(0.5):
            for place, peer in enumerate(self._sockets):
                at = sent[place]
                part = self._head[at : at + 1] if self._wave.drips else self._head[at:]
                if part and _send(peer, part):
                    sent[place] = at + len(part)

    def close(self) -> None:
        """All of them go in one moment."""
        self._over.set()
        self._thread.join()
        for peer in self._sockets:
            peer.close()
