"""The composition root: settings in, ASGI app out."""

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any, NamedTuple

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

from openapi import contract, loading
from panel.app import Panel
from persistence import identity
from persistence.counters import Counters
from persistence.database import Database
from persistence.demo.credentials import OPERATOR_HASH
from persistence.engines import connect
from persistence.listing import compact_periodically
from persistence.sealing import Box
from persistence.settings import NO_LIMITS, LiveSettings, RuntimeSettings
from persistence.statements import compile_all
from server.http.headers import request_id
from server.observe import logs
from server.observe.health import Health, Probes
from server.observe.logs import log_request
from server.observe.metrics import Metrics
from server.panel_mount import Operations, PanelMount, SignInLimit
from server.process.children import end_worker_with_server
from server.process.clock import now as now
from server.process.shutdown import stop_on_signal
from server.request.edge import SECURITY_HEADERS, Edge, Observer
from server.request.pipeline import Clock, Pipeline
from server.request.rate_limit import RateLimitKeys
from server.settings import Settings, read_settings, secret_key
from webhooks.delivery import Worker
from webhooks.events import event_kinds


def handler_finder(document: contract.Document) -> Callable[[str], Callable[..., Any]]:
    """Return a function that finds the handler of an operationId in the module of its tag."""
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


@dataclass(frozen=True)
class Lifespan:
    """The lifespan of the server: it starts and ends what runs beside the API."""

    database: Database
    counters: Counters
    settings: LiveSettings
    worker: Worker | None
    health: Health | None
    metrics: Metrics | None
    metrics_ports: Sequence[int]
    load: Callable[[], None] | None

    def stop(self) -> None:
        """Refuse new work. A signal calls this before the requests in flight have ended."""
        for each in (self.health, self.worker):
            if each:
                each.stop()

    @asynccontextmanager
    async def run(self, _: Any) -> AsyncIterator[None]:
        """Start all parts, and end them in reverse order."""
        async with AsyncExitStack() as stack:
            stack.enter_context(stop_on_signal(self.stop))
            await stack.enter_async_context(self._stores())
            if self.metrics:
                await stack.enter_async_context(self.metrics.served(self.metrics_ports))
            if self.worker:
                await stack.enter_async_context(self.worker.working())
            if self.load:
                Thread(target=self.load, name="loading", daemon=True).start()
            yield

    @asynccontextmanager
    async def _stores(self) -> AsyncIterator[None]:
        """Open the database and Redis, and keep the settings and the totals of lists up to date."""
        await self.database.open()
        tasks = (self.settings.keep_fresh(), compact_periodically(self.database))
        background = [asyncio.create_task(each) for each in tasks]
        try:
            await self.settings.refresh()
            await self.counters.open()
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            await self.counters.close()
            await self.database.close()
            logs.flush()


class Assembly(NamedTuple):
    """The API as an ASGI app, and the pipeline that also runs its operations in this process."""

    edge: Edge
    pipeline: Pipeline


def assemble(
    database: Database,
    document: contract.Document,
    clock: Clock = now,
    *,
    demo: bool = True,
    defaults: RuntimeSettings = NO_LIMITS,
    counters: Counters | None = None,
    keys: RateLimitKeys | None = None,
    box: Box | None = None,
    private_targets: bool = False,
    worker: Worker | None = None,
    health: Health | None = None,
    observers: Sequence[Observer] = (log_request,),
    metrics: Metrics | None = None,
    metrics_ports: Sequence[int] = (),
    load: Callable[[], None] | None = None,
) -> Assembly:
    """Build the API over a database that is open, or that the lifespan opens.

    ``demo`` admits demo credentials. ``defaults`` hold until an operator changes a setting. Without
    ``counters`` this process counts requests by itself. Without ``box`` no webhook can be created. ``worker``
    delivers webhooks during the lifespan; a signal stops it and marks ``health`` as stopping. ``metrics`` are
    served on the first free one of ``metrics_ports``. A thread calls ``load`` once requests are served.
    """
    counters = counters or Counters(None)
    live = LiveSettings(database, defaults)
    lifespan = Lifespan(database, counters, live, worker, health, metrics, metrics_ports, load)
    build_pipeline = partial(
        Pipeline,
        database=database,
        clock=clock,
        dependencies={"defaults": defaults, "box": box, "private_targets": private_targets},
        on_credentials_revoked=counters.renew,
    )
    stack, pipeline = _build_stack(document, lifespan.run, build_pipeline)
    edge = Edge(
        stack,
        routes=pipeline.routes,
        database=database,
        clock=clock,
        demo=demo,
        counters=counters,
        limit=lambda name: int(getattr(live.values, name)),
        keys=keys,
        observers=observers,
    )
    return Assembly(edge, pipeline)


def _build_stack(
    document: contract.Document, lifespan: Callable[[Any], Any], pipeline: Callable[..., Pipeline]
) -> tuple[ASGIApp, Pipeline]:
    """Let Connexion bind the handlers. A missing handler raises here, not at the first request."""
    app = AsyncApp(
        "cloudarc",
        lifespan=lifespan,
        middlewares=[LifespanMiddleware, pipeline],
        resolver=Resolver(handler_finder(document)),
        swagger_ui_options=SwaggerUIOptions(serve_spec=False, swagger_ui=False),
    )
    app.middleware.apis.append(API(Contract(document), base_path=None, **vars(app.middleware.options)))
    stack, layers = app.middleware._build_middleware_stack()
    return stack, next(each for each in layers if isinstance(each, Pipeline))


def _load_lazily(database: Database, panel: Panel) -> None:
    """Load what the first requests would load on the event loop, for longer than it may block."""
    event_kinds()
    compile_all(database)
    identity.load_tables()
    panel.load_templates()


PREFLIGHT = {"origin", "access-control-request-method"}
"""The headers of a preflight request."""


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
        response.headers.update({name.decode(): value.decode() for name, value in SECURITY_HEADERS})
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
    settings = settings or read_settings()
    logs.set_up(settings)
    document = loading.bundle()
    defaults = RuntimeSettings(
        rate_limit_client=settings.rate_limit_client,
        rate_limit_admin=settings.rate_limit_admin,
        rate_limit_anonymous=settings.rate_limit_anonymous,
    )
    database = connect(settings.database_url)
    box = Box(secret_key(settings), settings.other_secret_key)
    private_targets = settings.webhook_private_targets == "on"
    inline = settings.webhook_worker == "inline"
    counters = Counters(settings.redis_url)
    keys = RateLimitKeys(settings.trusted_proxies)
    health = Health(database, counters)
    metrics = Metrics(database, counters, now) if settings.metrics_ports else None
    observers: list[Observer] = [log_request, *([metrics.count] if metrics else [])]
    edge, pipeline = assemble(
        database,
        document,
        demo=not settings.production,
        defaults=defaults,
        counters=counters,
        keys=keys,
        box=box,
        private_targets=private_targets,
        worker=Worker(database, box, private=private_targets) if inline else None,
        health=health,
        observers=observers,
        metrics=metrics,
        metrics_ports=settings.metrics_ports,
        load=lambda: _load_lazily(database, panel),
    )
    panel = Panel(
        document,
        Operations(pipeline),
        database,
        now,
        keys.address,
        SignInLimit(counters),
        disabled_password_hashes={OPERATOR_HASH} if settings.production else (),
        box=box,
    )
    # CORS applies to the API alone: no other site may call the panel.
    origins = settings.cors_origins
    api = cross_origin(edge, origins, document) if origins else edge
    return Probes(PanelMount(api, panel, observers), health)
