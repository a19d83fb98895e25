"""What each ``chatproto NOUN VERB`` does, and says. The grammar is :mod:`chatproto.cli`'s."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from chatproto.cli.doctor import FAIL, as_json, as_text, examine
from chatproto.cli.office import Office
from chatproto.cli.tables import shown, table
from chatproto.config import Config
from chatproto.domain import passwords
from chatproto.domain.model import ONLINE, SUSPENDED
from chatproto.domain.tokens import load_keyring
from chatproto.errors import ConfigurationError
from chatproto.storage.registry import AdminRow, GroupRow, GuestRow


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command came to.

    :ivar value: for ``--json``.
    :ivar text: for stdout without it, "" is nothing.
    :ivar note: for people, on stderr without ``--json``.
    :ivar failed: for the exit code.
    """

    value: Any
    text: str = ""
    note: str = ""
    failed: bool = False


Verb = Callable[[Office, Namespace], Awaitable[Answer]]
"""Raises Refused, StartError, StorageError, or ConfigurationError for a value out of its bounds."""


# Groups.


async def group_add(office: Office, given: Namespace) -> Answer:
    name = _name(given.NAME, "NAME", office.config)
    group_id, _ = await (await office.operator()).add_group(name)
    return Answer({"id": group_id, "name": name}, str(group_id))


async def group_list(office: Office, given: Namespace) -> Answer:
    rows = await (await office.operator()).groups()
    head = ("ID", "NAME", "STATE", "ADMINS", "WAITING", "SERVED")
    cells = [(row.id, row.name, _group_state(row), row.admins, row.waiting, row.serving) for row in rows]
    return Answer([asdict(row) for row in rows], table(head, cells))


async def group_ban(office: Office, given: Namespace) -> Answer:
    row, _ = await (await office.operator()).ban_group(given.ID)
    return Answer(asdict(row), note=f"group {row.id} ({row.name}) is banned")


async def group_unban(office: Office, given: Namespace) -> Answer:
    row, _ = await (await office.operator()).unban_group(given.ID)
    return Answer(asdict(row), note=f"group {row.id} ({row.name}) is open")


def _group_state(row: GroupRow) -> str:
    return "banned" if row.banned else "open"


# Admins.


async def admin_add(office: Office, given: Namespace) -> Answer:
    name = _name(given.NAME, "NAME", office.config)
    avatar = _url(given.avatar, office.config)
    control = await office.operator()
    admin_id, _ = await control.add_admin(given.group, name, avatar=avatar, capacity=given.capacity)
    return Answer(_admin(await control.admin(admin_id)), str(admin_id))


async def admin_list(office: Office, given: Namespace) -> Answer:
    rows = await (await office.operator()).admins(given.group)
    head = ("ID", "NAME", "GROUP", "STATE", "GUESTS", "CAPACITY", "PASSWORD")
    cells = [
        (
            row.id,
            row.name,
            f"{row.group_id} {row.group_name}",
            _admin_state(row),
            row.guests,
            row.capacity,
            "yes" if row.has_password else "no",
        )
        for row in rows
    ]
    return Answer([_admin(row) for row in rows], table(head, cells))


async def admin_ban(office: Office, given: Namespace) -> Answer:
    row, _ = await (await office.operator()).ban_admin(given.ID)
    return Answer(_admin(row), note=f"{_title(row)} is banned")


async def admin_unban(office: Office, given: Namespace) -> Answer:
    row, _ = await (await office.operator()).unban_admin(given.ID)
    return Answer(_admin(row), note=f"{_title(row)} may log in")


async def admin_capacity(office: Office, given: Namespace) -> Answer:
    row, _ = await (await office.operator()).set_capacity(given.ID, given.N)
    return Answer(_admin(row), note=f"{_title(row)} serves up to {row.capacity} guests")


async def admin_move(office: Office, given: Namespace) -> Answer:
    row, _ = await (await office.operator()).move_admin(given.ID, given.group)
    return Answer(_admin(row), note=f"{_title(row)} is in group {row.group_id} ({row.group_name})")


async def admin_password(office: Office, given: Namespace) -> Answer:
    row, _ = await (await office.operator()).set_password(given.ID, passwords.hashed(given.password))
    return Answer(_admin(row), note=f"{_title(row)} has a new password")


