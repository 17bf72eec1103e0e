"""The panel as an ASGI app: which path is which page, what every answer carries, what a failure becomes."""

import logging
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from openapi import contract
from panel import fields, formatting, submitted
from panel.operation_client import OperationClient, PanelContext
from panel.page_registry import NAVIGATION, PageRegistry, PanelPage
from panel.pages import PageHandlers
from panel.sessions import DEVICE_COOKIE, Sessions, SignedInOperator, clear_cookie, read_cookie, set_cookie
from persistence.database import Database
from persistence.errors import Unavailable
from persistence.operators import TooEarly
from persistence.passwords import TooManySignIns
from persistence.sealing import Box

logger = logging.getLogger("cloudarc")

FOLDER = Path(__file__).parent

POLICY = "; ".join(
    (
        "default-src 'none'",
        "style-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    # With no-referrer browsers would not say where a form comes from.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

TRIES = 10
"""The sign-in attempts of an IP address in a minute."""

Charge = Callable[[str], Awaitable[int]]
"""Counts a try to sign in for an address; the seconds to wait, 0 where it is admitted."""


class Show(Protocol):
    async def __call__(self, request: Request, signed: SignedInOperator) -> Response: ...


class Panel:
    """Answers ``/`` and everything below ``/admin``."""

    def __init__(
        self,
        document: contract.Document,
        call: OperationClient,
        database: Database,
        clock: Callable[[], datetime],
        address_of: Callable[[Scope], str],
        count_attempt: Charge,
        disabled_password_hashes: Collection[str] = frozenset(),
        box: Box | None = None,
    ) -> None:
        """Without ``box`` the panel recognizes no device. No operator signs in with a disabled hash."""
        self.pages = PageRegistry(document)
        self.sessions = Sessions(database, clock, disabled_password_hashes, box)
        self.address_of = address_of
        self.count_attempt = count_attempt
        self.style = (FOLDER / "style.css").read_bytes()
        self.templates = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.globals.update(cell=formatting.cell, label=fields.label, pages=self.pages)
        self.templates.globals["navigation"] = [self.pages.index(tag) for tag in NAVIGATION]
        self.handlers = PageHandlers(self.pages, call, self.render)
        self.tags = {each["name"]: each["description"] for each in document["tags"]}
        routes = [
            Route("/", self._front, methods=["GET"]),
            Route("/admin/style.css", self._style, methods=["GET"]),
            Route("/admin/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/admin/sign-out", self._inside("sign_out", self._sign_out), methods=["POST"]),
            Route("/admin", self._inside("home", self._home), methods=["GET"]),
            Route("/admin/", self._inside("home", self._home), methods=["GET"]),
            Route("/admin/search", self._inside("search", self.handlers.find), methods=["GET"]),
        ]
        # What is spelled out comes before what any number may stand for.
        for page in sorted(self.pages.by_id.values(), key=lambda each: each.url.count("{")):
            methods = ["GET"] if page.kind in ("list", "item") else ["GET", "POST"]
            routes.append(Route(f"/admin{page.url}", self._operation(page), methods=methods))
        self.router = Router(routes, redirect_slashes=False)

    def load_templates(self) -> None:
        """Compile all templates, which takes some 60 ms."""
        for name in self.templates.list_templates():
            self.templates.get_template(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit: PanelContext = scope["extensions"]["panel"]
        request = Request(scope, receive)
        started = False

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                names = {name for name, _ in message["headers"]}
                wanted = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(each for each in wanted if each[0] not in names)]
            await send(message)

        try:
            await self.router({**scope, "app": self}, receive, sending)
        except ClientDisconnect:
            return
        except Exception as error:
            if started:
                raise
            await self._failure(request, visit, error)(scope, receive, sending)

    def _failure(self, request: Request, visit: PanelContext, error: Exception) -> Response:
        """The page that says what went wrong."""
        if isinstance(error, HTTPException | submitted.BadForm):
            status = error.status_code if isinstance(error, HTTPException) else error.status
            texts = {404: "There is no such page.", 405: "This page takes no such request."}
            message = texts.get(status, "") if isinstance(error, HTTPException) else str(error)
            headers = dict(getattr(error, "headers", None) or {})
            return self.render(request, "problem.html", status=status, message=message, headers=headers)
        if isinstance(error, Unavailable):
            message = "The database does not answer. Nothing was changed; try again in a moment."
            return self.render(
                request, "problem.html", status=503, message=message, headers={"Retry-After": "1"}
            )
        logger.error("%s failed", visit.request_id, exc_info=error)
        message = f"The server failed and changed nothing. Report the request id {visit.request_id}."
        return self.render(request, "problem.html", status=500, message=message)

    def render(
        self,
        request: Request,
        template: str,
        *,
        status: int = 200,
        signed: SignedInOperator | None = None,
        headers: dict[str, str] | None = None,
        **values: Any,
    ) -> Response:
        """A page."""
        place = {
            "status": status,
            "signed": signed,
            "path": request.url.path,
            "tag": "",
            "done": "",
            "sought": "",
        }
        text = self.templates.get_template(template).render(place | values)
        return HTMLResponse(text, status, headers)

    def _inside(self, name: str, show: Show) -> Callable[[Request], Awaitable[Response]]:
        """A page for those who have signed in; others are led to where they can."""

        async def endpoint(request: Request) -> Response:
            visit: PanelContext = request.scope["extensions"]["panel"]
            visit.page = f"panel_{name}"
            signed = await self.sessions.find(request)
            if signed is None:
                way = {"next": request.url.path.removesuffix("/sign-out")}
                if request.method in ("GET", "HEAD"):
                    way["next"] += f"?{request.url.query}" if request.url.query else ""
                else:
                    way["ended"] = "yes"
                return RedirectResponse(f"/admin/sign-in?{urlencode(way, safe='/')}", 303)
            visit.caller = signed.caller
            return await show(request, signed)

        return endpoint

    def _operation(self, page: PanelPage) -> Callable[[Request], Awaitable[Response]]:
        shows = {"list": self.handlers.show_list, "item": self.handlers.show_item}

        async def show(request: Request, signed: SignedInOperator) -> Response:
            return await shows.get(page.kind, self.handlers.form)(page, request, signed)

        return self._inside(page.id, show)

    async def _front(self, request: Request) -> Response:
        request.scope["extensions"]["panel"].page = "panel_front"
        return self.render(request, "front.html")

    async def _style(self, request: Request) -> Response:
        request.scope["extensions"]["panel"].page = "panel_style"
        return Response(self.style, media_type="text/css", headers={"Cache-Control": "max-age=300"})

    async def _home(self, request: Request, signed: SignedInOperator) -> Response:
        return self.render(request, "home.html", signed=signed, descriptions=self.tags)

    async def _sign_in(self, request: Request) -> Response:
        visit: PanelContext = request.scope["extensions"]["panel"]
        visit.page = "panel_sign_in"
        way = request.query_params.get("next", "/admin")
        if not way.startswith("/admin") or "\\" in way or any(ord(each) < 33 for each in way):
            way = "/admin"
        if request.method != "POST":
            ended = "Your session has ended, so nothing was done. Sign in and do it again."
            message = ended if "ended" in request.query_params else ""
            return self.render(request, "sign_in.html", way=way, name="", message=message)
        submitted.check_headers(request)
        address = self.address_of(request.scope)

        def refuse(status: int, message: str, *, name: str = "", **more: Any) -> Response:
            return self.render(
                request, "sign_in.html", status=status, way=way, name=name, message=message, **more
            )

        if seconds := await self.count_attempt(address):
            # Nothing of the form has been read, so what follows on the connection belongs to it.
            return refuse(
                429,
                f"Your address has tried to sign in {TRIES} times in a minute; {_again_in(seconds)}.",
                headers={"Retry-After": str(seconds), "Connection": "close"},
            )
        sent = await submitted.read(request, None, submitted.SIGN_IN)
        name, password = submitted.one(sent, "name"), submitted.one(sent, "password")
        if not (name and password):
            return refuse(400, "Fill in both the name and the password.", name=name)
        try:
            signed = await self.sessions.sign_in(name, password, address, read_cookie(request, DEVICE_COOKIE))
        except TooEarly as error:
            return refuse(
                429,
                f"Too many attempts to sign in with this name failed; {_again_in(error.seconds)}.",
                name=name,
                delayed=True,
                headers={"Retry-After": str(error.seconds)},
            )
        except TooManySignIns as error:
            return refuse(503, str(error), name=name, headers={"Retry-After": "1"})
        if signed is None:
            return refuse(403, "The name or the password is wrong.", name=name)
        visit.caller = signed.caller
        response = RedirectResponse(way, 303)
        set_cookie(response, signed)
        return response

    async def _sign_out(self, request: Request, signed: SignedInOperator) -> Response:
        await submitted.read(request, signed.csrf)
        await self.sessions.sign_out(signed)
        response = RedirectResponse("/admin/sign-in", 303)
        clear_cookie(response)
        return response


def _again_in(seconds: int) -> str:
    return f"try again in {seconds} second{'' if seconds == 1 else 's'}"
