"""Verify a CloudArc webhook. Use one of the two functions, on the body's raw bytes, before parsing them.

    WEBHOOK_SECRET=whsec_… python verify.py ID TIMESTAMP SIGNATURE < body    checks the headers
    WEBHOOK_SECRET=whsec_… python verify.py < body                           checks the body's signature

The exit status is 0 if the delivery is genuine, else 1.
"""

import base64
import hashlib
import hmac
import os
import re
import sys
import time

TOLERANCE = 5 * 60
TAIL = 87  # the length of ,"signature":"sha256=…"}


def verify_headers(secret: str, id: str, timestamp: str, signatures: str, body: bytes) -> bool:
    """Check webhook-id, webhook-timestamp and webhook-signature. A delivery that is replayed later fails."""
    if not re.fullmatch("[0-9]{1,12}", timestamp) or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{id}.{timestamp}.".encode() + body
    expected = "v1," + base64.b64encode(mac(secret, signed)).decode()
    # While a secret is rotated there are two signatures.
    return any(hmac.compare_digest(expected.encode(), each.encode()) for each in signatures.split(" "))


def verify_body(secret: str, body: bytes) -> bool:
    """Check the member "signature": it signs the body without its tail, and with the brace put back."""
    expected = ',"signature":"sha256=' + mac(secret, body[:-TAIL] + b"}").hex() + '"}'
    return hmac.compare_digest(expected.encode(), body[-TAIL:])


def mac(secret: str, signed: bytes) -> bytes:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    if len(key) != 36:  # above all, a secret that is missing must not become an empty key
        raise ValueError("This is not a webhook secret.")
    return hmac.new(key, signed, hashlib.sha256).digest()


if __name__ == "__main__":
    secret, body = os.environ["WEBHOOK_SECRET"], sys.stdin.buffer.read()
    genuine = verify_headers(secret, *sys.argv[1:], body) if sys.argv[1:] else verify_body(secret, body)
    sys.exit(not genuine)
