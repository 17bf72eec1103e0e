"""Connexion's stock stack over the same contract and the same handlers, to compare the pipeline with.

One stock app for each audience, since stock takes the wrong branch of a choice by dialect. The edge
in front and the database behind are the server's own; what lies between is Connexion's.
"""

import json
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

from connexion import AsyncApp
from connexion.exceptions import ProblemException
from connexion.middleware import ConnexionMiddleware
from connexion.middleware.exceptions import ExceptionMiddleware
from connexion.middleware.response_validation import ResponseValidationMiddleware
from connexion.middleware.server_error import ServerErrorMiddleware
from connexion.middleware.swagger_ui import SwaggerUIMiddleware
from connexion.options import SwaggerUIOptions
from connexion.resolver import Resolver
from connexion.security import NO_VALUE
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from handlers.dialects import ClientDialect
from openapi import contract, projection
from persistence.database import Database
from persistence.engines.group_commit import GroupCommit
from persistence.engines.sqlite import SQLite
from persistence.settings import NO_LIMITS
from server.app import handler_finder
from server.errors import Problem
from server.http.headers import header_values
from server.request.context import context_of
from server.request.edge import Edge
from server.request.pipeline import Clock
from server.request.routes import Routes
from tests.support.live_server import BOX


class Unchanging(SQLite):
    """A database that takes every change back, so that two servers can be asked the same for ever."""

    async def open(self) -> None:
        await super().open()
        self.commits = Undoing(self.writer.raw)


class Undoing(GroupCommit):
    """Rolls back what it is to commit."""

    def commit(self) -> None:
        self.raw.execute("ROLLBACK")


class OwnCaller:
    """Stock's security functions: the edge has found the caller, they say whether the scheme fits."""

    def get_fn(self, scheme: dict[str, Any], _: list[str]) -> Callable[[Any], Any]:
        async def verify(request: Any) -> Any:
            caller = context_of(request.scope).caller
            if caller is None:
                return NO_VALUE
            if caller.kind != scheme["x-dialect"]:
                raise Problem(403, "The credential is of the wrong kind.")
            return {"sub": caller}

        return verify


class Translating:
    """Stock's exceptions as the server's own, for the edge to speak."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except ProblemException as error:
            raise Problem(error.status, str(error.detail)[:500]) from error
        except HTTPException as error:
            raise Problem(error.status_code, str(error.detail), headers=error.headers) from error


class Transacting:
    """Gives handlers what stock does not, and sends nothing before the answer was validated.

    That is ``db``, ``now``, what is the server's own, and ``if_match``: stock judges headers, but keeps them.
    """

    def __init__(self, app: ASGIApp, *, database: Database, clock: Clock) -> None:
        self.app = app
        self.database = database
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def hold(message: MutableMapping[str, Any]) -> None:
            held.append(message)

        context = scope["extensions"].setdefault("connexion_context", {})
        reading = scope["method"] in ("GET", "HEAD")
        async with self.database.reading() if reading else self.database.transaction() as db:
            context.update(db=db, now=self.clock(), defaults=NO_LIMITS, box=BOX, private_targets=True)
            context.update(if_match=next(iter(header_values(scope, b"if-match")), None))
            await self.app(scope, receive, hold)
        for message in held:
            await send(message)


def stock(
    database: Database, document: contract.Document, audience: contract.Audience, clock: Clock
) -> ASGIApp:
    """Connexion's own stack over the projection for an audience, both ways validated."""
    left_out = (ServerErrorMiddleware, ExceptionMiddleware, SwaggerUIMiddleware)
    layers: list[Any] = [Translating]
    for each in ConnexionMiddleware.default_middlewares:
        if each is ResponseValidationMiddleware:
            layers.append(partial(Transacting, database=database, clock=clock))
        if each not in left_out:
            layers.append(each)
    app = AsyncApp(
        "oracle",
        middlewares=layers,
        resolver=Resolver(_plain(handler_finder(document))),
        swagger_ui_options=SwaggerUIOptions(serve_spec=False, swagger_ui=False),
        security_map={"bearer": OwnCaller, "apiKey": OwnCaller},
        strict_validation=True,
        validate_responses=True,
    )
    projected = projection.project(document, audience, own=True)
    # The edge adds it behind stock's back.
    projected["components"]["headers"]["XRequestId"]["required"] = False
    app.add_api(projected)
    return app.middleware._build_middleware_stack()[0]


def _plain(find: Callable[[str], Callable[..., Any]]) -> Callable[[str], Callable[..., Any]]:
    """Handlers as stock can serve them: a rendition of the contract becomes the object it is."""

    def wrapped(operation_id: str) -> Callable[..., Any]:
        function = find(operation_id)
        if operation_id != "show_openapi_json":
            return function

        async def show_openapi_json(
            audience: contract.Audience | None = None, version: contract.Version = "3.0"
        ) -> Any:
            rendition, status = await function(audience, version)
            return json.loads(rendition.body), status, {"ETag": rendition.etag}

        return show_openapi_json

    return wrapped


class Oracle:
    """The stock stacks behind the server's edge, which takes ``edge``; the dialect of a call chooses one."""

    def __init__(
        self, database: Database, document: contract.Document, routes: Routes, clock: Clock, **edge: Any
    ) -> None:
        self.client = stock(database, document, "client", clock)
        self.admin = stock(database, document, "admin", clock)
        self.edge = Edge(self._choose, routes=routes, database=database, clock=clock, **edge)

    async def _choose(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.client if context_of(scope).dialect is ClientDialect else self.admin
        # Starlette's router raises instead of answering by itself where there is an app around it.
        scope["app"] = self
        await app(scope, receive, send)
