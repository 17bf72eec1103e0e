"""Every paged list of the contract, as its callers walk it: pages, links and totals say the same."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from openapi import contract
from tests.support import factories
from tests.support.contract_client import DOCUMENT, OPERATIONS, Api

# What makes one more row of a list, and the resource that the list lies below.
MORE: dict[str, Callable[[Api], Any]] = {
    "list_clients": factories.client,
    "list_tokens": factories.token,
    "list_api_keys": factories.api_key,
    "list_services": factories.service,
    "list_invoices": factories.invoice,
    "list_tickets": factories.ticket,
    "list_replies": factories.reply,
    "list_products": factories.product,
    "list_servers": factories.server,
    "list_departments": factories.department,
    "list_webhooks": factories.webhook,
    "list_deliveries": factories.delivery,
    "list_events": factories.event,
    "list_domains": factories.domain,
    "list_announcements": factories.announcement,
    "search_knowledgebase": factories.article,
    # Whatever is made is activity.
    "list_activity": factories.department,
}
BELOW = {"list_tokens": "42", "list_deliveries": "1", "list_replies": "16"}


def is_paged(operation: contract.Operation) -> bool:
    parameters = [contract.deref(DOCUMENT, each) for each in operation.spec.get("parameters", [])]
    return "page" in {each["name"] for each in parameters}


PAGED = [each for each in OPERATIONS if is_paged(each)]
each_list = pytest.mark.parametrize("operation", PAGED, ids=lambda each: each.id)


def caller(operation: contract.Operation, client: Api, admin: Api) -> Api:
    """Who walks a list: the operator, if it has one."""
    return admin if "admin" in operation.audiences else client


def path(operation: contract.Operation) -> str:
    return operation.path.replace("{id}", BELOW.get(operation.id, ""))


def total(body: Any) -> int:
    return int(body.get("meta", body)["total"])


def grow(operation: contract.Operation, admin: Api, times: int) -> None:
    for _ in range(times):
        MORE[operation.id](admin)


class TestEveryList:
    def test_there_is_something_to_walk(self) -> None:
        assert len(PAGED) > 10
        assert {each.id for each in PAGED} == set(MORE)

    @each_list
    def test_its_pages_are_what_its_links_lead_through_and_its_total_counts(
        self, operation: contract.Operation, client: Api, admin: Api
    ) -> None:
        api = caller(operation, client, admin)
        grow(operation, admin, 3)
        limit = min(100, max(1, total(api.get(path(operation), limit=1).json()) // 3))
        pages: list[list[int]] = []
        while not pages or len(pages[-1]) == limit:
            body = api.get(path(operation), limit=limit, page=len(pages) + 1).json()
            pages.append([row["id"] for row in body["data"]])
        linked: list[int] = []
        answer = api.get(path(operation), limit=limit)
        while True:
            linked += [row["id"] for row in answer.json()["data"]]
            link = re.fullmatch(r'</api/v1(.+)>; rel="next"', answer.headers.get("Link", ""))
            if link is None:
                break
            answer = api.get(link.group(1))
        assert linked == [id for page in pages for id in page]
        assert len(linked) == len(set(linked)) == total(answer.json()) > limit

    @each_list
    def test_its_total_is_the_one_of_now(
        self, operation: contract.Operation, client: Api, admin: Api
    ) -> None:
        api = caller(operation, client, admin)
        before = total(api.get(path(operation)).json())
        grow(operation, admin, 2)
        assert total(api.get(path(operation)).json()) == before + 2
