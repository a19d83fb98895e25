"""The grammar of ``chatproto NOUN VERB``: nouns, verbs, their arguments, and the options of the configuration."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import chatproto
from chatproto.cli import verbs
from chatproto.cli.verbs import Verb
from chatproto.config import CONFIG_FILE, OPTIONS, TIME, Option
from chatproto.storage.registry import DEFAULT_CAPACITY

OPTION = "option_"
"""Before the key of an option of the configuration, in what was parsed."""

_MOST = 2**63 - 1
_MOST_CAPACITY = 1_000_000
_MOST_EXTERNAL_ID = 64

_EVERYWHERE = {"data", "database"}
_FOR_TOKENS = _EVERYWHERE | {row.name for row in OPTIONS if row.group == "Tokens"}
_ALL = {row.name for row in OPTIONS}

_NOTES = (
    "The configuration is the daemon's: command line before environment (CHATPROTO_DATABASE and so on) before the"
    " --config file. Exit: 0 done, 1 failed, 2 wrong usage or configuration."
)


def parser() -> argparse.ArgumentParser:
    """All of it. What is parsed has ``run`` (a :data:`chatproto.cli.verbs.Verb`), ``ask`` where a password has to be
    asked for, ``json`` where it was given, and ``option_…`` for each option of the configuration that was given."""
    top = argparse.ArgumentParser(
        prog="chatproto",
        description="Look after a chatproto server: groups, admins, guests, tokens.",
        epilog=f"chatproto NOUN VERB --help says more. {_NOTES}",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"chatproto {chatproto.__version__}")
    _shared(top, _EVERYWHERE)
    nouns = top.add_subparsers(metavar="NOUN", required=True)
    _group(_noun(nouns, "group", "service groups: a shop, or a team of it"))
    _admin(_noun(nouns, "admin", "admins: the agents of a group"))
    _guest(_noun(nouns, "guest", "guests: the customers"))
    _token(_noun(nouns, "token", "tokens to log in with, signed with the server's own key"))
    check = _verb(nouns, "doctor", "see whether everything is as it should be; changes nothing", verbs.doctor, _ALL)
    check.epilog = f"Give it the options of the daemon. {_NOTES}"
    return top


def _noun(nouns: Any, name: str, help: str) -> Any:
    noun = nouns.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.", epilog=_NOTES, allow_abbrev=False
    )
    _shared(noun, _EVERYWHERE)
    return noun.add_subparsers(metavar="VERB", required=True)


def _verb(nouns: Any, name: str, help: str, run: Verb, options: set[str] | None = None) -> argparse.ArgumentParser:
    text = f"{help[0].upper()}{help[1:]}."
    verb: argparse.ArgumentParser = nouns.add_parser(
        name, help=help, description=text, epilog=_NOTES, allow_abbrev=False
    )
    _shared(verb, _EVERYWHERE if options is None else options)
    verb.set_defaults(run=run, ask=False)
    return verb


def _shared(to: argparse.ArgumentParser, names: set[str]) -> None:
    """``--json`` and options of the configuration; they may stand before the noun, before and after the verb."""
    to.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON on stdout")
    chosen = [CONFIG_FILE, *(row for row in OPTIONS if row.name in names)]
    for group in dict.fromkeys(row.group for row in chosen):
        section = to.add_argument_group(group.lower())
        for row in chosen:
            if row.group == group:
                _option(section, row)


def _option(section: Any, row: Option) -> None:
    action: dict[str, Any] = {"action": "append" if row.repeats else "store", "metavar": row.kind.metavar}
    if row.flag:
        action = {"action": "store_true"}
    text = f"{row.help} [{row.default}{'; may repeat' if row.repeats else ''}]".replace("%", "%%")
    section.add_argument(f"--{row.name}", dest=f"{OPTION}{row.key}", default=argparse.SUPPRESS, help=text, **action)


def _group(group: Any) -> None:
    add = _verb(group, "add", "make a group; prints its id", verbs.group_add)
    add.add_argument("NAME")
    _verb(group, "list", "all groups, with how many wait and are served", verbs.group_list)
    ban = _verb(group, "ban", "close a group: everybody in it is disconnected at once", verbs.group_ban)
    _id(ban, "ID", "the group")
    _id(_verb(group, "unban", "open it again", verbs.group_unban), "ID", "the group")


def _admin(admin: Any) -> None:
    add = _verb(admin, "add", "make an admin; prints the id", verbs.admin_add)
    add.add_argument("NAME")
    _id(add, "--group", "the group of the admin", required=True)
    most = _whole(0, _MOST_CAPACITY)
    add.add_argument(
        "--capacity", metavar="N", type=most, default=DEFAULT_CAPACITY, help="guests to serve at once [%(default)s]"
    )
    add.add_argument("--avatar", metavar="URL", default="", help="picture that guests see [none]")
    listing = _verb(admin, "list", "all admins, banned ones too", verbs.admin_list)
    _id(listing, "--group", "only those of this group", default=None)
    ban = _verb(admin, "ban", "shut an admin out at once; the guests go to others", verbs.admin_ban)
    _id(ban, "ID", "the admin")
    _id(_verb(admin, "unban", "let the admin in again", verbs.admin_unban), "ID", "the admin")
    capacity = _verb(admin, "capacity", "set how many guests an admin serves at once", verbs.admin_capacity)
    _id(capacity, "ID", "the admin")
    capacity.add_argument("N", type=most, help="guests; fewer than now takes nobody away")
    move = _verb(admin, "move", "put an admin into another group; the guests stay", verbs.admin_move)
    _id(move, "ID", "the admin")
    _id(move, "--group", "the group to go to", required=True)
    password = _verb(admin, "password", "set the password of an admin", verbs.admin_password)
    _id(password, "ID", "the admin")
    password.add_argument("--stdin", action="store_true", help="read it from the first line of standard input")
    password.set_defaults(ask=True)


def _guest(guest: Any) -> None:
    ban = _verb(guest, "ban", "shut a guest out at once; the service ends", verbs.guest_ban)
    _id(ban, "GID", "the guest")
    _id(_verb(guest, "unban", "let the guest in again", verbs.guest_unban), "GID", "the guest")
    _id(_verb(guest, "show", "who a guest is, and the conversations", verbs.guest_show), "GID", "the guest")


def _token(token: Any) -> None:
    admin = _verb(token, "admin", "a token of an admin, for 31000; prints it", verbs.token_admin, _FOR_TOKENS)
    _id(admin, "ID", "the admin")
    guest = _verb(token, "guest", "a token of a customer, for 21000; prints it", verbs.token_guest, _FOR_TOKENS)
    guest.add_argument("EXTERNAL_ID", type=_external_id, help="the shop's own id of the customer")
    guest.add_argument("--name", help="name that admins see")
    guest.add_argument("--avatar", metavar="URL", default="", help="picture that admins see")
    _id(guest, "--group", "the only group that it opens [any]", default=None)
    for verb in (admin, guest):
        verb.add_argument("--ttl", metavar="TIME", type=_ttl, default="12h", help="how long it is good [%(default)s]")


def _id(to: argparse.ArgumentParser, name: str, help: str, **more: Any) -> None:
    if name.startswith("-"):
        more["metavar"] = "ID"
    to.add_argument(name, type=_whole(1, _MOST), help=help, **more)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 19 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from {least} to {most}")
        return int(text)

    return parse


def _ttl(text: str) -> float:
    with suppress(ValueError):
        seconds: float = TIME.parse(text)
        if seconds >= 1:
            return seconds
    raise argparse.ArgumentTypeError(f"{text[:40]!r} is no time of a second or more, such as 90s, 30m, 12h or 30d")


def _external_id(text: str) -> str:
    if not 0 < len(text) <= _MOST_EXTERNAL_ID or not text.isprintable():
        raise argparse.ArgumentTypeError(f"an external id has 1 to {_MOST_EXTERNAL_ID} characters, on one line")
    return text