def _admin(row: AdminRow) -> dict[str, Any]:
    return {**asdict(row), "status": _status(row)}


def _status(row: AdminRow) -> str:
    return {ONLINE: "online", SUSPENDED: "suspended"}.get(row.status, "offline")


def _admin_state(row: AdminRow) -> str:
    return "banned" if row.banned else "group banned" if row.group_banned else _status(row)


def _title(row: AdminRow) -> str:
    return f"admin {row.id} ({row.name})"


# Guests.


async def guest_ban(office: Office, given: Namespace) -> Answer:
    row, _ = await (await office.operator()).ban_guest(given.GID)
    return Answer(_guest(row), note=f"guest {row.id} is banned")


async def guest_unban(office: Office, given: Namespace) -> Answer:
    row, _ = await (await office.operator()).unban_guest(given.GID)
    return Answer(_guest(row), note=f"guest {row.id} may come again")


async def guest_show(office: Office, given: Namespace) -> Answer:
    row = await (await office.operator()).guest(given.GID)
    about = (
        ("gid", row.id),
        ("external id", row.external_id if row.external_id is not None else "- (anonymous)"),
        ("name", row.name or "-"),
        ("avatar", row.avatar or "-"),
        ("profile", row.profile),
        ("state", "banned" if row.banned else "on line" if row.online else "off line"),
        ("since", _when(row.created_at)),
    )
    head = ("GROUP", "STATE", "ADMIN", "MESSAGES", "UNREAD", "LAST")
    cells = [
        (
            f"{thread.group_id} {thread.group_name}",
            thread.state,
            thread.admin_id or "-",
            thread.last_seq,
            thread.unread,
            _when(thread.last_time),
        )
        for thread in row.threads
    ]
    lines = [f"{label:<12} {shown(value)}" for label, value in about]
    return Answer(_guest(row), "\n".join([*lines, *(["", table(head, cells)] if cells else [])]))


def _guest(row: GuestRow) -> dict[str, Any]:
    return {**asdict(row), "profile": orjson.loads(row.profile)}


def _when(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


# Tokens.


async def token_admin(office: Office, given: Namespace) -> Answer:
    row = await (await office.operator()).admin(given.ID)
    note = ""
    if row.banned or row.group_banned:
        note = f"note: {_title(row)} cannot log in with it: {_admin_state(row)}"
    return _token(office.config, {"admin_id": row.id}, given.ttl, note)


async def token_guest(office: Office, given: Namespace) -> Answer:
    """Works without a database where there is no group to look up."""
    config = office.config
    claims: dict[str, Any] = {"sub": given.EXTERNAL_ID}
    if given.name is not None:
        claims["name"] = _name(given.name, "--name", config)
    if given.avatar:
        claims["avatar"] = _url(given.avatar, config)
    note = ""
    if given.group is not None:
        row = await (await office.operator()).group(given.group)
        claims["group_id"] = row.id
        note = f"note: group {row.id} ({row.name}) is banned: nobody gets in" if row.banned else ""
    return _token(config, claims, given.ttl, note)


def _token(config: Config, claims: dict[str, Any], ttl: float, note: str) -> Answer:
    now = time.time()
    token = load_keyring(config).issue(claims, ttl, now)
    return Answer({"token": token, "expires_at": int(now + ttl) * 1000, "claims": claims}, token, note)


# The doctor.


async def doctor(office: Office, given: Namespace) -> Answer:
    checks = await examine(office.config, office.reactor)
    failed = any(check.status == FAIL for check in checks)
    return Answer(as_json(checks), as_text(checks), failed=failed)


# Values whose bounds are configured.


def _name(text: str, what: str, config: Config) -> str:
    if not text.strip() or not text.isprintable() or len(text) > config.max_name:
        raise ConfigurationError(f"{what}: it must be 1 to {config.max_name} characters on one line")
    return text


def _url(text: str, config: Config) -> str:
    if len(text) > config.max_url or not text.isprintable() or " " in text:
        raise ConfigurationError(f"--avatar: it must be a URL of at most {config.max_url} characters")
    return text
