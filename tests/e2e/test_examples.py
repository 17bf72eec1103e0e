"""CloudBill's PHP and cURL examples, run by the real programs against a server of its own."""

import json
from pathlib import Path

import pytest

from tests.contract.test_source_documents import (
    CURL_SERVICES,
    CURL_TICKET,
    DOCUMENTED,
    NUMBER,
    SERVICE,
    is_like,
)
from tests.e2e.conftest import output, program
from tests.e2e.recipes import ENVIRONMENT
from tests.support.live_server import CLIENT

SCRIPT = str(Path(__file__).with_name("services.php"))


class TestPhp:
    def test_it_prints_each_service_and_its_status(self, php: str, base: str) -> None:
        assert output(php, SCRIPT, base, CLIENT) == "Business Hosting — active\n"

    def test_address_and_token_may_come_from_the_environment(
        self, php: str, base: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(ENVIRONMENT, "CLOUDARC_URL", base)
        monkeypatch.setitem(ENVIRONMENT, "CLOUDARC_TOKEN", CLIENT)
        assert output(php, SCRIPT) == "Business Hosting — active\n"


class TestCurl:
    """The documented text itself goes to a shell; only the address is another."""

    @pytest.fixture(autouse=True)
    def installed(self, curl: str) -> None:
        pass

    @staticmethod
    def run(command: str, base: str) -> object:
        # Without a terminal curl tells its progress on stderr.
        return json.loads(
            output("sh", "-c", command.replace(DOCUMENTED, base).replace("curl", "curl -sS", 1))
        )

    def test_it_lists_the_services(self, base: str) -> None:
        assert self.run(CURL_SERVICES, base) == {"data": [SERVICE], "count": 1}

    def test_it_creates_a_ticket(self, base: str, curl: str) -> None:
        answer = self.run(CURL_TICKET, base)
        assert is_like(answer, {"success": True, "ticket_id": int, "ticket_number": NUMBER})
        assert isinstance(answer, dict)
        command = CURL_SERVICES.replace("/services", f"/tickets/{answer['ticket_id']}")
        ticket = self.run(command, base)
        assert isinstance(ticket, dict)
        assert ticket["ticket_number"] == answer["ticket_number"]
        assert (ticket["subject"], ticket["department_id"]) == ("Help needed", 1)


class TestMissingPrograms:
    def test_one_is_an_error_that_names_its_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(pytest.fail.Exception, match="install the Debian package php-cli"):
            program("php", "php-cli")
