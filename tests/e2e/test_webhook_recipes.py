"""The recipes of docs/webhooks that verify a delivery, run by the real programs on deliveries signed here."""

import base64
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.recipes import Delivery, Verify
from webhooks import signing

HERE = Path(__file__).parent

SECRET = signing.mint(lambda length: bytes(range(length)))
OTHER = signing.mint(lambda length: bytes(range(255, 255 - length, -1)))
KEY, NEW_KEY = signing.key_of(SECRET), signing.key_of(OTHER)


def delivery(
    *, age: int = 0, keys: tuple[bytes, ...] = (KEY,), subject: str = 'Grüße/漢字 😀 "x" \\ \n'
) -> Delivery:
    data = {"id": 15, "client_id": 42, "subject": subject, "total": "29.99"}
    body = signing.body(KEY, signing.signed_payload("ticket.opened", "2025-01-15T12:00:00Z", data))
    headers = signing.headers(keys, "evt_01JGZ8M6V3Q4T5W6X7Y8Z9ABCD", int(time.time()) - age, body)
    return Delivery(SECRET, body, *(headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature")))


both = pytest.mark.parametrize("way", ["headers", "body"])


class TestRecipes:
    @both
    @pytest.mark.parametrize(
        "subject", ["Help", 'Grüße/漢字 😀 "x" \\ \n', "", "a" * 100_000, '"signature":"sha256=']
    )
    def test_a_genuine_delivery_passes(self, verify: Verify, way: str, subject: str) -> None:
        assert verify(delivery(subject=subject), way) == 0

    @both
    @pytest.mark.parametrize(
        "change",
        [
            lambda body: body.replace(b"29.99", b"00.01"),
            lambda body: b" " + body,
            lambda body: body + b"\n",
            lambda body: body[:-1],
            lambda body: body.replace(b'"id":15', b'"id": 15'),
            lambda body: body[:-3] + (b"0" if body[-3:-2] != b"0" else b"1") + body[-2:],
            lambda body: body.replace(b"sha256=", b"sha512="),
            lambda body: body[:40] + b"\xff" + body[41:],
            lambda body: body[:-87] + b"}",
            lambda body: body[-87:],
            lambda body: body[-86:],
            lambda body: b"{}",
            lambda body: b"",
        ],
    )
    def test_a_changed_body_fails(self, verify: Verify, way: str, change: Callable[[bytes], bytes]) -> None:
        good = delivery()
        assert verify(replace(good, body=change(good.body)), way) == 1

    @both
    def test_another_secret_fails(self, verify: Verify, way: str) -> None:
        assert verify(replace(delivery(), secret=OTHER), way) == 1

    @both
    @pytest.mark.parametrize("secret", ["", "whsec_", SECRET[:-4]])
    def test_a_missing_or_broken_secret_is_an_error(self, verify: Verify, way: str, secret: str) -> None:
        empty = b"" if secret in ("", "whsec_") else KEY[:-3]
        forged = signing.body(empty, signing.signed_payload("invoice.paid", "2025-01-15T12:00:00Z", {}))
        good = delivery()
        headers = signing.headers([empty], good.id, int(good.timestamp), forged)
        given = Delivery(secret, forged, good.id, good.timestamp, headers["webhook-signature"])
        assert verify(given, way) != 0

    @pytest.mark.parametrize(("age", "status"), [(290, 0), (-290, 0), (310, 1), (-310, 1), (10**9, 1)])
    def test_headers_live_for_five_minutes(self, verify: Verify, age: int, status: int) -> None:
        assert verify(delivery(age=age), "headers") == status
        assert verify(delivery(age=age), "body") == 0

    @pytest.mark.parametrize("timestamp", ["x", "-1", "+1", "1e9", "9" * 30, "{}.0", " {}", "{}\n", "0x{}"])
    def test_a_timestamp_is_digits(self, verify: Verify, timestamp: str) -> None:
        good = delivery()
        odd = timestamp.replace("{}", good.timestamp)
        # The odd timestamp itself is well signed.
        signed = hmac.digest(KEY, f"{good.id}.{odd}.".encode() + good.body, "sha256")
        given = replace(good, timestamp=odd, signature="v1," + base64.b64encode(signed).decode())
        assert verify(given, "headers") == 1

    def test_id_and_timestamp_are_signed(self, verify: Verify) -> None:
        good = delivery()
        assert verify(replace(good, id="evt_other"), "headers") == 1
        assert verify(replace(good, timestamp=str(int(good.timestamp) + 1)), "headers") == 1

    @pytest.mark.parametrize("signature", ["", "v1", "v1,", "v2,{}", "{}x", "v1a,{}", "v1,a v1,b"])
    def test_another_signature_fails(self, verify: Verify, signature: str) -> None:
        good = delivery()
        bare = good.signature.removeprefix("v1,")
        given = replace(good, signature=signature.replace("{}", bare))
        assert verify(given, "headers") == 1

    def test_during_a_rotation_the_headers_verify_with_both_secrets(self, verify: Verify) -> None:
        rotated = delivery(keys=(NEW_KEY, KEY))
        assert verify(rotated, "headers") == 0
        assert verify(replace(rotated, secret=OTHER), "headers") == 0
        assert verify(rotated, "body") == 0


class TestStandardWebhooksOfNpm:
    def test_a_genuine_delivery_passes(self, standard: Verify) -> None:
        assert standard(delivery(), "headers") == 0

    def test_during_a_rotation_both_secrets_do(self, standard: Verify) -> None:
        rotated = delivery(keys=(NEW_KEY, KEY))
        assert standard(rotated, "headers") == 0
        assert standard(replace(rotated, secret=OTHER), "headers") == 0

    def test_a_changed_replayed_or_foreign_one_fails(self, standard: Verify) -> None:
        good = delivery()
        assert standard(replace(good, body=good.body.replace(b"29.99", b"00.01")), "headers") == 1
        assert standard(delivery(age=310), "headers") == 1
        assert standard(replace(good, secret=OTHER), "headers") == 1

    def test_the_lock_file_names_no_host(self) -> None:
        text = (HERE / "package-lock.json").read_text()
        assert not re.search(r"https?:|resolved", text)
