"""What the judges are asked, and that nothing they say is lost."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from openapi import contract, loading, projection
from persistence import demo
from tests.clients.running import Failure
from tests.judges import __main__ as command
from tests.judges import linters, postman, proxies, recorder

ROOT = Path(__file__).parents[2]
ARAZZO = yaml.safe_load((ROOT / "openapi" / "arazzo.yaml").read_text())
IDS = {
    audience: {each.id for each in contract.operations(projection.project(loading.bundle(), audience))}
    for audience in contract.AUDIENCES
}


class TestVerdicts:
    def test_what_a_judge_finds_fails_the_run(self) -> None:
        def work() -> str:
            raise Failure("openapi.json: 1 error\nand more")

        found = command.verdict("A judge", work)
        assert not found.passed and found.said.endswith("and more")
        assert re.fullmatch(r"\| A judge \| openapi.json: 1 error \| [\d.]+ \| failed \|", str(found))

    def test_the_page_has_every_judge_and_nothing_that_was_found(self) -> None:
        text = command.TABLE.read_text()
        assert text.startswith(command.HEAD)
        rows = re.findall(r"^\| (.+?) \| .+ \| [\d.]+ \| (\w+) \|$", text, re.MULTILINE)
        source = Path(command.__file__).read_text()
        assert [name for name, _ in rows] == re.findall(r'verdict\(\s*"(.+?)"', source)
        assert len(rows) > 5 and {word for _, word in rows} == {"ok"}

    def test_what_is_missing_is_told_with_the_package_that_has_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert command.main() == 2
        told = capsys.readouterr().err
        assert told == (
            "judges: node is missing: install the Debian package nodejs\n"
            "judges: npm is missing: install the Debian package npm\n"
        )
        assert postman.main() == 2


class TestExceptions:
    @pytest.mark.parametrize("name", [".spectral.yaml", "redocly.yaml"])
    def test_each_stands_below_its_reason(self, name: str) -> None:
        lines = (ROOT / name).read_text().splitlines()
        off = [at for at, line in enumerate(lines) if re.search(r"^\s+[\w:-]+: off$", line)]
        assert off
        for at in off:
            above = "\n".join(lines[max(0, at - 12) : at])
            assert re.search(r"# [A-Z].*(\n *# .*)*\.$", above, re.MULTILINE), lines[at]

    def test_the_lock_file_names_no_host(self) -> None:
        assert not re.search(r"https?:|resolved", (linters.SOURCES / "package-lock.json").read_text())

    def test_every_form_of_the_contract_is_judged(self) -> None:
        names = {name for name, _, _ in linters.documents()}
        assert len(names) == len(contract.VERSIONS) * (1 + len(contract.AUDIENCES))


class TestWorkflows:
    def test_there_are_the_five(self) -> None:
        assert [each["workflowId"] for each in ARAZZO["workflows"]] == [
            "new_client_to_paid_invoice",
            "ticket_opened_to_closed",
            "suspend_and_unsuspend",
            "subscribe_and_receive",
            "rotate_key",
        ]

    def test_every_step_is_an_operation_of_its_audience_and_says_what_success_is(self) -> None:
        for workflow in ARAZZO["workflows"]:
            for step in workflow["steps"]:
                audience, id = step["operationId"].removeprefix("$sourceDescriptions.").split(".")
                assert id in IDS[audience], step["stepId"]
                assert step["successCriteria"][0]["condition"].startswith("$statusCode == ")


class TestPostman:
    def test_a_collection_has_its_variables_and_its_test(self) -> None:
        found = postman.finished({"info": {"name": "x"}, "item": [], "variable": []}, "client")
        values = {each["key"]: each["value"] for each in found["variable"]}
        assert values == {"baseUrl": "http://127.0.0.1:8080/api/v1", "bearerToken": demo.CLIENT_TOKEN}
        assert "within(200, 299)" in found["event"][0]["script"]["exec"][0]


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("X-Path", self.path)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class TestProxies:
    """The calls of the validating proxies, and what is noticed of a proxy."""

    @pytest.mark.parametrize("audience", contract.AUDIENCES)
    def test_amounts_instants_and_other_spellings_are_sent(self, audience: contract.Audience) -> None:
        assert len(proxies.RIGHT[audience]) > 4 and len(proxies.WRONG[audience]) > 6
        assert {call.status for call in proxies.RIGHT[audience]} >= {200, 201, 304, 401, 404}
        assert all(call.status >= 400 for call in proxies.WRONG[audience])
        if audience == "admin":
            sent = " ".join(call.body or "" for call in proxies.RIGHT[audience])
            for text in ('"amount": 19.99', '"amount": 4.35', "56.0", "+00:00", ".000Z", ".123456789+01:00"):
                assert text in sent

    def test_what_newman_sent_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(proxies, "FOLDER", tmp_path)
        with pytest.raises(Failure, match="newman has sent nothing"):
            proxies.newman_sent("client")
        sent = {"method": "GET", "path": "/api/v1/profile?a=1", "body": "", "status": 200}
        headers = [["Accept", "application/json"], ["Postman-Token", "x"]]
        (tmp_path / "newman-client.jsonl").write_text(json.dumps(sent | {"headers": headers}) + "\n")
        (call,) = proxies.newman_sent("client")
        assert call == proxies.Call("GET", "/profile?a=1", 200, None, {"Accept": "application/json"})

    @pytest.mark.parametrize("good", [True, False])
    def test_a_proxy_that_refuses_nothing_is_noticed(
        self, good: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The proxy here is the recorder alone, which passes all."""
        call = proxies.Call("POST", "/tickets", 201, "{}")
        monkeypatch.setattr(proxies, "newman_sent", lambda audience: [call])
        right = proxies.Call("POST", "/a", 201 if good else 200, "{}")
        monkeypatch.setattr(proxies, "RIGHT", {"client": (right,)})
        monkeypatch.setattr(proxies, "WRONG", {"client": (call,)})
        monkeypatch.setattr(proxies, "SPOILED", {"client": "/profile"})
        record, upstream = tmp_path / "record.jsonl", ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        Thread(target=upstream.serve_forever, daemon=True).start()
        with recorder.recording(f"http://127.0.0.1:{upstream.server_port}/api/v1", record) as url:
            found = list(proxies.faults("client", url, url, record))
        upstream.shutdown()
        upstream.server_close()
        assert found[-2:] == [
            "POST /tickets {}: reaches the server, 201",
            "an answer that breaks the contract passes: 200",
        ]
        assert len(found) == (2 if good else 3)


