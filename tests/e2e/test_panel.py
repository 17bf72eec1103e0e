"""The pages in Debian's Chromium: a token is handed out and used, and every page is fit for everybody."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from panel.page_registry import PageRegistry
from tests.e2e.conftest import output, program
from tests.operations.test_command_line import served
from tests.panel.test_pages import address
from tests.support.contract_client import DOCUMENT

PATHS = ["/", "/api/v1/docs", "/admin", *[address(each) for each in PageRegistry(DOCUMENT).by_id.values()]]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, packages: Path, curl: str) -> dict[str, Any]:
    """What the browser found, and what the line printed that it was shown."""
    folder = tmp_path_factory.mktemp("pictures")
    with served(tmp_path_factory.mktemp("panel")) as (_, base):
        run = subprocess.run(
            [
                program("node", "nodejs"),
                str(packages / "panel.js"),
                base.removesuffix("/api/v1"),
                str(folder),
            ],
            env={**os.environ, "CHROMIUM": program("chromium", "chromium")},
            input=json.dumps(PATHS),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        found: dict[str, Any] = json.loads(run.stdout)
        words = shlex.split(found["line"])
        assert words[0] == "curl"
        found["answer"] = output(curl, "-sS", *words[1:])
    # For whoever wants to look at them, too.
    if os.environ.get("PICTURES"):
        shutil.copytree(folder, os.environ["PICTURES"], dirs_exist_ok=True)
    return found


class TestPanel:
    def test_a_token_is_handed_out_and_used_at_once(self, seen: dict[str, Any]) -> None:
        assert seen["token"] in seen["line"]
        assert json.loads(seen["answer"])["data"][0]["product_name"] == "Business Hosting"

    def test_axe_finds_nothing_and_no_page_is_wider_than_a_phone(self, seen: dict[str, Any]) -> None:
        assert seen["looked"] == 3 * len(PATHS) > 180
        assert seen["faults"] == []
