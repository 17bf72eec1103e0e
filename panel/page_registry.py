"""The operator's operations as pages. The panel's paths are the contract's: /clients/42/tokens is
/admin/clients/42/tokens, and what is new in the contract is in the panel, too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openapi import contract
from panel.fields import Field, field_of, fields_of
from persistence import lifecycle

PLACE = ("page", "limit", "after")

# How nouns are called where their tag does not say it, many and one.
NAMES = {
    "api_keys": ("API keys", "API key"),
    "tokens": ("API tokens", "API token"),
    "activity": ("Activity", "Activity"),
    "knowledgebase": ("Knowledgebase", "article"),
    "settings": ("Settings", "Settings"),
    "list_deliveries": ("Deliveries", "delivery"),
    "list_replies": ("Replies", "reply"),
}

NAVIGATION = (
    *("clients", "services", "invoices", "tickets", "products", "servers", "departments", "domains"),
    *("knowledgebase", "announcements", "webhooks", "events", "activity", "settings"),
)

# What lists show; all members where a noun is not named.
COLUMNS = {
    "list_clients": ("id", "first_name", "last_name", "company", "email", "status", "created_at"),
    "list_services": ("id", "client_id", "product_name", "domain", "status", "next_due_date", "server_id"),
    "list_tickets": ("ticket_number", "client_id", "subject", "status", "priority", "updated_at"),
    "list_invoices": ("invoice_number", "client_id", "status", "total", "currency", "due_date", "paid_at"),
    "list_products": ("id", "name", "kind", "status", "prices", "currency"),
    "list_servers": ("id", "name", "hostname", "kind", "status", "load"),
    "search_knowledgebase": ("id", "title", "category"),
    "list_announcements": ("id", "title", "published_at"),
    "list_webhooks": ("id", "url", "events", "active", "disabled_reason"),
    "list_deliveries": (
        *("id", "event", "event_id", "status", "test", "created_at", "attempts", "next_attempt_at"),
        "message_id",
    ),
    "list_events": ("id", "event", "timestamp", "uid"),
}

# Where the number of another noun leads.
LINKS = {
    "client_id": "/clients/{}",
    "product_id": "/products/{}",
    "server_id": "/servers/{}",
    "department_id": "/departments/{}",
    "webhook_id": "/webhooks/{}",
    "event_id": "/events/{}",
}

# What else stands on the page of an item: a list, and how it is narrowed to what belongs to the item.
RELATED: Mapping[str, tuple[tuple[str, str | None], ...]] = {
    "get_client": (
        ("list_tokens", None),
        ("list_services", "client_id"),
        ("list_invoices", "client_id"),
        ("list_tickets", "client_id"),
        ("list_domains", "client_id"),
    ),
    "update_client": (("list_tokens", None),),
    "get_product": (("list_services", "product_id"),),
    "get_webhook": (("list_deliveries", None),),
    "get_settings": (("list_api_keys", None),),
}

# What is chosen from a list instead of by its number.
CHOICES = {"product_id": "list_products", "department_id": "list_departments"}

VERBS = {"services": lifecycle.SERVICE, "invoices": lifecycle.INVOICE}


@dataclass(frozen=True)
class PanelPage:
    """One operation as a page; ``kind`` is list, item, create, update, delete or verb."""

    id: str
    kind: str
    tag: str
    path: str
    summary: str
    description: str
    fields: tuple[Field, ...]
    filters: tuple[Field, ...]
    columns: tuple[str, ...]

    @property
    def url(self) -> str:
        """The template of its path below /admin."""
        return self.path + {"create": "/new", "update": "/edit", "delete": "/delete"}.get(self.kind, "")

    @property
    def object_path(self) -> str:
        """The contract's path of the object that it is about: up to the last id, empty where it has none."""
        return self.path[: self.path.rfind("}") + 1]

    @property
    def list_path(self) -> str:
        """The contract's path of the list that this object is in."""
        return self.object_path.rpartition("/")[0]

    @property
    def names(self) -> tuple[str, str]:
        """The plural and the singular of the page's noun."""
        title = self.tag.replace("_", " ").capitalize()
        return NAMES.get(self.id) or NAMES.get(self.tag) or (title, title.lower().removesuffix("s"))

    def with_labels(self, message: str) -> str:
        """Return a message in which the fields have their labels instead of their names."""
        labels = {
            each.name: f"“{each.label}”" for each in self.fields if "_" in each.name or each.name == "url"
        }
        return re.sub(r"\w+", lambda word: labels.get(word[0], word[0]), message)

    @property
    def label(self) -> str:
        """The label of the button that leads to the page."""
        name = self.path.rpartition("/")[2] if self.kind == "verb" else self.kind
        words = {"create": "New", "update": "Edit", "rotate-secret": "Rotate secret", "test": "Send a test"}
        if self.kind == "create":
            return {"tokens": "Generate API token", "api_keys": "Generate API key"}.get(
                self.tag, f"New {self.names[1]}"
            )
        if self.id.startswith("revoke_"):
            return "Revoke"
        return words.get(name) or {"pay": "Mark paid"}.get(name) or name.capitalize()

    @property
    def dangerous(self) -> bool:
        """Whether the operation is destructive."""
        return self.kind == "delete" or self.id in ("terminate_service", "suspend_service")

    def fill(self, values: Sequence[str]) -> str:
        """Its address for these ids."""
        numbers = iter(values)
        return "/admin" + re.sub(r"{\w+}", lambda _: next(numbers), self.url)