class TestRecorder:
    def test_it_passes_all_on_and_writes_it_down(self, tmp_path: Path) -> None:
        record, upstream = tmp_path / "record.jsonl", ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        Thread(target=upstream.serve_forever, daemon=True).start()
        with recorder.recording(f"http://127.0.0.1:{upstream.server_port}/api/v1", record) as url:
            answer = httpx.post(f"{url}/tickets?a=%C3%BC", content="Grüße".encode(), timeout=20)
        told = (answer.status_code, answer.headers["X-Path"], answer.text)
        upstream.shutdown()
        upstream.server_close()
        assert told == (201, "/api/v1/tickets?a=%C3%BC", "Grüße")
        (line,) = record.read_text().splitlines()
        exchange = json.loads(line)
        assert (exchange["method"], exchange["path"], exchange["body"]) == ("POST", told[1], "Grüße")
        assert (exchange["status"], exchange["answer"]) == (201, "Grüße")
        assert ["X-Path", told[1]] in exchange["answer_headers"]

    def test_an_answer_can_be_spoiled(self, tmp_path: Path) -> None:
        upstream = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
        Thread(target=upstream.serve_forever, daemon=True).start()
        with recorder.recording(f"http://127.0.0.1:{upstream.server_port}/api/v1", tmp_path / "x") as url:
            answers = [
                httpx.get(url, headers=each, timeout=20).json() for each in ({}, {recorder.SPOIL: "1"})
            ]
        upstream.shutdown()
        upstream.server_close()
        assert answers == [[], {}]
