"""Signing in and out: a cookie whose secret lies in the database as a hash, and what a form must hold."""

import hmac
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from handlers.caller import Caller
from persistence import credentials, operators, passwords
from persistence.database import Database

COOKIE = "__Host-cloudarc"

MAX_NAME = 100


@dataclass(frozen=True)
class Signed:
    """Somebody who has signed in."""

    name: str
    caller: Caller
    secret: str

    @property
    def csrf(self) -> str:
        """What a form of this session holds, and a page of another site cannot know."""
        return hmac.new(self.secret.encode(), b"form", "sha256").hexdigest()


class Sessions:
    """Who has signed in. ``dead`` are hashes of passwords that everybody knows."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], dead: Collection[str] = frozenset()
    ) -> None:
        self.database = database
        self.clock = clock
        self.dead = dead

    async def find(self, request: Request) -> Signed | None:
        """Who has signed in with the request's cookie. Raises Unavailable."""
        secret = request.cookies.get(COOKIE)
        if not secret:
            return None
        digest, now = credentials.digest(secret), self.clock()
        async with self.database.reading() as db:
            found = await operators.session(db, digest, now)
        if found is None:
            return None
        if now - found.used_at >= operators.USE_KEPT:
            async with self.database.transaction() as db:
                await operators.used(db, digest, now)
        return Signed(found.name, Caller.operator(found.operator_id), secret)

    async def sign_in(self, name: str, password: str) -> Signed | None:
        """A new session, or None where name and password do not fit or the operator is locked.

        The try is counted, and committed, before the password is looked at, so that however many come at
        once no more are looked at than an operator has. Raises Unavailable.
        """
        async with self.database.transaction() as db:
            operator = await operators.charge(db, name[:MAX_NAME])
        known = operator is not None and operator.password_hash not in self.dead
        fits = await passwords.fits(
            operator.password_hash if operator is not None and known else passwords.NOBODYS,
            password[: passwords.MAX_PASSWORD],
        )
        if operator is None or not known or not fits:
            return None
        secret = secrets.token_urlsafe(32)
        async with self.database.transaction() as db:
            if not await operators.passed(db, operator):
                return None
            await operators.start(db, operator.id, credentials.digest(secret), self.clock())
        return Signed(operator.name, Caller.operator(operator.id), secret)

    async def sign_out(self, signed: Signed) -> None:
        """End the session: its cookie opens nothing any more."""
        async with self.database.transaction() as db:
            await operators.end(db, credentials.digest(signed.secret))


def keep(response: Response, secret: str) -> None:
    """Give the browser the cookie of a session. It holds until the browser ends, or the session does."""
    response.set_cookie(COOKIE, secret, path="/", secure=True, httponly=True, samesite="strict")


def forget(response: Response) -> None:
    """Take the cookie away."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
