"""What is kept encrypted: secrets that must be read again, and so cannot be kept as a hash.

Beside it the MAC of a backup, whose key is derived from the same secret key for that purpose alone.

A sealed text is ``v1.<key>.<base64>``: the version names the way, the second part the key, so that texts
under an old key can be found and sealed anew. The rest is a random nonce and AES-256-GCM's output. The
context, say the id of the row, is bound to it: a sealed text that is moved to another row does not open.
"""

import base64
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = "v1"
# Changing this makes every sealed text unreadable.
INFO = b"cloudarc sealing v1"
# Changing this makes every backup unrestorable.
MAC_INFO = b"cloudarc backup mac v1"
KEY_BYTES = 32
NAME_BYTES = 4
NONCE_BYTES = 12


class Unsealable(Exception):
    """A sealed text does not open; the message says whether the key is another or the text is damaged."""


def _derive(secret_key: str, info: bytes) -> tuple[str, bytes]:
    """Derive a key for one purpose, and a public name that tells it from others."""
    derived = HKDF(SHA256(), KEY_BYTES + NAME_BYTES, salt=None, info=info).derive(secret_key.encode())
    return derived[KEY_BYTES:].hex(), derived[:KEY_BYTES]


def _derived(secret_key: str) -> tuple[str, AESGCM]:
    """A key: the prefix of the texts that it seals, and its cipher."""
    name, key = _derive(secret_key, INFO)
    return f"{VERSION}.{name}.", AESGCM(key)


def start_mac(secret_key: str) -> tuple[str, hmac.HMAC]:
    """Start the HMAC-SHA256 of a backup, and name its key."""
    name, key = _derive(secret_key, MAC_INFO)
    return name, hmac.new(key, digestmod="sha256")


class Box:
    """Seals and opens texts with ``CLOUDARC_SECRET_KEY``, any text of 32 characters or more.

    It opens those under ``other``, too, where there is one: the key before or after the next rotation.
    """

    def __init__(self, secret_key: str, other: str = "") -> None:
        self._prefix, self._cipher = _derived(secret_key)
        self._ciphers = dict([_derived(other)] if other else []) | {self._prefix: self._cipher}

    def is_current(self, sealed: str) -> bool:
        """Return whether a text is sealed with the current key."""
        return sealed.startswith(self._prefix)

    def opens(self, sealed: str, context: str) -> bool:
        """Return whether this box can open a text."""
        try:
            self.open(sealed, context)
        except Unsealable:
            return False
        return True

    def seal(self, plain: str, context: str) -> str:
        """The sealed text, which opens with the same context only; sealing twice gives two texts."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plain.encode(), context.encode())
        return self._prefix + base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, context: str) -> str:
        """Return the text that was sealed. Raises Unsealable."""
        if not sealed:
            raise Unsealable("Nothing was sealed here yet.")
        version, name, _ = (*sealed.split("."), "", "")[:3]
        prefix = f"{version}.{name}."
        cipher = self._ciphers.get(prefix)
        if cipher is None:
            raise Unsealable(
                "This was sealed with another CLOUDARC_SECRET_KEY; set the one it was made with."
            )
        try:
            raw = base64.b64decode(sealed.removeprefix(prefix), validate=True)
            return cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], context.encode()).decode()
        except (InvalidTag, ValueError):
            raise Unsealable("This was sealed for another context, or it is damaged.") from None
