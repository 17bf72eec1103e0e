"""Clients generated from a server that runs, in three languages; `make clients` does all of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients import running
from tests.clients.generators import CLIENTS, Client, missing
from tests.clients.judge import judge

BY_NAME = {each.name: each for each in CLIENTS}
TRIED = ("python", "openapi_typescript", "go")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[running.Target]:
    absent = {sentence for name in TRIED for sentence in missing(BY_NAME[name])}
    if absent:
        pytest.fail("\n".join(sorted(absent)), pytrace=False)
    running.prepare(needs_npm=True)
    with running.servers(tmp_path_factory.mktemp("clients") / "data") as found:
        yield found


@pytest.mark.parametrize("name", TRIED)
class TestClients:
    def test_it_is_generated_compiled_and_tells_the_whole_story(
        self, target: running.Target, name: str
    ) -> None:
        result = running.try_out(BY_NAME[name], target, running.FOLDER / f"{name}-e2e")
        assert result.problems == []
        assert set(result.times) == {"generate", "compile", *running.STORY}


class TestJudge:
    def test_a_shape_without_a_name_is_told(self, target: running.Target, tmp_path: Path) -> None:
        document = httpx.get(f"{target.url}/openapi.json", params={"audience": "client"}, timeout=30).json()
        answer = document["paths"]["/services"]["get"]["responses"]["200"]["content"]["application/json"]
        answer["schema"] = document["components"]["schemas"]["ClientServiceList"]
        (tmp_path / "contract.json").write_text(json.dumps(document))
        generator = Client(
            "python", "", ("openapi-generator-cli generate -g python -i ../contract.json -o .",), (), "", ()
        )
        running.generate(generator, "", tmp_path / "client")
        assert any("ListServices200Response" in fault for fault in judge("python", tmp_path / "client"))
