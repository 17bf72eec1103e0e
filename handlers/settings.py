"""Settings that the operator changes at run time. In neither document."""

from typing import Any

from handlers.caller import Caller
from handlers.dialects import Body, HandlerResult, Views, versions
from persistence import settings
from persistence.database import Connection
from persistence.settings import RuntimeSettings


def _view(values: RuntimeSettings) -> Body:
    return {
        "rate_limit_client": values.rate_limit_client,
        "rate_limit_admin": values.rate_limit_admin,
        "rate_limit_anonymous": values.rate_limit_anonymous,
        "default_currency": values.default_currency,
    }


VIEWS = Views.same(_view)


async def get_settings(user: Caller, db: Connection, defaults: RuntimeSettings) -> HandlerResult:
    """The settings that hold."""
    return user.dialect.item(VIEWS, await settings.get(db, defaults))


async def update_settings(
    body: dict[str, Any], user: Caller, db: Connection, defaults: RuntimeSettings, if_match: str | None = None
) -> HandlerResult:
    """Change the members that the body names."""
    return user.dialect.item(VIEWS, await settings.update(db, body, defaults, versions(if_match)))
