"""The files of docs/operations name settings and commands that exist, and the page tells of all of them."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from server.settings import PREFIX, Settings, read_settings

FOLDER = Path(__file__).parents[2] / "docs" / "operations"
PAGE = FOLDER.with_suffix(".md").read_text()
FILES = sorted(each.name for each in FOLDER.iterdir())
KNOWN = {PREFIX + field.name.upper() for field in fields(Settings)}


@pytest.mark.parametrize("name", FILES)
def test_it_names_settings_that_exist_and_the_page_names_it(name: str) -> None:
    assert set(re.findall(r"CLOUDARC_[A-Z_]+", (FOLDER / name).read_text())) <= KNOWN
    assert f"(operations/{name})" in PAGE


def test_every_page_names_settings_that_exist() -> None:
    root = FOLDER.parent.parent
    pages = [*root.glob("*.md"), *(root / "docs").glob("*.md")]
    assert {"README.md", "operations.md", "reference.md"} <= {each.name for each in pages}
    for page in pages:
        named = {each.rstrip("_") for each in re.findall(r"CLOUDARC_[A-Z_]+", page.read_text())}
        assert named <= KNOWN, page.name


def test_the_settings_are_those_of_production_once_the_gaps_are_filled() -> None:
    lines = [each for each in (FOLDER / "cloudarc.env").read_text().splitlines() if not each.startswith("#")]
    given = dict(each.split("=", 1) for each in lines)
    settings = read_settings(given | {"CLOUDARC_SECRET_KEY": "x" * 32})
    assert settings.production and settings.webhook_worker == "off"


def test_the_containers_have_the_settings_of_production() -> None:
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    for name in ("migrate", "api", "worker"):
        given = {
            key: re.sub(r"\$\{\w+:\?\}", "x" * 32, text)
            for key, text in services[name]["environment"].items()
        }
        assert read_settings(given).production
        assert services[name]["command"] == [{"migrate": "migrate", "api": "serve", "worker": "worker"}[name]]


def test_the_units_start_commands_that_exist() -> None:
    for name, verb in (("cloudarc@.service", "serve"), ("cloudarc-worker@.service", "worker")):
        assert f"python -m server {verb}\n" in (FOLDER / name).read_text()
