"""The benchmarks can fail: a bar by its figure, an answer by its JSON, a run by a wrong status."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from openapi_schema_validator import OAS30Validator

from benchmarks import report
from benchmarks.bars import BARS, Bar, judge
from benchmarks.footprint import Weight
from benchmarks.growth import Cost, fill, pages
from benchmarks.inprocess import Own
from benchmarks.load import Failed, Job, generator
from benchmarks.processes import cpu_seconds, memory, tree
from benchmarks.profiling import LAYERS, NoProfile, Profile, by_layer
from benchmarks.store import Store
from benchmarks.throughput import HELLO, NO_IO, NO_IO_STOCK, Sample
from benchmarks.variants import OURS, write_specs
from benchmarks.work import LIST, TICKETS, WORK, Request, Unequal, compare
from openapi import contract, loading
from persistence import migrations


def word(figure: float | None, sense: str = "≥", bound: float = 2.5) -> str:
    bar = Bar(1, "a bar", "figure", sense, bound)  # type: ignore[arg-type]  # one of the two
    return judge({} if figure is None else {"figure": figure}, [bar])[0].word


class TestBars:
    def test_a_figure_that_reaches_its_bar_holds_it(self) -> None:
        assert word(2.5) == word(2.51) == "held"
        assert word(2.5, "≤") == word(0.1, "≤") == "held"

    def test_a_figure_that_does_not_is_not_held_however_near(self) -> None:
        assert word(2.499) == word(2.501, "≤") == "not held"

    def test_what_was_not_measured_is_not_held(self) -> None:
        assert word(None) == "not measured"
        assert not any(each.held for each in judge({}))

    def test_every_bar_has_a_figure_of_its_own_in_a_whole_run(self) -> None:
        figures = whole_run().figures()
        assert len({bar.figure for bar in BARS}) == len(BARS)
        assert [bar.figure for bar in BARS if bar.figure not in figures] == []

    def test_a_figure_is_how_often_our_cost_the_peers_is(self) -> None:
        figures = whole_run().figures()
        assert figures[f"FastAPI, ORM|{LIST.name}|sqlite"] == pytest.approx(3.0)
        assert figures["no io"] == pytest.approx(9.0)
        assert figures[f"pipeline|{TICKETS.name}"] == pytest.approx(0.5)
        assert figures["growth|next|postgresql"] == pytest.approx(4.0)
        assert figures["memory|sqlite"] == pytest.approx(1.25)

    def test_what_a_process_carries_is_put_into_the_page_on_operations(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("before\n<!-- capacity -->\nold\n<!-- /capacity -->\nafter\n")
        report.put_in(page, "capacity", report.capacity(whole_run()))
        text = page.read_text()
        assert text.startswith("before\n<!-- capacity -->\nFrom a run of") and "old" not in text
        assert f"| {LIST.name}: CPU for a call | " in text
        assert text.endswith("|\n<!-- /capacity -->\nafter\n")
        operations = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
        assert "<!-- capacity -->" in operations and "<!-- /capacity -->" in operations

    def test_the_report_has_a_line_for_each_bar(self) -> None:
        run = whole_run()
        text = report.document(run, judge(run.figures()), "")
        assert all(bar.text in text for bar in BARS)
        assert "not held" in text and "| held |" in text


def whole_run() -> report.Run:
    """A run whose figures are planted: every peer costs three times as much, pages grow fourfold."""
    run = report.Run("make bench")
    peers = ("FastAPI, ORM", "FastAPI, our layer", "Starlette", "stock Connexion")
    cheap, dear = Sample(100, 5000, 900, 2000), Sample(300, 2000, 2000, 9000)
    for backend in ("sqlite", "postgresql"):
        slow = Sample(3000, 200, 20000, 90000)
        samples = {(each.name, name): [slow, dear, dear] for each in WORK for name in peers}
        # The first round is slow for all.
        run.samples[backend] = samples | {(each.name, OURS): [dear, cheap, cheap] for each in WORK}
        run.left_out[backend] = {"Fastify": "node is not installed"}
        run.growth[backend] = {name: (Cost(500, 400), Cost(500, 1600)) for name in pages(1000)}
        run.panel[backend] = {"clients": 5.0, "invoices": 7.0}
        run.weights[backend] = {
            OURS: Weight(125, 100),
            "FastAPI, ORM": Weight(100, 90),
            "FastAPI, our layer": Weight(110, 90),
        }
        run.start[backend] = 1.0
    run.no_io = {
        (LIST.name, NO_IO.name): [cheap],
        (LIST.name, NO_IO_STOCK.name): [Sample(900, 1, 1, 1)],
        (LIST.name, HELLO.name): [Sample(20, 1, 1, 1)],
    }
    run.pipeline = {LIST.name: Own(14.0, 0.7), TICKETS.name: Own(10.0, 0.5)}
    return run


class TestWork:
    @pytest.mark.parametrize("request_", WORK, ids=lambda each: each.name)
    def test_a_body_fits_the_contract_as_other_validators_read_it(self, request_: Request) -> None:
        """Stock Connexion is one of the peers and refuses what only an extension of the contract admits."""
        document = loading.bundle()
        (operation,) = [
            each
            for each in contract.operations(document)
            if each.method.upper() == request_.method
            and re.fullmatch(re.sub(r"{\w+}", "[^/]+", each.path), request_.path.partition("?")[0])
        ]
        if request_.body is None:
            assert "requestBody" not in operation.spec
            return
        schema = operation.spec["requestBody"]["content"]["application/json"]["schema"]
        branch = contract.branch(document, schema, request_.kind)
        assert branch is not None
        validator = OAS30Validator({**branch, "components": document["components"]})
        assert list(validator.iter_errors(request_.body)) == []


class TestComparing:
    OURS = (200, b'{"status":"success","data":[{"id":1,"domain":"mysite.com"}]}')

    def test_the_same_json_in_another_order_is_the_same(self) -> None:
        compare(
            LIST, "peer", self.OURS, (200, b'{"data": [{"domain":"mysite.com","id":1}], "status":"success"}')
        )

    @pytest.mark.parametrize(
        "body",
        [
            b'{"status":"success","data":[{"id":2,"domain":"mysite.com"}]}',
            b'{"status":"success","data":[{"id":"1","domain":"mysite.com"}]}',
            b'{"status":"success","data":[]}',
            b'{"data":[{"id":1,"domain":"mysite.com"}]}',
        ],
    )
    def test_other_json_is_refused_and_its_place_is_told(self, body: bytes) -> None:
        with pytest.raises(Unequal, match="peer answers other JSON, at /"):
            compare(LIST, "peer", self.OURS, (200, body))

    def test_another_status_is_refused(self) -> None:
        with pytest.raises(Unequal, match="peer answers 404 instead of 200"):
            compare(LIST, "peer", self.OURS, (404, self.OURS[1]))

    def test_new_ids_may_differ_but_not_their_types(self) -> None:
        made = b'{"success":true,"ticket_id":%s,"ticket_number":"TKT-00000001"}'
        compare(TICKETS, "peer", (201, made % b"1"), (201, made % b"2"))
        with pytest.raises(Unequal):
            compare(TICKETS, "peer", (201, made % b"1"), (201, made % b'"2"'))


BUSY = (
    "import subprocess, sys, time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
)
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {BUSY + "print('done', flush=True); input()"!r}])
child.wait()
"""


