"""What ``make test-fast`` leaves out exists, so that a renamed file does not slow it down unseen."""

from pathlib import Path

import pytest

from tests.conftest import CHECKED, HEAVY, SUITES_OF_PROCESSES, WAITING

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("stem", [*WAITING, *HEAVY, *CHECKED])
def test_a_file_that_is_named_exists(stem: str) -> None:
    assert list(TESTS.glob(f"*/{stem}.py"))


@pytest.mark.parametrize("folder", SUITES_OF_PROCESSES)
def test_a_folder_that_is_named_exists(folder: str) -> None:
    assert list((TESTS / folder).glob("test_*.py"))
