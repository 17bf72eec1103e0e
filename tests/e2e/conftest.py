"""What the tests with other programs share: the programs, and a server as a user starts it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.recipes import ENVIRONMENT, RECIPES, Verify, verifying
from tests.operations.test_command_line import served


def program(name: str, package: str) -> str:
    """Where a program is. Without it the test fails and names the Debian package that has it."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is missing: install the Debian package {package}", pytrace=False)
    return found


def output(*command: str) -> str:
    """What a program prints; it must succeed and have nothing to say on stderr."""
    result = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


@pytest.fixture(scope="session")
def curl() -> str:
    return program("curl", "curl")


@pytest.fixture(scope="session")
def php() -> str:
    """PHP with its curl extension."""
    found = program("php", "php-cli")
    if "curl" not in output(found, "-m").lower().split():
        pytest.fail("PHP's curl extension is missing: install the Debian package php-curl", pytrace=False)
    return found


@pytest.fixture
def base(tmp_path: Path) -> Iterator[str]:
    """The base address of a server with demo data."""
    with served(tmp_path) as (_, address):
        yield address


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The recipe in Go, compiled once."""
    binary = tmp_path_factory.mktemp("go") / "verify"
    output(program("go", "golang-go"), "build", "-o", str(binary), str(RECIPES / "verify.go"))
    return str(binary)


@pytest.fixture(params=["py", "js", "php", "go"])
def verify(request: pytest.FixtureRequest) -> Verify:
    match request.param:
        case "py":
            return verifying(sys.executable, "-I", str(RECIPES / "verify.py"))
        case "js":
            return verifying(program("node", "nodejs"), str(RECIPES / "verify.js"))
        case "php":
            return verifying(program("php", "php-cli"), str(RECIPES / "verify.php"))
        case _:
            return verifying(request.getfixturevalue("built"))


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our scripts and the npm packages that they need, with the hashes of the lock file."""
    folder = tmp_path_factory.mktemp("npm")
    for name in ("package.json", "package-lock.json", "standardwebhooks.js", "panel.js", "stories.js"):
        shutil.copy(Path(__file__).parent / name, folder)
    install = [program("npm", "npm"), "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(install, cwd=folder, check=True, timeout=180)
    return folder


@pytest.fixture(scope="session")
def standard(packages: Path) -> Verify:
    """The npm package of Standard Webhooks."""
    return verifying(program("node", "nodejs"), str(packages / "standardwebhooks.js"))