class TestProcesses:
    def test_a_busy_child_counts_while_it_lives(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as parent:
            assert parent.stdout and parent.stdin
            parent.stdout.readline()
            try:
                assert len(tree(parent.pid)) == 2
                assert cpu_seconds(parent.pid) >= 0.3
                assert memory(parent.pid)[0] > 1000
            finally:
                parent.stdin.close()

    def test_a_process_that_is_not_there_costs_nothing(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        assert cpu_seconds(process.pid) == 0.0


@contextmanager
def answering(status: int) -> Iterator[int]:
    """The port of a server that answers everything with a status."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *values: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class TestLoad:
    def test_it_makes_as_many_requests_as_it_says(self) -> None:
        with answering(200) as port, generator() as load:
            done = load.run(Job(port, LIST.encoded("x").decode(), 200, connections=3, count=40))
        assert done.requests == 40 and 0 < done.p50 <= done.p99

    def test_a_wrong_status_ends_the_run(self) -> None:
        with (
            answering(503) as port,
            generator() as load,
            pytest.raises(Failed, match="503"),
        ):
            load.run(Job(port, LIST.encoded("x").decode(), 200, connections=1, count=5))


class TestProfile:
    def test_what_the_token_asks_of_the_database_is_the_tokens(self) -> None:
        stacks = [
            "_find_caller (/x/server/request/edge.py:2);all (/x/persistence/engines.py:3) 3",
            "run (/x/server/request/pipeline.py:1);all (/x/persistence/engines.py:3) 6",
            "run (/x/server/request/pipeline.py:1);reply (/x/server/request/plan.py:9) 1",
        ]
        found = by_layer("\n".join(stacks), 200)
        assert found.layers == {
            "database": pytest.approx(120),
            "identify (token)": pytest.approx(60),
            "check and serialise the answer": pytest.approx(20),
        }

    def test_a_thread_that_waits_is_not_at_work(self) -> None:
        stacks = [
            "_bootstrap (/x/threading.py:1);_run (/x/server/request/pipeline.py:1) 3",
            "_bootstrap (/x/threading.py:1);Writer._run (/x/observe/logs.py:9) 50",
            "_bootstrap (/x/threading.py:1);Writer._run (/x/observe/logs.py:9);_put (/observe/logs.py:12) 1",
            "_bootstrap (/x/threading.py:1);_worker (/x/concurrent/futures/thread.py:81) 50",
        ]
        found = by_layer("\n".join(stacks), 4)
        assert found.layers == {"pipeline, the rest": pytest.approx(3), "log line": pytest.approx(1)}

    def test_what_is_left_to_gain_is_told_beside_it(self) -> None:
        run = whole_run()
        layers = {"check the request": 5.0, "check and serialise the answer": 15.0, "edge": 10.0}
        layers |= {"database": 100.0, "send": 40.0, "log line": 20.0, "count (Redis)": 10.0}
        assert layers.keys() < {name for name, _ in LAYERS}
        run.profiles["sqlite"] = {each.name: Profile(200.0, layers) for each in (LIST, TICKETS)}
        _, left = report.document(run, [], "").split("### What is left to gain")
        row = "| 20 (10%) | 10 (5%) | database 100, send 40, log line 20 |"
        assert f"| {LIST.name}, SQLite {row}" in left
        assert f"| {TICKETS.name}, SQLite {row}" in left

    def test_no_look_is_no_profile(self) -> None:
        with pytest.raises(NoProfile):
            by_layer("", 200)


def test_a_filled_database_has_what_the_pages_count(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'grown.db'}"
    migrations.upgrade(url)
    bare = Store(tmp_path, None, None)  # type: ignore[arg-type]  # SQLite needs neither
    bare.sql(
        "INSERT INTO clients (id, "
        + ", ".join(CLIENT)
        + ") WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 "
        "FROM s WHERE n < 240) SELECT n, " + ", ".join(CLIENT.values()) + " FROM s",
        url=url,
    )
    fill(bare, url, 1000)
    count = "SELECT count(*) FROM invoices"
    assert bare.sql(count, url=url) == 1000
    assert bare.sql(f"{count} WHERE status = 'paid'", url=url) == pages(1000)["filtered page (paid)"][1]
    assert bare.sql(f"{count} WHERE client_id = 42", url=url) == pages(1000)["one client's list"][1]


TEXTS = [
    "first_name",
    "last_name",
    "phone",
    "company",
    "address1",
    "city",
    "state",
    "postcode",
    "country",
    "password_hash",
]
CLIENT = dict.fromkeys(TEXTS, "''") | {
    "email": "n || '@example.com'",
    "email_key": "n || '@example.com'",
    "status": "'active'",
    "created_at": "'2024-01-01 10:00:00.000000'",
}


def test_what_fastify_reads_has_the_operations_that_are_measured(tmp_path: Path) -> None:
    write_specs(tmp_path)
    found = set()
    for audience in ("admin", "client"):
        paths = json.loads((tmp_path / f"{audience}.json").read_text())["paths"]
        found |= {(path, method) for path, item in paths.items() for method in item if method != "parameters"}
    measured = {("/services", "get"), ("/services/{id}", "get"), ("/invoices", "post"), ("/tickets", "post")}
    assert found == measured
