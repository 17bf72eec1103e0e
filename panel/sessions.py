"""Signing in and out: a cookie whose secret lies in the database as a hash, and what a form must hold."""

import hmac
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from starlette.requests import Request
from starlette.responses import Response

from handlers.caller import Caller
from persistence import credentials, operators, passwords
from persistence.database import Database, Row
from persistence.identity import operator_name
from persistence.sealing import Box, Unsealable

COOKIE = "__Host-cloudarc"

DEVICE_COOKIE = "__Host-cloudarc-device"

DEVICE_LIFETIME = timedelta(days=180)

MAX_COOKIES = 8 * 1024
"""Bytes of all Cookie headers of a request together; more are not parsed."""

# Stands for the operator of a name that nobody has, so that such an attempt does the same work.
NOBODY: Row = SimpleNamespace(id=0, name="", password_hash=passwords.DUMMY_HASH)


@dataclass(frozen=True)
class SignedInOperator:
    """Somebody who has signed in."""

    name: str
    caller: Caller
    secret: str
    device: str = ""
    """The value of a new device cookie, or empty."""

    @property
    def csrf(self) -> str:
        """The anti-forgery token of this session's forms."""
        return hmac.new(self.secret.encode(), b"form", "sha256").hexdigest()


class Sessions:
    """The sessions of operators. ``disabled_password_hashes`` are hashes of public passwords.

    Without ``box`` no device is known.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        disabled_password_hashes: Collection[str] = frozenset(),
        box: Box | None = None,
    ) -> None:
        self.database = database
        self.clock = clock
        self.disabled_password_hashes = disabled_password_hashes
        self.box = box

    async def find(self, request: Request) -> SignedInOperator | None:
        """Return the operator of a request's session cookie, or None. Raises Unavailable."""
        secret = read_cookie(request, COOKIE)
        if not secret:
            return None
        digest, now = credentials.digest(secret), self.clock()
        async with self.database.reading() as db:
            found = await operators.session(db, digest, now)
        if found is None:
            return None
        if now - found.used_at >= operators.LAST_USED_RESOLUTION:
            async with self.database.transaction() as db:
                await operators.used(db, digest, now)
        return SignedInOperator(found.name, Caller.operator(found.operator_id), secret)

    async def sign_in(
        self, name: str, password: str, address: str, device_cookie: str = ""
    ) -> SignedInOperator | None:
        """Return a new session, or None where name and password do not fit.

        The attempt is counted, and committed, before the password is checked, so that however many come at
        once no more are checked than the delays admit. A name that nobody has is treated like any other.
        Raises TooEarly, TooManySignIns, Unavailable.
        """
        # PostgreSQL keeps no text with a NUL, and no operator's name has one.
        name = operator_name(name[: 2 * operators.MAX_NAME])[: operators.MAX_NAME].replace("\0", "\ufffd")
        async with self.database.reading() as db:
            operator = await operators.find(db, name)
        if operator is None or operator.password_hash in self.disabled_password_hashes:
            operator = NOBODY
        device = self._device(operator, device_cookie)
        rules = operators.delay_rules(address, device)
        with passwords.sign_in_place(known_device=bool(device)):
            async with self.database.transaction() as db:
                await operators.count_attempt(db, name, rules, self.clock())
            fits = await passwords.fits(operator.password_hash, password[: passwords.MAX_PASSWORD])
        if operator is NOBODY or not fits:
            return None
        secret, now = secrets.token_urlsafe(32), self.clock()
        async with self.database.transaction() as db:
            if not await operators.has_password(db, operator):
                return None
            await operators.reset_attempts(db, name, rules)
            await operators.start(db, operator.id, credentials.digest(secret), now)
        return SignedInOperator(
            operator.name, Caller.operator(operator.id), secret, self._new_device(operator, now)
        )

    def _new_device(self, operator: Row, now: datetime) -> str:
        """Return the value of a new device's cookie, "" without a box."""
        if self.box is None:
            return ""
        sealed = self.box.seal(f"{secrets.token_hex(8)} {int(now.timestamp())}", _device_context(operator))
        return sealed.translate(TO_COOKIE)

    def _device(self, operator: Row, value: str) -> str:
        """Return the id of the device that a cookie is of, "" where it is of none that the operator knows."""
        try:
            opened = (
                self.box.open(value.translate(FROM_COOKIE), _device_context(operator)) if self.box else ""
            )
        except Unsealable:
            return ""
        device, _, issued = opened.partition(" ")
        known = device and self.clock() < datetime.fromtimestamp(int(issued), UTC) + DEVICE_LIFETIME
        return device if known else ""

    async def sign_out(self, signed: SignedInOperator) -> None:
        """End the session: its cookie opens nothing any more."""
        async with self.database.transaction() as db:
            await operators.end(db, credentials.digest(signed.secret))


# A cookie's value has these characters of base64 in quotes only, which not every client sends back.
TO_COOKIE, FROM_COOKIE = str.maketrans("+/=", "-_~"), str.maketrans("-_~", "+/=")


def _device_context(operator: Row) -> str:
    """Return what the cookies of an operator's devices are bound to; a new password ends them all."""
    return f"sign-in device of operator {operator.id} with {operator.password_hash}"


def read_cookie(request: Request, name: str) -> str:
    """Return the value of the cookie with exactly this name; "" where there is none, or more than one.

    Starlette also strips Unicode's white space, so a name that begins with it would pass for this one. Such
    a cookie can be set by another host of the same domain, which the browser refuses for ``__Host-``.
    """
    headers = [value for key, value in request.scope["headers"] if key == b"cookie"]
    if sum(map(len, headers)) > MAX_COOKIES:
        return ""
    pairs = [each.strip(b" \t").partition(b"=") for header in headers for each in header.split(b";")]
    values = [value.decode("latin-1") for key, _, value in pairs if key == name.encode()]
    return values[0] if len(values) == 1 else ""


def set_cookie(response: Response, signed: SignedInOperator) -> None:
    """Give the browser the cookies of a session and of its device.

    The first holds until the browser ends, or the session does.
    """
    _set_cookie(response, COOKIE, signed.secret)
    if signed.device:
        seconds = int(DEVICE_LIFETIME.total_seconds())
        _set_cookie(response, DEVICE_COOKIE, signed.device, f"; Max-Age={seconds}")


def clear_cookie(response: Response) -> None:
    """Take the session's cookie away; the device stays known."""
    _set_cookie(response, COOKIE, "", "; Max-Age=0")


def _set_cookie(response: Response, name: str, value: str, more: str = "") -> None:
    response.headers.append("Set-Cookie", f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{more}")
