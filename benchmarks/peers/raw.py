"""Raw ASGI by hand, which validates nothing, on CloudArc's own data layer."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.peers.ground import Around, Ground, answer, whole_body
from handlers import services


async def nothing() -> None:
    """Open or close nothing."""


async def lifespan(
    receive: Receive,
    send: Send,
    opening: Callable[[], Awaitable[None]] = nothing,
    closing: Callable[[], Awaitable[None]] = nothing,
) -> None:
    """Answer the server's two messages."""
    await receive()
    await opening()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await closing()
    await send({"type": "lifespan.shutdown.complete"})


def create() -> ASGIApp:
    """The app."""
    ground = Ground()
    database = ground.database

    async def handled(scope: Scope, receive: Receive) -> Any:
        path, caller = scope["path"].removeprefix("/api/v1"), scope["caller"]
        if scope["method"] == "GET":
            async with database.reading() as db:
                if path == "/services":
                    query: Any = {name: int(text) for name, text in parse_qsl(scope["query_string"].decode())}
                    return await services.list_services(caller, db, **query)
                return await services.get_service(int(path.rpartition("/")[2]), caller, db)
        body = orjson.loads(await whole_body(receive))
        create_one = ground.open_ticket if path == "/tickets" else ground.make_invoice
        async with database.transaction() as db:
            return await create_one(db, caller, body)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send, ground.open, ground.close)
        elif scope["path"] == "/api/v1/status":
            await answer(send, 200, b"{}")
        else:
            content, status, *rest = await handled(scope, receive)
            await answer(send, status, orjson.dumps(content), *rest)

    return Around(app, ground)
