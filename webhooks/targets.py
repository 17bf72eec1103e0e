"""Which addresses may be called: public ones, unless a setting of development admits inner networks too.

Link-local addresses and those of clouds' metadata services are never called, whatever the setting.

A URL is judged when it is written down, so that its owner learns why it is refused. What protects the
inner network is the guard at the socket: it sees the address that is connected to, whatever a name meant
before.
"""

import asyncio
import concurrent.futures
import errno
import ipaddress
import re
import socket
import threading
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from yarl import URL

from persistence.errors import Conflict

MAX_URL = 2048
LOOKUP_SECONDS = 3.0


class Refused(Conflict):
    """A URL that is not called; the message is a sentence for the API's user."""


class NotCalled(OSError):
    """A connection that is not made; an OSError, so that the HTTP client takes it for a failed connection.

    Its ``strerror`` is a sentence for the owner of the webhook.
    """


# The whole registry of special-purpose addresses, also blocks that are routed, since no receiver lives
# there; then multicast and class E; then what clouds serve inside their networks under public addresses.
IPV4_REFUSED = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "161.26.0.0/16",
        "166.8.0.0/14",
        "168.63.129.16/32",
        "199.36.153.4/30",
        "199.36.153.8/30",
    )
)
# Everything outside is local, reserved, or a translation to an IPv4 address.
IPV6_GLOBAL = IPv6Network("2000::/3")
IPV6_REFUSED = tuple(IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
# Link-local, and where clouds hand out credentials. The last is for translators of a local network, which
# reach any IPv4 address.
NEVER_CALLED = tuple(
    ipaddress.ip_network(each)
    for each in (
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fe80::/10",
        "fd00:ec2::/32",
        "fd20:ce::254/128",
        "64:ff9b:1::/48",
    )
)
# Their last 32 bits are an IPv4 address: compatible, mapped, translated and NAT64.
IPV4_INSIDE = tuple(
    IPv6Network(each) for each in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)


def refusal(address: str, *, private: bool) -> str | None:
    """Return the end of a sentence that tells why an IP address is not called; None if it may be called."""
    if not private:
        return None if public(address) else "is not public"
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return "is not written in the usual way"
    if isinstance(ip, IPv6Address):
        if any(ip in each for each in IPV4_INSIDE):
            ip = IPv4Address(int(ip) & 0xFFFFFFFF)
        else:
            ip = ip.sixtofour or ip
    if any(ip in each for each in NEVER_CALLED):
        return "is link-local or a metadata service of a cloud"
    return None


def public(address: str) -> bool:
    """Whether an IP address is one of the public internet; what cannot be read as one is not."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    if isinstance(ip, IPv6Address):
        return not ip.scope_id and ip in IPV6_GLOBAL and not any(ip in each for each in IPV6_REFUSED)
    return not any(ip in each for each in IPV4_REFUSED)


AUTHORITY = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:@%]+)(?::(?P<port>[0-9]{1,5}))?")
NAME = re.compile(r"(?=.{1,253}\.?$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
# What a resolver may read as an IPv4 address, such as 127.1, 0x7f.1 or 2130706433.
NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")


def check_url(text: str, *, private: bool) -> None:
    """Refuse what is not called, by its text alone; ``private`` admits http and addresses of inner networks.

    The text is read by the parser that the HTTP client uses, so that both see one host. Raises Refused.
    """
    if len(text) > MAX_URL:
        raise Refused(f"The url must have at most {MAX_URL} characters.")
    if any(each in " \\" or not each.isprintable() for each in text):
        raise Refused("The url must not contain spaces, control characters or backslashes.")
    scheme, _, rest = text.partition("://")
    if scheme.lower() != "https" and not (private and scheme.lower() == "http"):
        raise Refused("The url must begin with https://.")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise Refused("The url must not contain a user name or a password.")
    if "#" in text:
        raise Refused("The url must not contain a fragment.")
    parts = AUTHORITY.fullmatch(authority)
    if not parts:
        raise Refused("The url must contain a host, and a port of digits if any.")
    if parts["port"] and not 1 <= int(parts["port"]) <= 65_535:
        raise Refused("The port of the url must be from 1 to 65535.")
    _check_host(_host(text), private=private)


def _host(text: str) -> str:
    try:
        host = URL(text).raw_host
    except ValueError:
        host = None
    if not host:
        raise Refused("The host of the url is not a name or an address.")
    return host


def _is_address(host: str) -> bool:
    return ":" in host or bool(NUMERIC.fullmatch(host))


def _check_host(host: str, *, private: bool) -> None:
    if _is_address(host):
        try:
            ipaddress.ip_address(host)
        except ValueError:
            # The HTTP client calls no other spelling of an address, whatever a resolver would make of it.
            raise Refused("The address of the url is not written in the usual way.") from None
        if reason := refusal(host, private=private):
            raise Refused(f"The address of the url {reason}.")
        return
    if not NAME.fullmatch(host):
        raise Refused("The host of the url is not a name or an address.")
    if not private and f".{host.rstrip('.')}".endswith(".localhost"):
        raise Refused("The host of the url is this machine.")


LOOKUPS_AT_ONCE = 100
_lookups = threading.BoundedSemaphore(LOOKUPS_AT_ONCE)


async def lookup(
    host: str, port: int | None, *, family: int = socket.AF_UNSPEC, flags: int = 0
) -> list[tuple[Any, ...]]:
    """Return what ``getaddrinfo`` finds, in a thread of its own. Raises OSError, UnicodeError.

    A lookup may hang for half a minute, and nothing ends it. In the pool of a loop, which has a few threads,
    it would delay all other lookups, and the end of the process.
    """
    if not _lookups.acquire(blocking=False):
        raise NotCalled(errno.EAGAIN, f"{LOOKUPS_AT_ONCE} lookups of host names wait for an answer.")
    found = concurrent.futures.Future[list[tuple[Any, ...]]]()
    found.set_running_or_notify_cancel()

    def work() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags))
        except Exception as error:
            found.set_exception(error)
        finally:
            _lookups.release()

    threading.Thread(target=work, name="lookup", daemon=True).start()
    return await asyncio.wrap_future(found)


async def check_resolves_public(text: str, *, private: bool, deadline: float = LOOKUP_SECONDS) -> None:
    """Refuse what is not called, by what its host means now: every address must be admitted. Raises Refused.

    A name that nobody knows now may be known when it is called, and the guard at the socket judges it
    then.
    """
    check_url(text, private=private)
    host, port = _host(text), URL(text).port
    if _is_address(host):
        return
    try:
        async with asyncio.timeout(deadline):
            found = await lookup(host, port)
    except (TimeoutError, OSError, UnicodeError):
        return
    for each in found:
        if reason := refusal(str(each[4][0]), private=private):
            raise Refused(f"The host of the url has an address that {reason}.")


def guarded_socket(address: tuple[Any, ...], *, private: bool) -> socket.socket:
    """The socket for one of ``getaddrinfo``'s answers, made just before it connects. Raises NotCalled."""
    family, type_, protocol, _, place = address
    if reason := refusal(str(place[0]), private=private):
        raise NotCalled(errno.EACCES, f"The host's address {reason}.")
    return socket.socket(family, type_, protocol)
