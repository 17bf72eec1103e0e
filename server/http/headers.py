"""Request headers: their values, the request id, and content negotiation."""

import random
import re
from collections.abc import Iterable

from starlette.types import Scope

from server.errors import detail, invalid_request

# A request id is no secret, so it needs no randomness of the kernel.
_random = random.Random()  # noqa: S311  opens nothing

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the ``X-Request-Id`` of the caller if it is well-formed, else a new one."""
    given = [value for name, value in headers if name == b"x-request-id"]
    well_formed = len(given) == 1 and REQUEST_ID.fullmatch(given[0])
    return given[0].decode() if well_formed else f"{_random.getrandbits(64):016x}"


HEADERS = "cloudarc.headers"


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Return all values of a header."""
    # The server looks up a dozen headers for each request, and most are absent.
    by_name: dict[bytes, bytes] | None = scope.get(HEADERS)
    if by_name is None:
        by_name = scope[HEADERS] = dict(scope["headers"])
    value = by_name.get(name)
    if value is None:
        return []
    if len(by_name) == len(scope["headers"]):
        return [value.decode("latin-1")]
    return [each.decode("latin-1") for key, each in scope["headers"] if key == name]


MAX_ACCEPT = 4 * 1024
"""Characters; longer headers are refused unparsed."""


_QUALITY = re.compile(r"q\s*=\s*(0(\.[0-9]{0,3})?|1(\.0{0,3})?)", re.IGNORECASE)


def accepts(scope: Scope, media_type: str) -> bool:
    """Return whether the ``Accept`` header admits a media type. The most specific range decides.

    Raises Problem 400 if the header is too long.
    """
    values = header_values(scope, b"accept")
    if sum(map(len, values)) > MAX_ACCEPT:
        message = f"The Accept header must have at most {MAX_ACCEPT // 1024} KiB."
        raise invalid_request(detail("header", "/Accept", message))
    return not values or values in (["*/*"], [media_type]) or _admits(values, media_type)


def _admits(values: list[str], media_type: str) -> bool:
    kind = media_type.partition("/")[0]
    ranks = {media_type: 2, f"{kind}/*": 1, "*/*": 0}
    best, quality = -1, 0.0
    for part in ",".join(values).split(","):
        name, *parameters = [each.strip().lower() for each in part.split(";")]
        rank = ranks.get(name, -1)
        if rank > best:
            found = [match for each in parameters if (match := _QUALITY.fullmatch(each))]
            best, quality = rank, float(found[0].group(1)) if found else 1.0
    if not any(value.strip() for value in values):
        return True
    return best >= 0 and quality > 0
