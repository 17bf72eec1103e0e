"""The page for testers: its commands run, and what it says of the project is so."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from persistence import demo
from tests.fuzz import runs
from tests.support.live_server import prepared, serving

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "fuzz-us.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
BY_HAND = [block for block in BLOCKS if "schemathesis run" in block]


def test_its_commands_by_hand_run_and_find_nothing(tmp_path: Path) -> None:
    assert len(BY_HAND) == 2
    # Two operations and few examples: the whole is what `make fuzz` does.
    short = " --include-operation-id list_departments --include-operation-id get_status"
    short += " --max-examples 3 --phases examples,coverage,fuzzing --warnings off"
    with serving(prepared(f"sqlite:///{tmp_path / 'page.db'}")) as running:
        for nth, block in enumerate(BY_HAND):
            # As many lines as the page promises, in a folder with nothing in it.
            assert len(block.splitlines()) == 2
            folder = tmp_path / str(nth)
            folder.mkdir()
            lines = block.replace("http://127.0.0.1:8080", running.url.removesuffix("/api/v1"))
            # Schemathesis takes no filters that include and exclude by the same thing.
            lines = lines.replace(" --exclude-operation-id update_settings", "")
            lines = lines.replace("schemathesis run", f"{Path(sys.executable).parent}/schemathesis run")
            done = subprocess.run(
                ["sh", "-ec", lines.rstrip() + short], cwd=folder, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "No issues found" in done.stdout, done.stdout
            assert (folder / "schemathesis.toml").read_bytes() == runs.SERVED.read_bytes()


def test_its_users_are_those_of_the_demo() -> None:
    users = json.loads((ROOT / "docs" / "fuzz-us" / "users.json").read_text())
    assert users == runs.users(runs.Target(""))
    assert all(
        f"`{secret}`" in PAGE for secret in (demo.CLIENT_TOKEN, demo.OTHER_CLIENT_TOKEN, demo.ADMIN_KEY)
    )


def test_its_targets_and_settings_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"make (\w+)$", "\n".join(BLOCKS), re.MULTILINE))
    assert targets == {"run", "fuzz", "postman"}
    assert all(re.search(rf"^{target}: ", makefile, re.MULTILINE) for target in targets)
    exported = dict(re.findall(r"(CLOUDARC_\w+)=(\S+)", BLOCKS[0]))
    limits = {f"CLOUDARC_RATE_LIMIT_{name}": str(number) for name, number in runs.OFF.items()}
    assert exported == limits | runs.WEBHOOKS


def test_what_it_says_of_the_configuration_is_so() -> None:
    served, used = tomllib.loads(runs.SERVED.read_text()), tomllib.loads(runs.settings())
    assert used["hooks"] == "tests.fuzz.hooks" and used["auth"]["wfc"]["peers"]
    assert served["generation"] == {"with-security-parameters": False}
    assert "412" in served["checks"]["positive_data_acceptance"]["expected-statuses"]
    assert served["phases"]["stateful"]["max-steps"]
    assert served["phases"]["stateful"]["inference"]["algorithms"] == []
    assert {"update_settings"} == runs.ALONE
    assert ["--exclude-operation-id update_settings" in block for block in BY_HAND] == [False, True]
    for name in re.findall(r"`(tests/\S+)`", PAGE):
        assert (ROOT / name).exists(), name
