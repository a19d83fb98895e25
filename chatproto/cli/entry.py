"""``chatproto NOUN VERB``: the operator's command line (docs/operations).

It has the configuration sources of the daemon and works beside a running one: a change is in the database, and
daemons are told by it. Without a daemon the embedded PostgreSQL runs as long as the command does.

On stdout stands what was asked for: ids, tokens, tables, or JSON with ``--json``; on stderr what is for people.
Exit: 0 done, 1 failed (one line says why), 2 wrong usage or configuration.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogBeginner
from zope.interface import provider

from chatproto.cli import grammar
from chatproto.cli.grammar import OPTION
from chatproto.cli.office import Office
from chatproto.cli.tables import shown
from chatproto.cli.verbs import Answer
from chatproto.config import Config, load
from chatproto.domain import passwords
from chatproto.errors import ConfigurationError, StartError, StorageError
from chatproto.services.operator import Refused

DONE, FAILED, WRONG = 0, 1, 2
"""Exit codes."""


# What is asked before anything starts.


def ask_password(given: argparse.Namespace) -> None:
    """Put the new password into *given*: from standard input, or typed twice without echo.

    :raises ConfigurationError: there is nowhere to ask, or it is no good.
    """
    if given.stdin:
        given.password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    else:
        with _terminal() as terminal:
            given.password = getpass.getpass(f"New password of admin {given.ID}: ", terminal)
            if getpass.getpass("Once more: ", terminal) != given.password:
                raise ConfigurationError("the two passwords differ")
    if fault := passwords.fault(given.password):
        raise ConfigurationError(fault)


def _terminal() -> Any:
    try:
        return open("/dev/tty", "w")  # noqa: SIM115
    except OSError as error:
        raise ConfigurationError("there is no terminal to ask for the password: give it by --stdin") from error


def configuration(given: argparse.Namespace) -> Config:
    """
    :raises ConfigurationError: one line for the operator.
    """
    options = {name.removeprefix(OPTION): value for name, value in vars(given).items() if name.startswith(OPTION)}
    return load(options, os.environ, Path.cwd())


# Running.


async def run(config: Config, reactor: Any, given: argparse.Namespace) -> Answer:
    """One command from its arguments to its answer.

    :raises Refused, StartError, StorageError, ConfigurationError: why there is none.
    """
    office = Office(config, reactor)
    try:
        answer: Answer = await given.run(office, given)
        return answer
    finally:
        await office.close()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The command ``chatproto``. It never returns: it exits."""
    given = grammar.parser().parse_args(arguments)
    globalLogBeginner.beginLoggingTo([_warn], discardBuffer=True, redirectStandardIO=False)
    try:
        config = configuration(given)
        if given.ask:
            ask_password(given)
    except ConfigurationError as error:
        _say(str(error))
        sys.exit(WRONG)
    except KeyboardInterrupt:
        sys.exit(FAILED)

    # A signal ends the reactor before the work is done, and react calls that a success.
    code, answer = FAILED, Answer(None, note="interrupted", failed=True)

    async def work(reactor: Any) -> None:
        nonlocal code, answer
        try:
            answer = await run(config, reactor, given)
            code = FAILED if answer.failed else DONE
        except ConfigurationError as error:
            code, answer = WRONG, Answer(None, note=str(error), failed=True)
        except Exception as error:
            answer = Answer(None, note=_why(error), failed=True)

    with suppress(SystemExit):
        react(lambda reactor: Deferred.fromCoroutine(work(reactor)))
    sys.exit(_print(answer, code, as_json="json" in given))


def _print(answer: Answer, code: int, *, as_json: bool) -> int:
    try:
        if as_json and answer.value is not None:
            print(orjson.dumps(answer.value).decode())
        elif answer.text:
            print(answer.text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read stdout has seen enough; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if answer.note and (answer.failed or not as_json):
        _say(answer.note)
    return code


def _say(line: str) -> None:
    print(f"chatproto: {shown(' '.join(line.split()))}", file=sys.stderr)


@provider(ILogObserver)
def _warn(event: LogEvent) -> None:
    if event.get("log_level", LogLevel.info) >= LogLevel.warn:
        _say(formatEvent(event))


def _why(error: Exception) -> str:
    if isinstance(error, StorageError):
        unknown = "; it may have been done all the same: look before you repeat it" if error.applied is None else ""
        return f"the database failed: {error}{unknown}"
    if isinstance(error, Refused | StartError):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"this is a fault of chatproto: {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
