"""What is signed: one altered byte is noticed, and libraries that were not written here agree."""

import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from webhooks import signing

SECRET = signing.mint(lambda length: bytes(range(length)))
OTHER = signing.mint(lambda length: bytes(range(255, 255 - length, -1)))
KEY = signing.key_of(SECRET)
DATA = {"id": 1234, "client_id": 56, "total": "29.99", "currency": "USD"}
BASE = signing.signed_payload("invoice.paid", "2025-01-15T12:00:00Z", DATA)
BODY = signing.body(KEY, BASE)
ID = "evt_01JGZ8M6V3Q4T5W6X7Y8Z9ABCD"
NOW = 1_736_942_400

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def verifies(body: bytes, headers: dict[str, str], key: bytes = KEY, now: float = NOW) -> tuple[bool, bool]:
    return signing.verify_body(key, body), signing.verify_headers(key, headers, body, now)


def changed(body: bytes, place: int, byte: int) -> bytes:
    return body[:place] + bytes([byte]) + body[place + 1 :]


class TestSecrets:
    def test_one_is_36_bytes_in_base64_without_padding(self) -> None:
        secret = signing.mint(lambda length: bytes(range(length)))
        assert secret == "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIj"
        assert signing.key_of(secret) == bytes(range(36))

    @pytest.mark.parametrize(
        "text", ["", "whsec_", SECRET[6:], SECRET[:-4], SECRET + "AAAA", SECRET + "=", "whsec_" + "-" * 48]
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="not a webhook secret"):
            signing.key_of(text)


class TestBase:
    def test_it_is_compact_and_in_order(self) -> None:
        assert BASE == (
            b'{"event":"invoice.paid","timestamp":"2025-01-15T12:00:00Z",'
            b'"data":{"id":1234,"client_id":56,"total":"29.99","currency":"USD"}}'
        )

    def test_nothing_is_escaped_that_need_not_be(self) -> None:
        base = signing.signed_payload(
            "ticket.opened", "2025-01-15T12:00:00Z", {"subject": 'Grüße/漢字/😀 "x" \n'}
        )
        assert '"subject":"Grüße/漢字/😀 \\"x\\" \\n"' in base.decode()

    @pytest.mark.parametrize(
        "data", [{"a": 29.99}, {"a": [{"b": 1.0}]}, {"a": ({"b": float("nan")},)}, {"a": {1.5: "b"}}]
    )
    def test_a_float_is_a_mistake(self, data: dict[str, object]) -> None:
        with pytest.raises(TypeError, match="float"):
            signing.signed_payload("invoice.paid", "2025-01-15T12:00:00Z", data)

    @pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**400])
    def test_an_integer_that_few_can_read_is_a_mistake(self, number: int) -> None:
        with pytest.raises(TypeError, match="64-bit"):
            signing.signed_payload("invoice.paid", "2025-01-15T12:00:00Z", {"a": [number]})

    @given(VALUES)
    def test_it_is_what_every_library_writes(self, value: object) -> None:
        """The standard library's compact form is the same, byte by byte."""
        base = signing.signed_payload("invoice.paid", "2025-01-15T12:00:00Z", {"value": value})
        members = {"event": "invoice.paid", "timestamp": "2025-01-15T12:00:00Z", "data": {"value": value}}
        assert base == json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


class TestBody:
    def test_it_is_the_base_and_one_last_member(self) -> None:
        sent = json.loads(BODY)
        assert list(sent) == ["event", "timestamp", "data", "signature"]
        assert sent.pop("signature").startswith("sha256=")
        assert sent == json.loads(BASE)
        assert BODY[:-87] + b"}" == BASE

    @given(VALUES)
    def test_the_tail_always_has_87_bytes(self, value: object) -> None:
        base = signing.signed_payload("client.created", "2025-01-15T12:00:00Z", {"value": value})
        body = signing.body(KEY, base)
        assert len(body) == len(base) - 1 + 87
        assert json.loads(body)["data"] == {"value": value}
        assert verifies(body, signing.headers([KEY], ID, NOW, body)) == (True, True)

    def test_a_tail_inside_the_data_deceives_nobody(self) -> None:
        data = {"subject": BODY.decode()}
        body = signing.body(KEY, signing.signed_payload("ticket.opened", "2025-01-15T12:00:00Z", data))
        assert signing.verify_body(KEY, body)
        assert json.loads(body)["data"] == data

    @pytest.mark.parametrize("body", [b"", b"{}", b"x" * 86, BASE, BODY + b"\n", BODY[1:], BODY[:-1]])
    def test_what_has_no_such_tail_does_not_verify(self, body: bytes) -> None:
        assert not signing.verify_body(KEY, body)

    def test_every_altered_bit_and_lost_byte_is_noticed(self) -> None:
        headers = signing.headers([KEY], ID, NOW, BODY)
        assert verifies(BODY, headers) == (True, True)
        for place, byte in enumerate(BODY):
            for bit in range(8):
                assert verifies(changed(BODY, place, byte ^ 1 << bit), headers) == (False, False)
            assert verifies(BODY[:place] + BODY[place + 1 :], headers) == (False, False)

    @given(VALUES, st.data())
    def test_any_altered_byte_is_noticed(self, value: object, data: st.DataObject) -> None:
        body = signing.body(
            KEY, signing.signed_payload("client.created", "2025-01-15T12:00:00Z", {"value": value})
        )
        headers = signing.headers([KEY], ID, NOW, body)
        place = data.draw(st.integers(0, len(body) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda each: each != body[place]))
        assert verifies(changed(body, place, byte), headers) == (False, False)


