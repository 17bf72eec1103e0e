"""Schemathesis finds nothing in a short run, and would if there were something."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi import contract, loading, projection
from tests.fuzz.runs import ALONE, OWN, Outcome, Target, findings, fuzz, gaps, read_reports
from tests.support.live_server import ADMIN, CLIENT, OTHER, Running, prepared, serving

Fault = Callable[[ASGIApp], ASGIApp]


def run(
    folder: Path,
    audience: contract.Audience,
    *,
    only: frozenset[str] | None = None,
    fault: Fault | None = None,
) -> Outcome:
    """A short run against a demo server of its own, which may have a fault."""
    running = prepared(f"sqlite:///{folder / 'fuzz.db'}")
    if fault:
        running = Running(running.database, running.api, running.clock, served=fault(running.edge))
    with serving(running):
        target = Target(running.url, CLIENT, OTHER, ADMIN)
        return fuzz(target, audience, seed=7, examples=5, only=only)


def answering(path: str, status: int, body: object) -> Fault:
    """A server that answers GET of one path always so."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            async def replaced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    kept = [each for each in message["headers"] if each[0] != b"content-length"]
                    await send({**message, "status": status, "headers": kept})
                else:
                    await send({"type": "http.response.body", "body": json.dumps(body).encode()})

            hit = scope.get("path") == f"/api/v1{path}" and scope["method"] == "GET"
            await app(scope, receive, replaced if hit else send)

        return served

    return wrap


def leaking(path: str) -> Fault:
    """A server that takes the other client for client 42 below one path."""

    def wrap(app: ASGIApp) -> ASGIApp:
        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("path", "").startswith(f"/api/v1{path}/"):
                headers = [
                    (name, value.replace(OTHER.encode(), CLIENT.encode())) for name, value in scope["headers"]
                ]
                scope = {**scope, "headers": headers}
            await app(scope, receive, send)

        return served

    return wrap


class TestTheShortRun:
    @pytest.mark.parametrize("audience", contract.AUDIENCES)
    def test_schemathesis_finds_nothing(self, audience: contract.Audience, tmp_path: Path) -> None:
        outcome = run(tmp_path, audience)
        assert not outcome.problems, "\n".join([*outcome.problems, findings(outcome.output)])
        assert outcome.left_out <= ALONE
        assert outcome.cases > 10 * len(outcome.operations)
        if audience == "client":
            assert outcome.crossed & outcome.owned, "the other client tried nothing that is not its own"

    def test_what_is_left_out_is_fuzzed_alone(self, tmp_path: Path) -> None:
        outcome = run(tmp_path, "admin", only=ALONE)
        assert not outcome.problems, "\n".join([*outcome.problems, findings(outcome.output)])
        assert outcome.answered == {"PUT /settings"}

    def test_what_no_projection_has_is_fuzzed_too(self, tmp_path: Path) -> None:
        outcome = run(tmp_path, "client", only=OWN)
        assert not outcome.problems, "\n".join([*outcome.problems, findings(outcome.output)])
        assert outcome.answered == {
            *("GET /openapi.json", "GET /openapi.yaml", "GET /docs", "GET /schemathesis.toml"),
        }

    def test_an_operation_can_be_fuzzed_alone(self, tmp_path: Path) -> None:
        outcome = run(tmp_path, "client", only=frozenset({"get_status"}))
        assert not outcome.problems, "\n".join([*outcome.problems, findings(outcome.output)])
        assert outcome.answered == {"GET /status"}
        assert len(outcome.left_out) > 10


class TestTheFuzzNotices:
    @pytest.mark.parametrize(
        ("status", "body", "told"),
        [
            (200, {"status": "ok", "version": 1.0, "time": "now"}, "Response violates schema"),
            (500, {"error": "Server error", "code": 500}, "Server error"),
        ],
    )
    def test_a_wrong_answer_fails_the_run(self, status: int, body: object, told: str, tmp_path: Path) -> None:
        fault = answering("/status", status, body)
        outcome = run(tmp_path, "client", only=frozenset({"get_status"}), fault=fault)
        assert outcome.problems and outcome.failures
        assert told in findings(outcome.output)

    def test_a_ticket_that_another_client_may_read_fails_the_run(self, tmp_path: Path) -> None:
        only = frozenset({"list_tickets", "create_ticket", "get_ticket"})
        outcome = run(tmp_path, "client", only=only, fault=leaking("/tickets"))
        assert outcome.problems and outcome.failures
        assert "`other client` received" in findings(outcome.output)

    def test_a_run_of_nothing_fails(self, tmp_path: Path) -> None:
        assert run(tmp_path, "client", only=frozenset({"get_nothing"})).problems

    def test_an_operation_that_a_phase_did_not_reach_fails_the_run(self, tmp_path: Path) -> None:
        outcome = _outcome("get_status")
        report = {
            "test_cases": {"generated": 9, "unique_failures": 0},
            "running_time": 1.0,
            "operations": {"tested": 1},
            "complete": True,
        }
        events = [
            {"ScenarioFinished": {"phase": phase, "recorder": {"label": "GET /status"}}}
            for phase in ("examples", "coverage")
        ]
        (tmp_path / "report.json").write_text(json.dumps(report))
        (tmp_path / "events.ndjson").write_text("".join(f"{json.dumps(each)}\n" for each in events))
        read_reports(outcome, 0, tmp_path)
        assert "The fuzzing phase did not reach GET /status." in outcome.problems
        assert any("checks never ran" in each for each in outcome.problems)

    def test_what_no_run_reached_is_told(self) -> None:
        outcome = _outcome("get_ticket", "create_ticket")
        outcome.answered = {"POST /tickets"}
        assert gaps([outcome]) == [
            "client: GET /tickets/{id} was never answered 2xx.",
            "client: POST /tickets -> [201] ClientGetTicket -> GET /tickets/{id} was never followed.",
            "client: the other client never tried GET /tickets/{id}.",
        ]
        outcome.answered |= {"GET /tickets/{id}"}
        outcome.followed |= outcome.links
        outcome.crossed |= outcome.owned
        assert gaps([outcome]) == []


def _outcome(*names: str) -> Outcome:
    """A run of a client's operations in which nothing happened yet."""
    document = projection.project(loading.bundle(), "client")
    operations = {
        f"{each.method.upper()} {each.path}": each
        for each in contract.operations(document)
        if each.id in names
    }
    return Outcome("client", 1, operations, frozenset())
