"""Real deliveries of a real server, verified by every recipe and by the libraries of Standard Webhooks."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook as StandardWebhook
from standardwebhooks import WebhookVerificationError

from tests.e2e.recipes import Delivery, Verify
from tests.operations.test_command_line import served
from tests.support.live_server import ADMIN
from tests.support.postgres import free_port
from tests.support.receiver import receiving


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[Delivery]:
    """What a receiver got: two events and a test, with the secret that was shown."""
    with (
        receiving() as receiver,
        served(tmp_path_factory.mktemp("data"), WEBHOOK_PRIVATE_TARGETS="on") as (_, base),
        httpx.Client(base_url=base, headers={"Authorization": f"Bearer {ADMIN}"}) as api,
    ):
        wanted = {"url": receiver.url, "events": ["invoice.paid", "ticket.opened"]}
        webhook = api.post("/webhooks", json=wanted).raise_for_status().json()["data"]
        api.post("/invoices/1234/pay").raise_for_status()
        ticket = {"client_id": 42, "department_id": 1, "subject": 'Größe/漢字 😀 "x" \\', "message": "…\n"}
        api.post("/tickets", json=ticket).raise_for_status()
        api.post(f"/webhooks/{webhook['id']}/test").raise_for_status()
        received = receiver.until(lambda all_of_it: len(all_of_it) == 3)
        return [
            Delivery(
                webhook["secret"],
                each.body,
                *(each.headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")),
            )
            for each in received
        ]


class TestRealDeliveries:
    @pytest.mark.parametrize("way", ["headers", "body"])
    def test_every_recipe_verifies_them(self, real: list[Delivery], verify: Verify, way: str) -> None:
        assert [verify(each, way) for each in real] == [0, 0, 0]

    def test_the_unmodified_libraries_of_standard_webhooks_verify_them(
        self, real: list[Delivery], standard: Verify
    ) -> None:
        for each in real:
            assert standard(each, "headers") == 0
            headers = {
                "webhook-id": each.id,
                "webhook-timestamp": each.timestamp,
                "webhook-signature": each.signature,
            }
            told = StandardWebhook(each.secret).verify(each.body, headers)
            assert told["event"] in ("invoice.paid", "ticket.opened")
            changed = replace(each, body=each.body.replace(b'"id":', b'"id" :'))
            assert standard(changed, "headers") == 1
            with pytest.raises(WebhookVerificationError):
                StandardWebhook(each.secret).verify(changed.body, headers)

    @pytest.mark.parametrize("way", ["headers", "body"])
    def test_no_recipe_verifies_them_once_a_byte_is_another(
        self, real: list[Delivery], verify: Verify, way: str
    ) -> None:
        for each in real:
            for place in (0, 20, len(each.body) // 2, len(each.body) - 3):
                altered = bytearray(each.body)
                altered[place] ^= 1
                tampered = Delivery(each.secret, bytes(altered), each.id, each.timestamp, each.signature)
                assert verify(tampered, way) == 1


class TestThePage:
    def test_its_five_commands_lead_to_a_verified_delivery(self, tmp_path: Path, curl: str) -> None:
        """As docs/webhooks.md has them, with a free port for each of the two addresses."""
        page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
        part = page.partition("## Verify a delivery in five commands")[2].partition("\n## ")[0]
        commands = [each.partition("\n```")[0].strip() for each in part.split("```sh\n")[1:]]
        assert len(commands) == 5
        setting, _, run = commands[0].partition(" ")
        assert run == "make run"
        name, _, value = setting.removeprefix("CLOUDARC_").partition("=")
        with served(tmp_path, **{name: value}) as (_, base):
            port = free_port()

            def shell(command: str) -> str:
                command = command.replace("http://127.0.0.1:8080/api/v1", base).replace(":9000", f":{port}")
                done = subprocess.run(
                    ["bash", "-ec", command.replace("curl ", f"{curl} -s --noproxy '*' ", 1)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                return done.stdout

            secret = httpx.Response(200, text=shell(commands[1])).json()["data"]["secret"]
            program, _, script = commands[2].partition(" python3 ")
            assert program == "WEBHOOK_SECRET=whsec_…"
            receiver = subprocess.Popen(
                [sys.executable, script, str(port)],
                env={"WEBHOOK_SECRET": secret},
                cwd=Path(__file__).parents[2],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert receiver.stdout is not None
            try:
                assert str(port) in receiver.stdout.readline()
                shell(commands[3])
                told = receiver.stdout.readline()
            finally:
                receiver.terminate()
                receiver.wait(10)
                receiver.stdout.close()
            assert told.startswith("verified evt_")
            assert 'invoice.paid {"id": 1234, "client_id": 56, "total": "29.99", "currency": "USD"}' in told
            assert '"event":"invoice.paid"' in shell(commands[4])
