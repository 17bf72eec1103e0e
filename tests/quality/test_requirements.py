"""What is installed is exactly what was chosen: every version pinned, every file known by its hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = ["requirements.txt", "requirements-dev.txt", "requirements-clients.txt", "requirements-judges.txt"]
FILES += ["requirements-bench.txt"]


def wanted(folder: str) -> list[str]:
    """What stands in the file that a list of versions is made from."""
    text = (ROOT / "tests" / folder / "requirements.in").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
WANTED = {
    "requirements.txt": PROJECT["dependencies"],
    "requirements-dev.txt": PROJECT["dependencies"] + EXTRAS["dev"],
    "requirements-bench.txt": PROJECT["dependencies"] + EXTRAS["dev"] + EXTRAS["bench"],
    "requirements-clients.txt": wanted("clients"),
    "requirements-judges.txt": wanted("judges"),
}
# How pip-compile names what wants a package on its own account.
WANTING = ("(pyproject.toml)", "-r tests/clients/requirements.in", "-r tests/judges/requirements.in")


def lines(file: str) -> list[str]:
    """One for each requirement, with its hashes."""
    text = (ROOT / file).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def pins(file: str) -> dict[str, str]:
    """The version of each package."""
    found = [re.match(r"([\w.-]+)==(\S+)", line) for line in lines(file)]
    return {canonicalize_name(match[1]): match[2] for match in found if match}


@pytest.mark.parametrize("file", FILES)
class TestFiles:
    def test_every_line_is_a_version_and_its_hashes(self, file: str) -> None:
        form = re.compile(r"[a-z0-9][a-z0-9._-]*==[^\s;]+(?: ; [^#]+?)?(?:\s+--hash=sha256:[0-9a-f]{64})+\s*")
        assert len(lines(file)) > 20
        assert [line[:60] for line in lines(file) if not form.fullmatch(line)] == []

    def test_no_line_names_an_index_or_another_place(self, file: str) -> None:
        assert not re.search(
            r"://|--index|--extra-index|--find-links|--trusted-host", (ROOT / file).read_text()
        )

    def test_what_the_project_depends_on_is_there_in_a_version_that_it_admits(self, file: str) -> None:
        found = pins(file)
        for text in WANTED[file]:
            wanted = Requirement(text)
            version = found.get(canonicalize_name(wanted.name))
            assert version is not None and wanted.specifier.contains(version), text

    def test_what_is_there_on_its_own_account_is_what_the_project_depends_on(self, file: str) -> None:
        text = (ROOT / file).read_text()
        blocks = re.findall(r"^([\w.-]+)==(?:.*\\\n)(?:.*--hash.*\n)+((?: +#.*\n)*)", text, re.MULTILINE)
        direct = {canonicalize_name(name) for name, via in blocks if any(each in via for each in WANTING)}
        assert direct == {canonicalize_name(Requirement(each).name) for each in WANTED[file]}


def test_development_runs_on_the_versions_that_are_shipped() -> None:
    shipped, development = pins("requirements.txt"), pins("requirements-dev.txt")
    assert shipped.items() <= development.items()


def test_what_is_measured_runs_on_the_versions_that_are_shipped() -> None:
    assert pins("requirements-dev.txt").items() <= pins("requirements-bench.txt").items()