class TestHeaders:
    def test_id_and_time_are_signed(self) -> None:
        headers = signing.headers([KEY], ID, NOW, BODY)
        assert signing.verify_headers(KEY, headers, BODY, NOW)
        assert not signing.verify_headers(KEY, headers | {"webhook-id": "evt_other"}, BODY, NOW)
        assert not signing.verify_headers(KEY, headers | {"webhook-timestamp": str(NOW + 1)}, BODY, NOW)

    @pytest.mark.parametrize(("seconds", "good"), [(-301, False), (-300, True), (300, True), (301, False)])
    def test_the_time_may_be_five_minutes_off(self, seconds: int, good: bool) -> None:
        headers = signing.headers([KEY], ID, NOW, BODY)
        assert signing.verify_headers(KEY, headers, BODY, NOW + seconds) is good

    @pytest.mark.parametrize("text", ["", "x", "-1", "+1", "1e9", "١٧٣٦٩٤٢٤٠٠", f" {NOW}", f"{NOW}.0"])
    def test_a_time_is_digits(self, text: str) -> None:
        headers = signing.headers([KEY], ID, NOW, BODY) | {"webhook-timestamp": text}
        assert not signing.verify_headers(KEY, headers, BODY, NOW)

    @pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    def test_a_missing_one_does_not_verify(self, name: str) -> None:
        headers = signing.headers([KEY], ID, NOW, BODY)
        del headers[name]
        assert not signing.verify_headers(KEY, headers, BODY, NOW)

    def test_during_a_rotation_both_secrets_verify_and_the_body_stays_on_the_old(self) -> None:
        new = signing.key_of(OTHER)
        headers = signing.headers([new, KEY], ID, NOW, BODY)
        first, second = headers["webhook-signature"].split(" ")
        assert first == signing.headers([new], ID, NOW, BODY)["webhook-signature"]
        assert second == signing.headers([KEY], ID, NOW, BODY)["webhook-signature"]
        assert verifies(BODY, headers) == (True, True)
        assert verifies(BODY, headers, new) == (False, True)
        assert verifies(BODY, headers, bytes(36)) == (False, False)


class TestStandardWebhooks:
    """The library of the standard, as the package index has it."""

    def test_it_verifies_a_delivery(self) -> None:
        now = int(time.time())
        headers = signing.headers([KEY], ID, now, BODY)
        assert Webhook(SECRET).verify(BODY, headers)["data"] == DATA
        for secret in (SECRET, OTHER):
            both = signing.headers([signing.key_of(OTHER), KEY], ID, now, BODY)
            assert Webhook(secret).verify(BODY, both)["event"] == "invoice.paid"
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(OTHER).verify(BODY, headers)
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(SECRET).verify(BODY.replace(b"29.99", b"00.01"), headers)

    @given(VALUES)
    def test_it_verifies_any_data(self, value: object) -> None:
        now = int(time.time())
        body = signing.body(
            KEY, signing.signed_payload("client.created", "2025-01-15T12:00:00Z", {"value": value})
        )
        Webhook(SECRET).verify(body, signing.headers([KEY], ID, now, body))

    def test_it_makes_the_same_signature(self) -> None:
        at = datetime.fromtimestamp(NOW, UTC)
        assert (
            Webhook(SECRET).sign(ID, at, BODY.decode())
            == signing.headers([KEY], ID, NOW, BODY)["webhook-signature"]
        )
