"""The composition root: settings in, ASGI app out."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from threading import Thread
from typing import Any

import jsonschema_rs
from connexion import AsyncApp
from connexion.exceptions import InvalidSpecification
from connexion.middleware.lifespan import LifespanMiddleware
from connexion.middleware.main import API
from connexion.options import SwaggerUIOptions
from connexion.resolver import Resolver
from connexion.spec import OpenAPISpecification
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from openapi import contract
from persistence.counters import Counters
from persistence.database import Database
from persistence.demo import OPERATOR_HASH
from persistence.engines import connect
from persistence.listing import keep_folded
from persistence.sealing import Box
from persistence.settings import NO_LIMITS, Values, Watched
from server import environment, logs
from server.clock import now as now
from server.edge import SAFETY, Edge
from server.environment import Settings
from server.health import Health, Probes
from server.metrics import Metrics
from server.panel import Front
from server.pipeline import Clock, Pipeline
from server.processes import end_worker_with_server
from server.stopping import heard
from server.subject import Subjects
from server.transport import request_id
from webhooks.delivery import Worker


def finder(document: contract.Document) -> Callable[[str], Callable[..., Any]]:
    """What finds the function of an operationId: in the module of the operation's tag."""
    modules = {each.id: f"handlers.{each.spec['tags'][0]}" for each in contract.operations(document)}

    def find(operation_id: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(importlib.import_module(modules[operation_id]), operation_id)
        return function

    return find


class Contract(OpenAPISpecification):
    """The contract as Connexion knows it, held to OpenAPI's own schema by what judges all else here.

    In pure Python that takes most of a start.
    """

    @classmethod
    def _validate_spec(cls, spec: contract.Document) -> None:
        try:
            jsonschema_rs.Draft4Validator(cls.openapi_schema).validate(spec)
        except jsonschema_rs.ValidationError as error:
            place = "/".join(str(part) for part in error.instance_path)
            raise InvalidSpecification(f"{place}: {error.message}") from None


def assemble(
    database: Database,
    document: contract.Document,
    clock: Clock = now,
    *,
    demo: bool = True,
    defaults: Values = NO_LIMITS,
    counters: Counters | None = None,
    subjects: Subjects | None = None,
    box: Box | None = None,
    private_targets: bool = False,
    worker: Worker | None = None,
    health: Health | None = None,
    metrics: Metrics | None = None,
    metrics_ports: Sequence[int] = (),
) -> Edge:
    """The API over a database that is open, or that the lifespan opens; ``demo`` admits demo credentials.

    ``defaults`` are the settings that hold until the operator changes them. Without ``counters`` calls
    are counted in this process. Without ``box`` webhooks cannot be made. A ``worker`` delivers beside the
    API for as long as that runs. A signal to end tells ``worker`` and ``health`` at once. ``metrics`` are
    served on one of ``metrics_ports``.
    """
    counters = counters or Counters(None)
    own = {"defaults": defaults, "box": box, "private_targets": private_targets}
    watched = Watched(database, defaults)

    def stop() -> None:
        for each in (health, worker):
            if each:
                each.stop()

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        await database.open()
        beside = [asyncio.create_task(each) for each in (watched.keep_fresh(), keep_folded(database))]
        try:
            await watched.refresh()
            await counters.open()
            yield
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            await counters.close()
            await database.close()
            logs.flush()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.enter_context(heard(stop))
            await stack.enter_async_context(running())
            if metrics:
                await stack.enter_async_context(metrics.served(metrics_ports))
            if worker:
                await stack.enter_async_context(worker.working())
            yield

    app = AsyncApp(
        "cloudarc",
        lifespan=lifespan,
        middlewares=[
            LifespanMiddleware,
            partial(Pipeline, database=database, clock=clock, own=own, ended=counters.renew),
        ],
        resolver=Resolver(finder(document)),
        swagger_ui_options=SwaggerUIOptions(serve_spec=False, swagger_ui=False),
    )
    app.middleware.apis.append(API(Contract(document), base_path=None, **vars(app.middleware.options)))
    # Built now, not at the first request: a handler that is missing must stop the start.
    stack, layers = app.middleware._build_middleware_stack()
    pipeline = next(each for each in layers if isinstance(each, Pipeline))
    return Edge(
        stack,
        routes=pipeline.routes,
        pipeline=pipeline,
        database=database,
        clock=clock,
        demo=demo,
        counters=counters,
        limit=lambda name: int(getattr(watched.values, name)),
        subjects=subjects,
        metrics=metrics,
    )


PREFLIGHT = {"origin", "access-control-request-method"}
"""What makes an OPTIONS a preflight."""


class CrossOrigin(CORSMiddleware):
    """CORS whose preflight answers have the headers of all others; a refused one is any other OPTIONS."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The scope of the lifespan has no headers.
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if set(headers) >= PREFLIGHT and self.preflight_response(headers).status_code != 200:
                await self.app(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        response.headers["X-Request-Id"] = request_id(request_headers.raw)
        response.headers.update({name.decode(): value.decode() for name, value in SAFETY})
        return response


def cross_origin(app: ASGIApp, origins: Sequence[str], document: contract.Document) -> CrossOrigin:
    """The app for pages of these origins too, which may send and read the headers of the contract."""
    return CrossOrigin(
        app,
        allow_origins=origins,
        allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-Match",
            "If-None-Match",
            "X-Request-Id",
        ],
        expose_headers=contract.header_names(document),
    )


def create(settings: Settings | None = None) -> ASGIApp:
    """The app as it is served. Raises SettingError, StartError, ContractError."""
    end_worker_with_server()
    settings = settings or environment.read()
    logs.set_up(settings)
    document = contract.bundle()
    defaults = Values(
        rate_limit_client=settings.rate_limit_client,
        rate_limit_admin=settings.rate_limit_admin,
        rate_limit_anonymous=settings.rate_limit_anonymous,
    )
    database = connect(settings.database_url)
    box = Box(environment.secret_key(settings), settings.other_secret_key)
    private_targets = settings.webhook_private_targets == "on"
    inline = settings.webhook_worker == "inline"
    counters = Counters(settings.redis_url)
    health = Health(database, counters)
    edge = assemble(
        database,
        document,
        demo=not settings.production,
        defaults=defaults,
        counters=counters,
        subjects=Subjects(settings.trusted_proxies),
        box=box,
        private_targets=private_targets,
        worker=Worker(database, box, private=private_targets) if inline else None,
        health=health,
        metrics=Metrics(database, counters, now) if settings.metrics_ports else None,
        metrics_ports=settings.metrics_ports,
    )
    front = Front(edge, dead={OPERATOR_HASH} if settings.production else ())
    # The first page would hold the event loop for the time that this takes.
    Thread(target=front.panel.load_templates, name="templates", daemon=True).start()
    if settings.cors_origins:
        front.api = cross_origin(front.api, settings.cors_origins, document)
    return Probes(front, health)
