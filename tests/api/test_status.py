"""The public operations: the health check, the contract, its page."""

import base64
import hashlib
import json
import re
import tomllib
from datetime import UTC, datetime
from functools import partial

import pytest
import yaml

from openapi import contract, projection
from tests.fuzz import runs
from tests.support.contract_client import DOCUMENT, Api
from tests.support.live_server import Running


class TestGetStatus:
    def test_it_is_the_documented_object(self, nobody: Api, server: Running) -> None:
        server.clock.fixed = datetime(2024, 1, 15, 12, tzinfo=UTC)
        expected = {"status": "ok", "version": "1.0", "time": "2024-01-15T12:00:00+00:00"}
        assert nobody.get("/status").json() == expected

    def test_head_has_the_headers_and_no_body(self, nobody: Api) -> None:
        got, head = nobody.get("/status"), nobody.request("HEAD", "/status")
        assert head.content == b""
        assert head.headers["Content-Length"] == got.headers["Content-Length"]


class TestShowContract:
    @pytest.mark.parametrize("audience", [None, "client", "admin"])
    @pytest.mark.parametrize("form", ["json", "yaml"])
    @pytest.mark.parametrize("version", [None, "3.0", "3.1"])
    def test_it_is_served_as_it_was_tested(
        self,
        nobody: Api,
        form: str,
        audience: contract.Audience | None,
        version: contract.Version | None,
    ) -> None:
        asked = {"audience": audience, "version": version}
        response = nobody.get(f"/openapi.{form}", **{name: each for name, each in asked.items() if each})
        read = json.loads if form == "json" else partial(yaml.load, Loader=yaml.CSafeLoader)
        document = projection.project(DOCUMENT, audience) if audience else DOCUMENT
        assert read(response.content) == (
            projection.to_openapi_31(document) if version == "3.1" else document
        )
        again = nobody.request(
            "GET", str(response.request.url), headers={"If-None-Match": response.headers["ETag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == response.headers["ETag"]

    @pytest.mark.parametrize("asked", [{"audience": "staff"}, {"version": "2.0"}, {"version": "3.1.0"}])
    def test_an_unknown_audience_or_version_is_400(self, nobody: Api, asked: dict[str, str]) -> None:
        assert nobody.get("/openapi.json", **asked).status_code == 400


class TestShowSchemathesis:
    def test_it_is_the_file_with_which_the_projects_own_runs_begin(self, nobody: Api) -> None:
        response = nobody.get("/schemathesis.toml")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.text == runs.SERVED.read_text()
        served, used = tomllib.loads(response.text), tomllib.loads(runs.settings())
        for name, each in served.items():
            assert used[name] == each or each.items() <= used[name].items()
        again = nobody.request(
            "GET", "/schemathesis.toml", headers={"If-None-Match": response.headers["ETag"]}
        )
        assert (again.status_code, again.content) == (304, b"")

    def test_the_page_leads_to_it(self, nobody: Api) -> None:
        assert 'href="schemathesis.toml"' in nobody.get("/docs").text


class TestShowDocs:
    def test_the_page_names_no_other_address(self, nobody: Api) -> None:
        response = nobody.get("/docs")
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        page = re.sub(r"<(script|style)>.*?</\1>", "", response.text, flags=re.DOTALL)
        assert len(page) < 20_000
        assert not re.findall(r'(?:src|href)="(?!openapi|schemathesis.toml|data:)', page)
        assert "connect-src 'self'" in response.headers["Content-Security-Policy"]

    def test_the_page_shows_the_webhooks(self, nobody: Api) -> None:
        page = nobody.get("/docs").text
        for event in contract.webhooks(DOCUMENT):
            assert f"<code>{event.path}</code>" in page
        assert page.count("&quot;signature&quot;: &quot;sha256=") == 8

    def test_its_policy_admits_its_own_scripts_alone(self, nobody: Api) -> None:
        response = nobody.get("/docs")
        scripts = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
        assert len(scripts) == 2
        for script in scripts:
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in response.headers["Content-Security-Policy"]
