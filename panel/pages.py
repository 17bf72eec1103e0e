"""The handlers of the pages: lists, items and forms."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from panel import formatting, lookups, submitted
from panel.fields import MORE_LINES, Field, bound, with_current_value
from panel.operation_client import OperationClient, OperationResult, PanelContext
from panel.page_registry import CHOICES, RELATED, PageRegistry, PanelPage, is_allowed
from panel.sessions import SignedInOperator

ROWS = 25
SOME = 5
"""The rows of a list, and of a list within another page."""

SECRETS = ("token", "key", "secret")

UNCHANGED = "unchanged"


class Render(Protocol):
    def __call__(self, request: Request, template: str, **values: Any) -> Response: ...


@dataclass(frozen=True)
class Section:
    """A list that stands on the page of an item."""

    page: PanelPage
    rows: Sequence[Mapping[str, Any]]
    ids: tuple[str, ...]
    query: str
    more: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the list, except its owner."""
        owner = f"{self.query.strip('?').partition('=')[0] or 'client_id'}"
        return tuple(name for name in self.page.columns if name != owner)


class PageHandlers:
    """Where an operator reads and changes things, each by the operation of a page."""

    def __init__(self, pages: PageRegistry, call: OperationClient, render: Render) -> None:
        self.pages = pages
        self.call = call
        self.render = render

    async def _run(
        self, id: str, request: Request, signed: SignedInOperator, **given: Any
    ) -> OperationResult:
        visit: PanelContext = request.scope["extensions"]["panel"]
        return await self.call(id, signed.caller, request_id=visit.request_id, **given)

    def _problem(
        self, request: Request, signed: SignedInOperator, page: PanelPage, result: OperationResult
    ) -> Response:
        """The page of what cannot be shown at all."""
        return self.render(
            request, "problem.html", status=result.status, signed=signed, tag=page.tag, message=result.message
        )

    # --- Lists -----------------------------------------------------------------------------------

    async def show_list(self, page: PanelPage, request: Request, signed: SignedInOperator) -> Response:
        """A page of rows, narrowed by filters, and the way to the next one."""
        ids = _ids(page, request)
        asked = {name: value for name, value in request.query_params.items() if value and name != "done"}
        result = await self._run(page.id, request, signed, path=ids, query={**asked, "limit": str(ROWS)})
        if not result.ok and result.status != 400:
            return self._problem(request, signed, page, result)
        faults = {} if result.ok else result.faults
        filters = bound(await self._with_choices(page.filters, request, signed), asked, faults)
        rows = result.data if result.ok else []
        filtered = {name: value for name, value in asked.items() if name != "after"}
        return self.render(
            request,
            "list.html",
            status=result.status,
            signed=signed,
            tag=page.tag,
            page=page,
            ids=ids,
            rows=rows,
            filters=filters,
            filtered=filtered,
            after=result.next_after if result.ok else None,
            paged="after" in asked,
            message="" if result.ok else result.message,
            done=self._done(request),
        )

    # --- Search ----------------------------------------------------------------------------------

    async def find(self, request: Request, signed: SignedInOperator) -> Response:
        """Lead straight to what a text names beyond doubt, or show all that it may mean."""
        sought = request.query_params.get("q", "").strip()[: lookups.MOST_CHARACTERS]
        id = lookups.ticket_id(sought)
        if id and (await self._run("get_ticket", request, signed, path=[id])).ok:
            return RedirectResponse(self.pages["get_ticket"].fill([id]), 303)
        found: dict[str, Section] = {}
        message = ""
        for each in lookups.lookups(sought) if sought else ():
            page = self.pages[each.operation]
            result = await self._run(
                each.operation, request, signed, query={**each.query, "limit": str(SOME)}
            )
            if not result.ok:
                # What the API refuses to look for is not there. That a search took too long must be said.
                message = message or (result.message if result.status != 400 else "")
                continue
            if each.sure and len(result.data) == 1:
                return self._leave_for(page, result.data[0])
            if result.data and page.id not in found:
                query = f"?{urlencode(each.query)}"
                found[page.id] = Section(page, result.data, (), query, result.more)
        only = [(each.page, row) for each in found.values() for row in each.rows]
        if len(only) == 1 and not message:
            return self._leave_for(*only[0])
        return self.render(
            request, "search.html", signed=signed, sought=sought, found=[*found.values()], message=message
        )

    def _leave_for(self, page: PanelPage, row: Mapping[str, Any]) -> Response:
        """Lead to the page of a row of a list."""
        item = self.pages.find("item", page.path + "/{id}")
        assert item is not None
        return RedirectResponse(item.fill([str(row["id"])]), 303)

    # --- Items -----------------------------------------------------------------------------------

    async def show_item(self, page: PanelPage, request: Request, signed: SignedInOperator) -> Response:
        """An object, what can be done to it, and what belongs to it."""
        ids = _ids(page, request)
        result = await self._run(page.id, request, signed, path=ids)
        if not result.ok:
            return self._problem(request, signed, page, result)
        actions = [each for each in self.pages.actions(page.path) if is_allowed(each, result.data)]
        reply = next((each for each in actions if each.id == "reply_to_ticket"), None)
        return self.render(
            request,
            "item.html",
            signed=signed,
            tag=page.tag,
            page=page,
            ids=ids,
            item=result.data,
            title=formatting.title(page.names[1], result.data),
            actions=[each for each in actions if each is not reply],
            reply=reply,
            fields=reply.fields if reply else (),
            key=secrets.token_hex(16),
            sections=await self._sections(page, request, signed, ids),
            done=self._done(request),
        )

    async def _sections(
        self, page: PanelPage, request: Request, signed: SignedInOperator, ids: tuple[str, ...]
    ) -> list[Section]:
        found = []
        for id, narrowed in RELATED.get(page.id, ()):
            below = self.pages[id]
            path = ids[: below.path.count("{")]
            query = {narrowed: ids[0]} if narrowed else {}
            result = await self._run(id, request, signed, path=path, query={**query, "limit": str(SOME)})
            if result.ok:
                text = f"?{narrowed}={ids[0]}" if narrowed else ""
                found.append(Section(below, result.data, path, text, result.more))
        return found

    # --- Forms -----------------------------------------------------------------------------------

    async def form(self, page: PanelPage, request: Request, signed: SignedInOperator) -> Response:
        """A form, empty or filled in; where it is sent, what it asks for is done or the form says why not."""
        ids = _ids(page, request)
        below = self._item_page(page)
        item = await self._subject(page, request, signed, ids)
        if item is not None and not item.ok:
            return self._problem(request, signed, page, item)
        before = item.data if item else {}
        if request.method != "POST":
            given = before if page.kind == "update" else dict(request.query_params)
            return await self._form(page, request, signed, ids, item, given)
        sent = await submitted.read(request, signed.csrf)
        given = submitted.object_of(page.fields, sent)
        more = submitted.one(sent, "_more")
        if more:
            if not any(each.name == more and each.kind == "lines" for each in page.fields):
                raise submitted.BadForm(400, "This form has no more lines; open it again.")
            given[more] = [*given.get(more, []), *[{}] * MORE_LINES]
            return await self._form(page, request, signed, ids, item, given, sent)
        body = submitted.changes(page.fields, before, given) if page.kind == "update" else given
        if page.kind == "update" and not body:
            return self._leave(page, ids, before, UNCHANGED)
        result = await self._run(
            page.id,
            request,
            signed,
            path=ids,
            headers=submitted.request_headers(page.kind, sent),
            body=body if page.fields else None,
        )
        if not result.ok:
            if result.status == 412 and below:
                item = await self._run(below.id, request, signed, path=ids)
            return await self._form(page, request, signed, ids, item, given, sent, result)
        if any(name in result.data for name in SECRETS):
            return self._secret(page, request, signed, ids, result)
        return self._leave(page, ids, result.data, page.id)

    async def _subject(
        self, page: PanelPage, request: Request, signed: SignedInOperator, ids: tuple[str, ...]
    ) -> OperationResult | None:
        """The object that a form changes, or that what it makes will belong to.

        One that has no page is looked for in its list. Raises HTTPException where that does not have it.
        """
        below = self._item_page(page) or self.pages.find("item", page.object_path)
        if below:
            return await self._run(below.id, request, signed, path=ids)
        above = self.pages.find("list", page.list_path)
        if above is None:
            return None
        *place, id = ids
        if not re.fullmatch("[0-9]{1,15}", id):
            raise HTTPException(404)
        # Lists show the newest first, and ``after`` what is older than a row.
        query = {"after": str(int(id) + 1), "limit": "1"}
        found = await self._run(above.id, request, signed, path=place, query=query)
        if not found.ok:
            return found
        if [str(each["id"]) for each in found.data] != [id]:
            raise HTTPException(404)
        return replace(found, body={"data": found.data[0]})

    async def _form(
        self,
        page: PanelPage,
        request: Request,
        signed: SignedInOperator,
        ids: tuple[str, ...],
        item: OperationResult | None,
        given: Mapping[str, Any],
        sent: submitted.Sent | None = None,
        refused: OperationResult | None = None,
    ) -> Response:
        """The form, as it was ``sent`` and ``refused``. It changes the version that its sender has seen."""
        faults = refused.faults if refused else {}
        fields = bound(await self._with_choices(page.fields, request, signed), given, faults)
        data = item.data if item and item.ok else {}
        etag = item.etag if item and item.ok else ""
        stale = refused is not None and refused.status == 412
        if sent and not stale:
            etag = submitted.one(sent, "_etag")
        if stale:
            fields = [with_current_value(each, data) for each in fields]
        named = {each.name for each in fields}
        elsewhere = [text for name, text in faults.items() if name.partition(".")[0] not in named]
        return self.render(
            request,
            "form.html",
            status=refused.status if refused else 200,
            signed=signed,
            tag=page.tag,
            page=page,
            ids=ids,
            item=data,
            title=formatting.title(self._one(page), data) if data else "",
            facts=self._facts(page, data),
            back=self._back(page, ids),
            fields=fields,
            key=secrets.token_hex(16),
            etag=etag,
            message=refusal_message(page, refused) if refused else "",
            elsewhere=elsewhere,
            possible=[each for each in self._others(page) if is_allowed(each, data)]
            if refused and page.kind == "verb"
            else [],
            sections=await self._sections(page, request, signed, ids),
        )

    def _others(self, page: PanelPage) -> list[PanelPage]:
        """Return the other actions on the same object."""
        below = self._item_page(page)
        return [each for each in self.pages.actions(below.path) if each is not page] if below else []

    def _one(self, page: PanelPage) -> str:
        """Return the name of the object of a form."""
        found = self._item_page(page) or self.pages.find("item", page.object_path)
        return (found or self.pages.find("list", page.list_path) or page).names[1]

    def _facts(self, page: PanelPage, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the members of an object without a page of its own."""
        above = self.pages.find("list", page.list_path)
        own = page.kind == "create" or self._item_page(page)
        return {} if own or above is None else {name: data.get(name) for name in above.columns}

    def _item_page(self, page: PanelPage) -> PanelPage | None:
        """The page of the object that a form changes."""
        path = page.object_path if page.kind == "verb" else page.path
        return self.pages.find("item", path) if page.kind != "create" else None

    def _back(self, page: PanelPage, ids: tuple[str, ...]) -> str:
        """Where a form that is not sent leads back to."""
        below = self._item_page(page)
        if below:
            return below.fill(ids)
        path = page.list_path if page.kind != "create" else page.path
        while path:
            for kind in ("list", "item"):
                above = self.pages.find(kind, path)
                if above:
                    return above.fill(ids)
            path = path.rpartition("/")[0]
        return "/admin"

    def _leave(self, page: PanelPage, ids: tuple[str, ...], data: Mapping[str, Any], done: str) -> Response:
        """Lead to what was made or changed, or to the list that it was in."""
        made = self.pages.find("item", page.path + "/{id}") if page.kind == "create" else None
        if made:
            where = made.fill([*ids, str(data["id"])])
        elif page.kind == "delete":
            where = self._list_of(page, ids)
        else:
            where = self._back(page, ids)
        return RedirectResponse(f"{where}?done={done}", 303)

    def _list_of(self, page: PanelPage, ids: tuple[str, ...]) -> str:
        above = self.pages.find("list", page.list_path)
        return above.fill(ids) if above else "/admin"

    def _secret(
        self,
        page: PanelPage,
        request: Request,
        signed: SignedInOperator,
        ids: tuple[str, ...],
        result: OperationResult,
    ) -> Response:
        """The page that shows a secret, this once."""
        name = next(each for each in SECRETS if each in result.data)
        # As the browser sees us, which may be through a proxy that speaks HTTPS.
        base = f"{request.headers.get('origin') or str(request.base_url).rstrip('/')}/api/v1"
        return self.render(
            request,
            "secret.html",
            signed=signed,
            tag=page.tag,
            page=page,
            back=self._back(page, ids),
            name=name,
            secret=result.data[name],
            item=result.data,
            base=base,
        )

    async def _with_choices(
        self, fields: Sequence[Field], request: Request, signed: SignedInOperator
    ) -> Sequence[Field]:
        """Fields in which a number is chosen from a list, if that is not too long."""
        result = []
        for each in fields:
            made = each
            if each.name in CHOICES:
                found = await self._run(CHOICES[each.name], request, signed, query={"limit": "100"})
                if found.ok and not found.more:
                    options = tuple((str(row["id"]), f"{row['name']} ({row['id']})") for row in found.data)
                    made = replace(each, kind="choice", options=options, attributes=())
            result.append(made)
        return result

    def _done(self, request: Request) -> str:
        """Return the confirmation of the previous action."""
        done = request.query_params.get("done", "")
        if done == UNCHANGED:
            return "The form has no changes."
        page = self.pages.by_id.get(done)
        return f"Done: {page.summary[0].lower()}{page.summary[1:]}." if page else ""


def _ids(page: PanelPage, request: Request) -> tuple[str, ...]:
    return tuple(str(request.path_params[name]) for name in re.findall(r"{(\w+)}", page.path))


def refusal_message(page: PanelPage, refused: OperationResult) -> str:
    """Return why a form was refused, in the words of the form."""
    if "Idempotency-Key was used" in refused.message:
        return "This form was sent before with other content; open it again to send it once more."
    return page.with_labels(refused.message)
