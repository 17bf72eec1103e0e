"""What is the same email address, host name and operator's name, and what is none at all."""

import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi import json_schema
from persistence import identity
from tests.support.contract_client import DOCUMENT

ADDRESSES = {
    "ada@example.com": ["ADA@example.com", "Ada@EXAMPLE.Com"],
    "josé@example.fr": ["jose\u0301@example.fr", "JOSÉ@example.fr"],
    "a@xn--bcher-kva.example": ["a@bücher.example", "A@BÜCHER.example", "a@bu\u0308cher.example"],
    "straße@example.de": ["STRAßE@example.de"],
    "σας@example.gr": ["ΣΑΣ@example.gr"],
    "用户@xn--r8jz45g.jp": ["用户@例え.jp"],
    "иван@xn--e1afmkfd.xn--p1ai": ["Иван@пример.рф"],
    "o'brien+news@example.ie": ["O'Brien+News@example.ie"],
    "a@mail.test": [],
}
"""An address as it is identified, and other spellings of it."""

DIFFERENT = [
    ("straße@example.de", "strasse@example.de"),
    ("STRASSE@example.de", "straße@example.de"),
    ("ﬁ@example.com", "fi@example.com"),
    ("ſam@example.com", "sam@example.com"),
    ("ınci@example.tr", "inci@example.tr"),
    ("a@straße.example", "a@strasse.example"),
    ("josé@example.fr", "jose@example.fr"),
]

NO_ADDRESSES = [
    *("", "a", "a@", "@a.example", "a@b", "a@b@c.example", "a..b@example.com", ".a@example.com"),
    *("a.@example.com", "a b@example.com", '"a b"@example.com', "a@[192.0.2.1]", "a@192.0.2.1"),
    *(
        "a@-b.example",
        "a@b-.example",
        "a@b..example",
        "a@example.com.",
        "a@example.123",
        "Ada <a@example.com>",
    ),
    *("a@example.com ", " a@example.com", "a@example.com\n", "a@example.com\u00a0", "a@example.com\u200b"),
    *("a\u200b@example.com", "a\u00ad@example.com", "a\u202e@example.com", "\ufeffa@example.com"),
    *("a\x00@example.com", "a,b@example.com", "a@exa_mple.com", f"a@{'b' * 64}.example"),
]

HOSTNAMES = {
    "example.com": ["EXAMPLE.com"],
    "xn--mnchen-3ya.de": ["münchen.de", "MÜNCHEN.DE", "mu\u0308nchen.de", "XN--MNCHEN-3YA.de"],
    "xn--strae-oqa.de": ["straße.de"],
    "strasse.de": ["STRASSE.de"],
    "xn--r8jz45g.xn--zckzah": ["例え.テスト"],
    "xn--e1afmkfd.xn--p1ai": ["пример.рф", "ПРИМЕР.РФ"],
    "xn--mgbh0fb.com": ["مثال.com"],
    "xn--j2bd4cyah0f.com": ["हिन्दी.com"],
    f"{'a' * 63}.com": [],
    ".".join(["a" * 63] * 3 + ["b" * 61]): [],
    "a-b.c-d.example": [],
    "3com.com": [],
}

NO_HOSTNAMES = [
    *(
        "",
        ".",
        "..",
        "http://example.com",
        " example.com",
        "example.com ",
        "example.com\nfoo",
        "example.com\n",
    ),
    *(
        "root; rm -rf /",
        "example.com.",
        ".example.com",
        "a..b",
        "-a.com",
        "a-.com",
        "a_b.com",
        "a b.com",
        "*.com",
    ),
    *("example.com/path", "example.com:80", "user@example.com", f"{'a' * 64}.com", "a\u200bb.com"),
    *(
        "exam\u00adple.com",
        "ex\u202eample.com",
        ".".join(["a" * 63] * 3 + ["b" * 62]),
        "ü" * 64 + ".com",
        "\x00.com",
    ),
]

RESERVED = ["☃.com", "ab--cd.com", "xn--a.com", "א1a.com", f"{'ü' * 60}.com"]
"""What IDNA 2008 excludes, and no pattern can say."""


@cache
def judge(name: str) -> jsonschema_rs.Draft4Validator:
    return jsonschema_rs.Draft4Validator(json_schema.json_schema(DOCUMENT["components"]["schemas"][name]))


