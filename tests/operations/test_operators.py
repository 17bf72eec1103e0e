"""The commands that make operators, and what they say."""

import asyncio
import re
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from persistence import operators, passwords
from persistence.engines import connect
from server.process.clock import now
from tests.operations.test_command_line import environment

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


def fail(folder: Path, name: str, number: int, instant: datetime) -> None:
    """Let sign-ins of an operator fail, each from an address of its own."""

    async def run() -> None:
        database = connect(f"sqlite:///{folder / 'var' / 'cloudarc.db'}")
        await database.open()
        for nth in range(number):
            async with database.transaction() as db:
                rules = operators.delay_rules(f"192.0.2.{nth}", "")
                await operators.count_attempt(db, name, rules, instant)
        await database.close()

    asyncio.run(run())


class TestCommands:
    def test_one_is_made_listed_unlocked_and_given_another_password(self, tmp_path: Path) -> None:
        subprocess.run([sys.executable, "-m", "server", "migrate"], env=environment(tmp_path), check=True)
        made = operator(tmp_path, "create", "--name", "robin", typed=f"{PASSWORD}\n")
        assert (made.returncode, made.stdout, made.stderr) == (0, "robin may sign in at /admin.\n", "")
        again = operator(tmp_path, "create", "--name", "robin", typed=f"{PASSWORD}\n")
        assert (again.returncode, again.stderr) == (2, "cloudarc: Another operator has this name.\n")
        assert re.fullmatch(r"robin  since 20\d\d-\d\d-\d\d\n", operator(tmp_path, "list").stdout)
        fail(tmp_path, "robin", 3, now())
        assert operator(tmp_path, "list").stdout.endswith(", 3 failed sign-ins\n")
        # Later, so that the delay still holds when the command looks at it.
        fail(tmp_path, "robin", 8, now() + timedelta(minutes=1))
        delayed = operator(tmp_path, "list").stdout
        assert re.search(r", 11 failed sign-ins, a new device is delayed by \d\d s\n$", delayed), delayed
        assert operator(tmp_path, "unlock", "--name", "robin").stdout == "robin may sign in again.\n"
        assert "failed" not in operator(tmp_path, "list").stdout
        changed = operator(tmp_path, "password", "--name", "robin", typed="another password\n")
        assert changed.stdout == "robin has a new password; all sessions have ended.\n"
        for verb in ("unlock", "password"):
            nobody = operator(tmp_path, verb, "--name", "sam", typed=f"{PASSWORD}\n")
            assert (nobody.returncode, nobody.stderr) == (2, "cloudarc: The operator does not exist.\n")

    def test_a_name_is_kept_composed_and_without_blanks_around_it(self, tmp_path: Path) -> None:
        subprocess.run([sys.executable, "-m", "server", "migrate"], env=environment(tmp_path), check=True)
        made = operator(tmp_path, "create", "--name", " Jose\u0301 ", typed=f"{PASSWORD}\n")
        assert (made.returncode, made.stdout) == (0, "José may sign in at /admin.\n")
        again = operator(tmp_path, "create", "--name", "José", typed=f"{PASSWORD}\n")
        assert again.stderr == "cloudarc: Another operator has this name.\n"
        assert operator(tmp_path, "unlock", "--name", "Jose\u0301").returncode == 0
        for name in ("", "  ", "Jo\u200bsé", "Jo\nsé"):
            assert operator(tmp_path, "create", "--name", name, typed=f"{PASSWORD}\n").returncode == 2

    @pytest.mark.parametrize("typed", ["", "\n", "short\n", "x" * (passwords.MAX_PASSWORD + 1)])
    def test_a_password_that_is_too_short_or_too_long_is_refused(self, tmp_path: Path, typed: str) -> None:
        refused = operator(tmp_path, "create", "--name", "robin", typed=typed)
        assert refused.returncode == 2
        assert refused.stderr == "cloudarc: The password must have 12 to 200 characters.\n"
