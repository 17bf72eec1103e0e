"""The commands that make operators, and what they say."""

import subprocess
import sys
from pathlib import Path

import pytest

from persistence import passwords
from tests.test_command_line import environment

PASSWORD = "correct horse battery"


def operator(folder: Path, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server", "operator", *arguments],
        env=environment(folder),
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestCommands:
    def test_one_is_made_listed_unlocked_and_given_another_password(self, tmp_path: Path) -> None:
        subprocess.run([sys.executable, "-m", "server", "migrate"], env=environment(tmp_path), check=True)
        made = operator(tmp_path, "create", "--name", "robin", typed=f"{PASSWORD}\n")
        assert (made.returncode, made.stdout, made.stderr) == (0, "robin may sign in at /admin.\n", "")
        again = operator(tmp_path, "create", "--name", "robin", typed=f"{PASSWORD}\n")
        assert (again.returncode, again.stderr) == (2, "cloudarc: Another operator has this name.\n")
        listed = operator(tmp_path, "list").stdout
        assert listed.startswith("robin  since 20") and "locked" not in listed
        assert operator(tmp_path, "unlock", "--name", "robin").stdout == "robin may sign in again.\n"
        changed = operator(tmp_path, "password", "--name", "robin", typed="another password\n")
        assert changed.stdout == "robin has a new password; all sessions have ended.\n"
        for verb in ("unlock", "password"):
            nobody = operator(tmp_path, verb, "--name", "sam", typed=f"{PASSWORD}\n")
            assert (nobody.returncode, nobody.stderr) == (2, "cloudarc: The operator does not exist.\n")

    @pytest.mark.parametrize("typed", ["", "\n", "short\n", "x" * (passwords.MAX_PASSWORD + 1)])
    def test_a_password_that_is_too_short_or_too_long_is_refused(self, tmp_path: Path, typed: str) -> None:
        refused = operator(tmp_path, "create", "--name", "robin", typed=typed)
        assert refused.returncode == 2
        assert refused.stderr == "cloudarc: The password must have 12 to 200 characters.\n"