class TestEmail:
    @pytest.mark.parametrize("key", list(ADDRESSES))
    def test_all_spellings_have_one_key(self, key: str) -> None:
        assert {identity.email_key(each) for each in [key, *ADDRESSES[key]]} == {key}
        assert all(judge("EmailInput").is_valid(each) for each in [key, *ADDRESSES[key]])

    @pytest.mark.parametrize(("first", "second"), DIFFERENT)
    def test_no_letter_is_folded_into_others(self, first: str, second: str) -> None:
        assert None not in (identity.email_key(first), identity.email_key(second))
        assert identity.email_key(first) != identity.email_key(second)

    @pytest.mark.parametrize("text", NO_ADDRESSES)
    def test_what_is_no_address_has_none(self, text: str) -> None:
        assert identity.email_key(text) is None
        assert not judge("EmailInput").is_valid(text)

    @given(st.emails())
    def test_a_key_is_its_own_key(self, text: str) -> None:
        key = identity.email_key(text)
        assert key is None or identity.email_key(key) == key

    @given(st.emails())
    def test_the_contract_takes_what_others_call_an_email(self, text: str) -> None:
        # Hypothesis knows the rules of RFC 5322, and makes quoted local parts of none.
        assert judge("EmailInput").is_valid(text) or len(text) > 254


class TestHostname:
    @pytest.mark.parametrize("name", list(HOSTNAMES))
    def test_all_forms_are_a_labels_in_lower_case(self, name: str) -> None:
        assert {identity.hostname(each) for each in [name, *HOSTNAMES[name]]} == {name}
        for schema in ("DomainNameInput", "ServiceDomainInput", "HostnameInput"):
            assert all(judge(schema).is_valid(each) for each in [name, *HOSTNAMES[name]])

    @pytest.mark.parametrize("text", NO_HOSTNAMES)
    def test_what_is_no_host_name_has_none(self, text: str) -> None:
        assert identity.hostname(text) is None
        assert not judge("DomainNameInput").is_valid(text)

    @pytest.mark.parametrize("text", RESERVED)
    def test_what_no_pattern_says_is_refused_all_the_same(self, text: str) -> None:
        assert identity.hostname(text) is None

    @pytest.mark.parametrize("text", ["192.0.2.1", "com", "example.123", "a.b"])
    def test_a_domain_has_two_labels_and_ends_with_letters(self, text: str) -> None:
        assert not judge("DomainNameInput").is_valid(text)
        assert not judge("ServiceDomainInput").is_valid(text)

    def test_a_server_may_have_one_label(self) -> None:
        assert judge("HostnameInput").is_valid("web1")
        assert judge("ServiceDomainInput").is_valid("")
        assert not judge("DomainNameInput").is_valid("")


class TestPatterns:
    """What the contract publishes, in words that all regular expressions read alike."""

    INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180f\u2800\u3164\ufe00\ufe0f\uffa0"
    """Letters and marks that are not seen, beside the characters of categories for such."""

    def hidden(self) -> Iterator[str]:
        for each in map(chr, range(0x10000)):
            if unicodedata.category(each) in ("Cc", "Cf", "Co", "Zs", "Zl", "Zp") or each in self.INVISIBLE:
                yield each

    @pytest.mark.parametrize("name", ["EmailInput", "DomainNameInput", "ServiceDomainInput", "HostnameInput"])
    def test_no_character_that_is_not_seen_is_taken(self, name: str) -> None:
        form = "a{}b@example.com" if name == "EmailInput" else "a{}b.example.com"
        assert judge(name).is_valid(form.format("c"))
        hidden = list(self.hidden())
        assert len(hidden) > 6_000
        assert [f"{ord(each):04X}" for each in hidden if judge(name).is_valid(form.format(each))] == []

    def test_all_have_the_same_words_for_a_domain(self) -> None:
        schemas = DOCUMENT["components"]["schemas"]
        domain = schemas["DomainNameInput"]["pattern"].strip("^$")
        assert schemas["ServiceDomainInput"]["pattern"] == f"^({domain})?$"
        assert schemas["EmailInput"]["pattern"].endswith(f"@{domain}$")
        label = domain[1 : domain.index("\\.)+")]
        assert schemas["HostnameInput"]["pattern"] == f"^{label}(\\.{label})*$"

    @pytest.mark.parametrize("name", ["EmailInput", "DomainNameInput", "ServiceDomainInput", "HostnameInput"])
    def test_they_compile_where_a_regular_expression_is_of_bytes(self, name: str) -> None:
        """PHP reads bytes; a range of characters beyond ASCII would not compile there."""
        assert DOCUMENT["components"]["schemas"][name]["pattern"].isascii()


class TestOperatorName:
    @pytest.mark.parametrize("text", ["José", "Jose\u0301", " José", "José "])
    def test_keyboards_and_blanks_do_not_matter(self, text: str) -> None:
        assert identity.operator_name(text) == "José"

    def test_case_does(self) -> None:
        assert identity.operator_name("Ada") != identity.operator_name("ada")


def test_the_module_is_loaded_without_a_resolver(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import persistence.identity, sys; print([name for name in sys.modules if name.startswith('dns')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
