"""Logging in and out, both sides: 31000, 31020, 21000, 21020; and the renewal of tokens that lists carry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from chatproto import errors
from chatproto.commands import render
from chatproto.commands.table import Answer, Call, Login, command
from chatproto.domain.events import noted
from chatproto.domain.model import SERVING, Conversation, Known, Principal, Role
from chatproto.domain.tokens import AdminClaims, Claims
from chatproto.services.sessions import Desk
from chatproto.wire import bodies, codes


async def renewal(call: Call, claims: Claims | None) -> tuple[dict[str, Any], Claims | None]:
    """``is_refresh`` and ``refresh_token``, and the claims of the new token where there is one."""
    services = call.services
    now = services.wall()
    token = services.keyring.refresh(claims, now, services.refresh_limit) if claims is not None else None
    if token is None:
        return {"is_refresh": 0, "refresh_token": ""}, None
    renewed: Claims
    if isinstance(claims, AdminClaims):
        renewed = services.keyring.verify_admin(token, now)
    else:
        renewed = services.keyring.verify_guest(token, now)
    return {"is_refresh": 1, "refresh_token": token}, renewed


def desk_data(ix: str, desk: Desk, v: int) -> dict[str, Any]:
    """``ix``, ``admin_list``, ``guest_list``, ``guests_more`` of 31000 and 32000, for a client that knows *v*."""
    return {
        "ix": ix,
        "admin_list": render.admin_list(desk.admins.values()),
        "guest_list": render.guest_list(desk.guests.values(), desk.handovers if v >= 2 else {}),
        "guests_more": desk.more,
    }


def follows(admin: Principal, entries: Iterable[Conversation]) -> dict[int, Known]:
    """The conversations that an admin follows: those the admin serves."""
    served = (entry for entry in entries if entry.state == SERVING and entry.admin_id == admin.person.id)
    return {entry.id: Known(entry.rev, entry.last_seq) for entry in served}


def same(call: Call, principal: Principal) -> None:
    """A login on a logged-in connection renews the same identity.

    :raises NotPermitted: it is another one.
    """
    if call.principal is not None and call.principal.topic != principal.topic:
        raise errors.NotPermitted()


@command(codes.ADMIN_LOGIN, bodies.AdminLogin, None)
async def admin_login(call: Call, request: bodies.AdminLogin) -> Answer:
    """31000."""
    services = call.services
    claims = services.keyring.verify_admin(request.token, services.wall())
    principal = await services.sessions.admin(claims)
    same(call, principal)
    events = await services.sessions.admin_login(principal, call.ix)
    try:
        await call.join(principal)
        desk = await services.sessions.desk(principal)
    except BaseException:
        call.tell(events)
        if call.principal is None:
            call.tell(await services.sessions.ended(principal, call.ix))
        raise
    refresh, renewed = await renewal(call, claims)
    if renewed is not None:
        principal = replace(principal, expires_at=renewed.exp)
    login = Login(principal, renewed or claims, request.v, follows(principal, desk.guests.values()))
    return Answer({**desk_data(call.ix, desk, request.v), **refresh}, events, login=login)


@command(codes.ADMIN_LOGOUT, bodies.AdminLogout, Role.ADMIN)
async def admin_logout(call: Call, request: bodies.AdminLogout) -> Answer:
    """31020."""
    events = await call.services.sessions.ended(call.who, call.ix, for_good=True)
    return Answer({}, events, close=(codes.CLOSE_NORMAL, "logged out"))


@command(codes.GUEST_LOGIN, bodies.GuestLogin, None)
async def guest_login(call: Call, request: bodies.GuestLogin) -> Answer:
    """21000."""
    services = call.services
    claims = services.keyring.verify_guest(request.token, services.wall()) if request.token else None
    if claims is None and not request.guest_token:
        if call.principal is not None:
            raise errors.NotPermitted()
        services.newcomers.admit(call.address)
    came = await services.sessions.guest_login(
        claims, request.guest_token, request.group_id, request.context, call.ix, call.principal, call.tell
    )
    principal = came.principal
    try:
        await call.join(principal)
        welcome = await services.sessions.welcome(principal)
    except BaseException:
        call.tell(came.events)
        if call.principal is None:
            call.tell(await services.sessions.ended(principal, call.ix))
        raise
    refresh, renewed = await renewal(call, claims)
    if renewed is not None:
        principal = replace(principal, expires_at=renewed.exp)
    entry = welcome.entry
    data = {
        "ix": call.ix,
        "gid": entry.gid,
        "guest_token": came.guest_token,
        "group_id": entry.group_id,
        **render.standing(welcome.standing),
        "recs": render.recs(welcome.recs),
        "last_seq": entry.last_seq,
        "read_seq": entry.guest_read_seq,
        "admin_read_seq": entry.admin_read_seq,
        "unread": entry.guest_unread,
        **refresh,
    }
    knows = {entry.id: Known(entry.rev, entry.last_seq)}
    # Colleagues see that the guest is here, with another context, name or profile.
    events = [*came.events, *noted(entry)]
    return Answer(data, events, login=Login(principal, renewed or claims, 2, knows))


@command(codes.GUEST_LOGOUT, bodies.GuestLogout, Role.GUEST)
async def guest_logout(call: Call, request: bodies.GuestLogout) -> Answer:
    """21020; an anonymous guest is forgotten."""
    sessions, guest = call.services.sessions, call.who
    events = list(await sessions.ended(guest, call.ix, for_good=True))
    if call.claims is None:
        events += await sessions.forget_anonymous(guest, call.ix)
    return Answer({}, events, close=(codes.CLOSE_NORMAL, "logged out"))
