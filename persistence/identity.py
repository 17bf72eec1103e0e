"""The identity of email addresses, host names and operators' names in different spellings. Pure.

Texts are kept as they were written, but for host names. They are compared by what these functions return.
"""

import unicodedata

import email_validator
import idna

from persistence.errors import Conflict

# Whether mail reaches an address is not judged here: an installation may serve an inner network, and tests
# use the reserved domains. The library documents this list as one that its users may change.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()


def load_tables() -> None:
    """Load the Unicode tables of the libraries, which takes some 10 ms at the first non-ASCII name."""
    email_key("ä@ä.example")


def hostname(text: str) -> str | None:
    """Return a host name in lower case as A-labels of IDNA 2008, or None where the text is no host name.

    Upper case, full-width letters and decomposed accents are mapped first, as browsers do (UTS #46). A
    trailing dot is not taken.
    """
    if _has_hidden_characters(text) or text.endswith("."):
        return None
    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError:
        return None


def require_hostname(field: str, text: str) -> str:
    """Return ``hostname`` of a member of a body. Raises Conflict, since the contract's pattern took it."""
    name = hostname(text)
    if name is None:
        raise Conflict(
            f"The {field} field is not a name that IDNA 2008 allows; check its letters and hyphens."
        )
    return name


def email_key(text: str) -> str | None:
    """Return what all spellings of an email address have in common, or None where the text is no address.

    The local part is composed (NFC) and in lower case. No letter is folded into others, so that ``straße``
    and ``strasse`` are two people. The domain is as by ``hostname``.
    """
    try:
        address = email_validator.validate_email(text, check_deliverability=False)
    except email_validator.EmailNotValidError:
        return None
    local = unicodedata.normalize("NFC", address.local_part.lower())
    return f"{local}@{address.ascii_domain.lower()}"


def operator_name(text: str) -> str:
    """Return the name of an operator as it is kept and compared.

    One keyboard composes an accent and another does not (NFC). Blanks around a name are not seen.
    """
    return unicodedata.normalize("NFC", text).strip()


def _has_hidden_characters(text: str) -> bool:
    """Return whether a text has control, format or unassigned characters, or white space except a blank."""
    return any(each != " " and unicodedata.category(each)[0] in "CZ" for each in text)
