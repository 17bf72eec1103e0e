"""Check the secrets and the targets of webhooks."""

import asyncio

from yarl import URL

from persistence import webhooks
from persistence.database import Connection
from persistence.sealing import Box, Unsealable
from server.commands.doctor.findings import Findings, advise, fault, ok
from server.commands.doctor.redis import CALL_SECONDS
from server.settings import SettingError, Settings, secret_key
from webhooks import targets

MOST_TARGETS = 20


async def check_secrets(db: Connection, settings: Settings) -> Findings:
    """Find whether the secret key opens what was sealed."""
    try:
        box = Box(secret_key(settings), settings.other_secret_key)
    except SettingError as error:
        yield fault("secret key", error)
        return
    closed = outdated = 0
    for row in await webhooks.all_webhooks(db):
        for sealed in filter(None, (row.secret, row.old_secret)):
            try:
                box.open(sealed, webhooks.context(row.id))
                outdated += not box.is_current(sealed)
            except Unsealable:
                closed += 1
    if closed:
        text = f"{closed} secrets of webhooks were sealed with another one"
        advice = "set CLOUDARC_SECRET_KEY to the one they were made with, or rotate these secrets"
        yield fault("secret key", text, advice)
    elif outdated:
        text = f"{outdated} secrets of webhooks are sealed with CLOUDARC_OTHER_SECRET_KEY"
        advice = "run `python -m server reseal`, and remove that setting three days later"
        yield advise("secret key", text, advice)
    else:
        yield ok("secret key", "it opens all that is sealed")


async def check_targets(db: Connection, settings: Settings) -> Findings:
    """Find whether the hosts of webhooks accept a connection. Nothing is sent to them."""
    private = settings.webhook_private_targets == "on"
    active = [row for row in await webhooks.all_webhooks(db) if row.active][:MOST_TARGETS]
    texts = await asyncio.gather(*[check_reach(row.url, private=private) for row in active])
    for row, why in zip(active, texts, strict=True):
        host = URL(row.url).host
        if why:
            text = f"{host} of webhook {row.id} cannot be reached ({why})"
            yield advise("webhooks", text, "ask its owner")
        else:
            yield ok("webhooks", f"{host} of webhook {row.id} can be reached")


async def check_reach(url: str, *, private: bool) -> str:
    """Return why a host cannot be reached, or an empty text."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await targets.check_resolves_public(url, private=private)
            place = URL(url)
            _, writer = await asyncio.open_connection(place.raw_host, place.port)
            writer.close()
    except targets.Refused as error:
        return str(error).rstrip(".")
    except TimeoutError:
        return f"no answer within {CALL_SECONDS} s"
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or "its name is not known"
    return ""