class PageRegistry:
    """All pages, by the id of their operation."""

    def __init__(self, document: contract.Document) -> None:
        mine = [
            each for each in contract.operations(document) if "admin" in each.audiences and not each.public
        ]
        self.by_id = {each.id: _panel_page(document, each) for each in mine}

    def __getitem__(self, id: str) -> PanelPage:
        return self.by_id[id]

    def find(self, kind: str, path: str) -> PanelPage | None:
        """The page of a kind for a path of the contract."""
        return next((each for each in self.by_id.values() if (each.kind, each.path) == (kind, path)), None)

    def actions(self, path: str) -> list[PanelPage]:
        """Return the actions on the object at a path: update first, then its verbs, delete last."""
        found = [
            each
            for each in self.by_id.values()
            if (each.kind in ("update", "delete") and each.path == path)
            or (each.kind == "verb" and re.fullmatch(re.escape(path) + r"/[\w-]+", each.path))
        ]
        return sorted(found, key=lambda each: ("update", "verb", "delete").index(each.kind))

    def index(self, tag: str) -> PanelPage:
        """The first page of a noun."""
        pages = [each for each in self.by_id.values() if each.tag == tag and "{" not in each.path]
        return next(each for each in pages if each.kind in ("list", "item"))


def _panel_page(document: contract.Document, operation: contract.Operation) -> PanelPage:
    spec = operation.spec
    parameters = [contract.deref(document, each) for each in spec.get("parameters", ())]
    query = [
        each
        for each in parameters
        if each["in"] == "query" and each["name"] not in PLACE and each.get("x-dialect") != "client"
    ]
    paged = any(each["name"] == "after" for each in parameters)
    body = spec.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    fields = fields_of(document, contract.branch(document, body, "admin")) if body else ()
    kinds = {"put": "update", "delete": "delete", "get": "list" if paged else "item"}
    kind = "create" if operation.id.startswith("create_") else kinds.get(operation.method, "verb")
    return PanelPage(
        id=operation.id,
        kind=kind,
        tag=spec["tags"][0],
        path=operation.path,
        summary=spec["summary"],
        description=_about(spec),
        fields=fields,
        filters=tuple(field_of(document, each["name"], each["schema"]) for each in query),
        columns=COLUMNS.get(operation.id) or _members(document, operation) if paged else (),
    )


def _about(spec: contract.Document) -> str:
    """A description without the sentences about the API alone: scopes, statuses and events."""
    description = contract.description_for(spec, "admin")
    plain = description.replace("`", "").replace("\n", " ").replace("_", " ")
    plain = plain.replace(" once, in this response.", " once.")
    sentences = re.split(r"(?<=\.) +", plain.strip())
    about = re.compile(
        r"\b4\d\d\b|\bscopes?\b|^An API key|calling key|request body|empty string|default priority|^Emits"
    )
    return " ".join(each for each in sentences if not about.search(each))


def _members(document: contract.Document, operation: contract.Operation) -> tuple[str, ...]:
    """All members of a list's rows."""
    schema = operation.spec["responses"]["200"]["content"]["application/json"]["schema"]
    answer = contract.deref(document, contract.branch(document, schema, "admin"))
    return tuple(contract.deref(document, answer["properties"]["data"]["items"])["properties"])


def is_allowed(page: PanelPage, item: Mapping[str, Any]) -> bool:
    """Return whether the state of an object allows the verb of a page."""
    verb = VERBS.get(page.tag, {}).get(page.path.rpartition("/")[2])
    state = {"overdue": "unpaid"}.get(str(item.get("status")), str(item.get("status")))
    if page.id == "reply_to_ticket" or page.id == "close_ticket":
        return state != "closed"
    return verb is None or page.kind != "verb" or state in verb.from_states
