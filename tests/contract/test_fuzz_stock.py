"""Schemathesis as a newcomer types it: in an empty folder, against a server that runs."""

from collections.abc import Iterator

import pytest

from openapi import contract, projection
from tests.fuzz.runs import ALONE, IF_MATCH, Stock, Target, findings, stock
from tests.support.contract_client import DOCUMENT
from tests.support.live_server import ADMIN, CLIENT, OTHER, prepared, serving

FEW = ("--max-examples", "2", "--seed", "1")
# Of the operator's 60 operations the phase takes half a minute; `make fuzz` has them all.
COVERED = ("settings", "invoices")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with demo data and without limits, as docs/fuzz-us.md starts it."""
    with serving(prepared(f"sqlite:///{tmp_path_factory.mktemp('stock') / 'stock.db'}")) as running:
        yield Target(running.url, CLIENT, OTHER, ADMIN)


def operations(audience: contract.Audience, *tags: str) -> set[str]:
    """What a run is to call, as Schemathesis names it."""
    return {
        f"{each.method.upper()} {each.path}"
        for each in contract.operations(projection.project(DOCUMENT, audience))
        if each.id not in ALONE and (not tags or each.spec["tags"][0] in tags)
    }


def check(found: Stock, wanted: set[str]) -> None:
    """Fail where a run found anything but a stale version, or did not call everything."""
    assert not found.unexpected, f"{sorted(found.unexpected)}\n{findings(found.output)}"
    # Beside them it calls methods that the contract does not have.
    assert found.called >= wanted
    assert (found.status == 1) == bool(found.failures), found.output
    assert "ERRORS" not in found.output, found.output


class TestTheServedSettings:
    def test_with_them_it_finds_nothing(self, target: Target) -> None:
        found = stock(target, "client", *FEW, "--phases", "examples,fuzzing,stateful", configured=True)
        assert (found.status, found.failures) == (0, frozenset()), findings(found.output)
        assert found.called >= operations("client")
        assert "No issues found" in found.output


class TestTheCommandAlone:
    """It may find that a made-up If-Match is stale, and nothing else."""

    def test_for_a_client_it_finds_nothing_else(self, target: Target) -> None:
        found = stock(target, "client", *FEW)
        check(found, operations("client"))
        # The operator may POST there. A caller who sends a header and an api_token is told what a client may.
        assert found.allowed["/invoices"] == "GET, HEAD"
        assert found.allowed["/tickets"] == "GET, HEAD, POST"

    def test_for_the_operator_it_finds_nothing_else(self, target: Target) -> None:
        found = stock(target, "admin", *FEW, "--phases", "examples,fuzzing,stateful")
        check(found, operations("admin"))

    def test_for_the_operator_the_edges_of_the_contract_hold(self, target: Target) -> None:
        tags = [option for tag in COVERED for option in ("--include-tag", tag)]
        found = stock(target, "admin", *FEW, "--phases", "coverage", *tags)
        check(found, operations("admin", *COVERED))
        assert found.allowed["/invoices"] == "GET, HEAD, POST"


def test_what_is_allowed_to_fail_is_a_stale_version_alone() -> None:
    stale = ("positive_data_acceptance", "PUT /settings", 412)
    other = {
        ("positive_data_acceptance", "PUT /settings", 400),
        ("positive_data_acceptance", "POST /tickets", 412),
        ("not_a_server_error", "PUT /settings", 412),
    }
    assert {"PUT /settings", "DELETE /webhooks/{id}"} <= IF_MATCH
    assert Stock(1, "", frozenset({stale}), frozenset(), {}).unexpected == set()
    assert Stock(1, "", frozenset({stale, *other}), frozenset(), {}).unexpected == other
