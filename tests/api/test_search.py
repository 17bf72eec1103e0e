"""Searches find names and texts of every script, as people type them, on both databases alike."""

import time
from datetime import date
from secrets import token_hex

import pytest

from persistence import search
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import Running

# What is written, what is looked for, and whether it is found.
TABLE = [
    # Latin
    ("Łukasz Żółć", "lukasz", True),
    ("Łukasz Żółć", "zolc", True),
    ("Øystein Ålesund", "oystein", True),
    ("Øystein Ålesund", "ØYSTEIN alesund", True),
    ("Işık Elektrik", "ışık", True),
    ("Işık Elektrik", "isik", True),
    ("Işık Elektrik", "IŞIK", True),
    ("İSTANBUL", "istanbul", True),
    ("O'Brien", "obrien", True),
    ("O’Brien", "o'brien", True),
    ("O'Brien", "brien", True),
    ("OBrien", "O`Brien", True),
    ("O'Brien", "oberon", False),
    ("Pâtisserie d’Été", "ete", True),
    ("Großmann", "grossmann", True),
    ("GROSSMANN", "großmann", True),
    ("Æsir Þór", "aesir thor", True),
    ("Đặng Văn Nguyễn", "dang nguyen", True),
    ("Cœur", "coeur", True),
    ("ﬁne ２４", "fine 24", True),
    ("e\u0301cole", "école", True),
    # Greek, Cyrillic
    ("Οδυσσεύς Ελλάς", "ΟΔΥΣΣΕΥΣ", True),
    ("Ёлкина Юлия", "елкина", True),
    ("Ёлкина Юлия", "elkina", False),
    # Hebrew, Arabic, Persian
    ("שָׁלוֹם כהן", "שלום", True),
    ("مُحَمَّد علي", "محمد", True),
    ("می\u200cخواهم", "خواهم", True),
    # Devanagari, Tamil, Armenian, Georgian
    ("हिन्दी समाचार", "हिन्दी", True),
    ("हिन्दी समाचार", "समाचार", True),
    ("समाचार", "सामाचार", False),
    ("தமிழ் செய்தி", "செய்தி", True),
    ("Հայաստան", "հայաստան", True),
    ("საქართველო", "საქართველო", True),
    # Han, Hiragana, Katakana
    ("株式会社東京電力", "東京", True),
    ("株式会社東京電力", "東京電力", True),
    ("株式会社東京電力", "京都", False),
    ("株式会社東京電力", "力", True),
    ("株式会社東京電力", "会", True),
    ("葛\U000e0100城商店", "葛城", True),
    ("さくらサーバー", "サーバー", True),
    ("さくらサーバー", "ｻｰﾊﾞｰ", True),
    ("東京2024年AWS", "aws 2024 東京", True),
    ("東京", "dongjing", False),
    # Hangul, Thai, Lao, Khmer, Myanmar
    ("한국전력공사", "전력", True),
    ("한국전력공사", "공", True),
    ("บริษัทไทยโทรคมนาคม", "โทรคมนาคม", True),
    ("ກະຊວງການເງິນ", "ການເງິນ", True),
    ("ភាសា\u200bខ្មែរ", "ភាសាខ្មែរ", True),
    ("မြန်မာနိုင်ငံ", "နိုင်ငံ", True),
]  # fmt: skip


def titled(value: object) -> str:
    return ascii(value)


class TestScripts:
    def test_there_are_many(self) -> None:
        assert len(TABLE) > 40

    @pytest.mark.parametrize(("text", "q", "found"), TABLE, ids=titled)
    def test_an_article_is_found_by_its_title_and_by_its_content(
        self, admin: Api, client: Api, text: str, q: str, found: bool
    ) -> None:
        ids = [
            factories.article(admin, title=text, category=81),
            factories.article(admin, content=f"{token_hex(4)}. {text}, 1.", category=81),
        ]
        rows = client.get("/knowledgebase", q=q, category=81).json()["data"]
        for id in ids:
            assert admin.request("DELETE", f"/knowledgebase/{id}").status_code == 200
        assert [row["id"] for row in rows] == ids * found

    @pytest.mark.parametrize(("text", "q", "found"), TABLE, ids=titled)
    def test_a_ticket_is_found_by_its_subject_and_by_its_replies(
        self, admin: Api, text: str, q: str, found: bool
    ) -> None:
        owner = factories.client(admin)
        body = {"client_id": owner, "department_id": 2, "subject": "DNS", "message": "Help"}
        asked = factories.made(admin.post("/tickets", body | {"subject": text}))
        answered = factories.made(admin.post("/tickets", body))
        assert admin.post(f"/tickets/{answered}/reply", {"message": text}).status_code == 201
        rows = admin.get("/tickets", q=q, client_id=owner).json()
        assert [row["id"] for row in rows["data"]] == [answered, asked] * found
        assert rows["meta"]["total"] == 2 * found

    @pytest.mark.parametrize(("text", "q", "found"), TABLE, ids=titled)
    def test_a_client_is_found_by_its_name(
        self, admin: Api, server: Running, text: str, q: str, found: bool
    ) -> None:
        mark = f"m{token_hex(6)}"
        id = factories.client(admin, company=text, last_name=mark)
        rows = admin.get("/clients", q=f"{q} {mark}").json()["data"]
        assert [row["id"] for row in rows] == [id] * found


class TestBounds:
    def test_eight_words_count_and_what_has_no_blanks_is_one(self) -> None:
        words = [f"w{nth}w" for nth in range(12)]
        assert search.wanted(" ".join(words)) == words[: search.MAX_WORDS]
        assert search.wanted("株式会社東京電力 dns") == [
            "株式",
            "式会",
            "会社",
            "社東",
            "東京",
            "京電",
            "電力",
            "dns",
        ]

    def test_so_many_letters_of_a_word_count(self, admin: Api, client: Api) -> None:
        word = token_hex(100)
        id = factories.article(admin, title=word)
        for q in (word, word[: search.MAX_LETTERS], word[: search.MAX_LETTERS] + "x", word[:5]):
            assert id in [row["id"] for row in client.get("/knowledgebase", q=q).json()["data"]]
        assert client.get("/knowledgebase", q=word[: search.MAX_LETTERS - 1] + "x").json()["total"] == 0

    def test_so_many_pairs_count(self) -> None:
        run = "".join(chr(0x4E00 + nth) for nth in range(100))
        assert len(search.wanted(run)) == search.MAX_PAIRS
        assert len(search.wanted(" ".join([run, run[50:], "dns"]))) <= search.MAX_PAIRS + search.MAX_WORDS

    @pytest.mark.parametrize(
        "text",
        [
            "東" * 80_000,
            "e" + "\u0301" * 80_000,
            "ʼ" * 80_000,
            "a'" * 40_000,
            "กั" * 40_000,
            "हि" * 40_000,
            "ﷺ" * 80_000,
        ],
        ids=titled,
    )
    def test_folding_takes_as_long_as_the_text(self, text: str) -> None:
        def seconds(part: str) -> float:
            start = time.process_time()
            search.ARTICLES.row(1, "Test", part)
            return time.process_time() - start

        short = min(seconds(text[: len(text) // 4]) for _ in range(3))
        # Twice what is linear, so that a busy machine does not fail it; the square would be sixteen times.
        assert min(seconds(text) for _ in range(3)) < 8 * short + 0.005

    def test_what_is_kept_of_the_longest_texts_has_a_bound(self) -> None:
        text = "".join(chr(0x4E00 + nth % 20_000) for nth in range(80_000))
        for kept in search.ARTICLES.row(1, text[:255], text).values():
            assert len(str(kept)) <= search.MAX_FOLDED


class TestRank:
    words: list[str]

    @pytest.fixture
    def articles(self, admin: Api) -> list[int]:
        """Articles that have the words, the best first."""
        a, b = self.words = [f"r{token_hex(5)}" for _ in range(2)]
        made = [
            (f"About {a} and {b}", "Nothing."),
            (f"How to set up {a} together with {b}", "Nothing."),
            ("Test", f"{a} {b} " * 20),
            (f"What {a} means to people who have it", f"Read of {b}."),
            ("Test", f"Read of {a} and {b}."),
        ]
        return [factories.article(admin, title=title, content=content) for title, content in made]

    def test_titles_come_before_what_is_frequent_and_that_before_the_rest(
        self, admin: Api, client: Api, articles: list[int]
    ) -> None:
        rows = client.get("/knowledgebase", q=" ".join(self.words)).json()["data"]
        assert [row["id"] for row in rows] == articles

    def test_it_depends_on_the_article_and_the_words_alone(
        self, admin: Api, client: Api, articles: list[int]
    ) -> None:
        q = " ".join(self.words)
        links = [client.get("/knowledgebase", q=q, limit=each).headers["Link"] for each in range(1, 5)]
        for _ in range(5):
            factories.article(admin, title=self.words[0], content=f"{self.words[1][:-1]} " * 500)
        assert [
            client.get("/knowledgebase", q=q, limit=each).headers["Link"] for each in range(1, 5)
        ] == links


class TestCursor:
    @pytest.mark.parametrize(
        "after", ["x", "1.", ".5", "-1", "1.2.3", "0", "1.0", "9" * 17, "１", " 1", "1e3", "1200\n"]
    )
    def test_a_malformed_one_is_named(self, client: Api, after: str) -> None:
        for query in ({"q": "dns"}, {}):
            response = client.get("/knowledgebase", after=after, **query)
            assert response.status_code == 400
            assert [each["pointer"] for each in response.json()["details"]] == ["/after"]

    @pytest.mark.parametrize("after", ["1", "9999999999999999", "0.1", "16.5", "9999999.9999999999999999"])
    def test_any_other_is_a_place(self, client: Api, after: str) -> None:
        for query in ({"q": "dns"}, {"q": "release", "category": 5}, {"q": "!"}, {}):
            assert client.get("/knowledgebase", after=after, **query).status_code == 200
        for query in ({"due_from": "2024-01-01"}, {"due_to": "9999-12-31", "status": "paid"}, {}):
            assert client.get("/invoices", after=after, **query).status_code == 200

    def test_an_id_alone_is_the_place_of_its_article_and_loses_nothing_once_that_is_gone(
        self, admin: Api, client: Api
    ) -> None:
        word = f"w{token_hex(6)}"
        ids = [factories.article(admin, title=word) for _ in range(5)][::-1]

        def after(id: int) -> list[int]:
            return [row["id"] for row in client.get("/knowledgebase", q=word, after=id).json()["data"]]

        assert after(ids[1]) == ids[2:]
        admin.request("DELETE", f"/knowledgebase/{ids[1]}")
        assert after(ids[1]) == [ids[0], *ids[2:]]

    def test_a_link_without_a_search_has_an_id(self, client: Api) -> None:
        answer = client.get("/knowledgebase", limit=2)
        assert f"after={answer.json()['data'][-1]['id']}>" in answer.headers["Link"]


class TestFindingThings:
    """What an operator looks for every day, by its number or its name."""

    def ids(self, api: Api, path: str, **query: object) -> list[int]:
        answer = api.get(path, **query)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body.get("meta", body).get("total", len(body["data"])) == len(body["data"])
        return [row["id"] for row in body["data"]]

    def test_a_ticket_by_its_number(self, admin: Api) -> None:
        assert self.ids(admin, "/tickets", ticket_number="TKT-A3F7B2C1") == [15]
        assert self.ids(admin, "/tickets", ticket_number="tkt-a3f7b2c1", client_id=42) == [15]
        assert self.ids(admin, "/tickets", ticket_number="TKT-00000000") == []
        assert self.ids(admin, "/tickets", ticket_number="TKT-A3F7B2C1", client_id=43) == []

    @pytest.mark.parametrize("number", ["", "15", "A3F7B2C1", "TKT-A3F7B2C", "TKT-A3F7B2C1 ", "TKT-G3F7B2C1"])
    def test_what_is_no_ticket_number_is_400(self, admin: Api, number: str) -> None:
        response = admin.get(f"/tickets?ticket_number={number}")
        assert response.status_code == 400
        assert response.json()["error"]["details"][0]["pointer"] == "/ticket_number"

    def test_a_ticket_by_words_that_stand_together(self, admin: Api) -> None:
        a, b, c = (f"w{token_hex(6)}" for _ in range(3))
        body = {"client_id": 42, "department_id": 2, "subject": f"Of {a}", "message": f"And {b}?"}
        id = factories.made(admin.post("/tickets", body))
        assert self.ids(admin, "/tickets", q=f"{a} {b}") == [id]
        admin.post(f"/tickets/{id}/reply", {"message": f"This is {c}."})
        assert self.ids(admin, "/tickets", q=c) == [id]
        assert self.ids(admin, "/tickets", q=f"{a} {c}") == []
        assert self.ids(admin, "/tickets", q=c, status="answered", department_id=2, client_id=42) == [id]
        assert self.ids(admin, "/tickets", q=c, status="closed") == []
        for q in ("!", "'; DROP TABLE tickets; --"):
            assert self.ids(admin, "/tickets", q=q) == []
        link = admin.get("/tickets", q="blank", limit=1).headers["Link"]
        assert link.startswith("</api/v1/tickets?q=blank&limit=1&after=")

    def test_a_service_by_its_domain_in_any_spelling_and_by_its_user_name(self, admin: Api) -> None:
        assert 1 in self.ids(admin, "/services", domain="mysite.com")
        assert self.ids(admin, "/services", domain="MySite.COM") == self.ids(
            admin, "/services", domain="mysite.com"
        )
        for domain in ("site.com", "http://mysite.com", "mysite", " mysite.com", "%"):
            assert self.ids(admin, "/services", domain=domain) == []
        username = admin.get("/services/1").json()["data"]["username"]
        assert 1 in self.ids(admin, "/services", username=username)
        assert 1 in self.ids(admin, "/services", username=username, domain="mysite.com", client_id=42)
        assert self.ids(admin, "/services", username=username[:-1]) == []

    def test_a_domain_by_its_name(self, admin: Api) -> None:
        name = f"{token_hex(6)}.example.com"
        id = factories.domain(admin, domain=name)
        assert self.ids(admin, "/domains", domain=name.upper()) == [id]
        assert self.ids(admin, "/domains", domain=name, client_id=42, status="active") == [id]
        assert self.ids(admin, "/domains", domain=f"x{name}") == []
        assert self.ids(admin, "/domains", domain="bücher.example") == []

    def test_an_invoice_by_its_number(self, admin: Api, client: Api, other: Api) -> None:
        assert self.ids(admin, "/invoices", invoice_number="INV-001234") == [1234]
        assert self.ids(admin, "/invoices", invoice_number="inv-001234", status="overdue", client_id=43) == []
        assert self.ids(admin, "/invoices", invoice_number="INV-0000009999999999") == []
        assert self.ids(client, "/invoices", invoice_number="INV-001001") == [1001]
        assert self.ids(other, "/invoices", invoice_number="INV-001001") == []

    @pytest.mark.parametrize(
        "number", ["", "1234", "INV-1234", "INV-", "INV-00000000000000001", "INV-００１２３４"]
    )
    def test_what_is_no_invoice_number_is_400(self, admin: Api, number: str) -> None:
        response = admin.get(f"/invoices?invoice_number={number}")
        assert response.status_code == 400
        assert response.json()["error"]["details"][0]["pointer"] == "/invoice_number"

    def test_invoices_by_the_days_that_they_are_due(self, admin: Api, client: Api, other: Api) -> None:
        days = ["2045-03-01", "2045-03-02", "2045-03-03"]
        ids = [factories.invoice(admin, due_date=day) for day in days]
        try:
            for first in range(3):
                for last in range(3):
                    found = self.ids(admin, "/invoices", due_from=days[first], due_to=days[last])
                    assert found == ids[first : last + 1][::-1]
            assert self.ids(client, "/invoices", due_from=days[1], status="unpaid") == ids[1:][::-1]
            assert self.ids(other, "/invoices", due_from=days[0]) == []
            assert set(ids).isdisjoint(self.ids(admin, "/invoices", due_to="2024-01-31", limit=100))
            admin.post(f"/invoices/{ids[1]}/pay")
            assert self.ids(admin, "/invoices", due_from=days[0], status="paid") == [ids[1]]
            link = client.get("/invoices", due_from=days[0], due_to=days[2], limit=1).headers["Link"]
            day = date(2045, 3, 3).toordinal()
            assert f"due_from={days[0]}&due_to={days[2]}&limit=1&after={day}.{ids[2]}>" in link
            # The id of an invoice is its place, too.
            after = client.get("/invoices", due_from=days[0], after=ids[1]).json()["data"]
            assert [row["id"] for row in after] == [ids[0]]
        finally:
            for id in ids:
                admin.post(f"/invoices/{id}/pay")

    @pytest.mark.parametrize("name", ["due_from", "due_to"])
    @pytest.mark.parametrize("day", ["", "2045-02-30", "2045-3-1", "tomorrow", "0000-01-01"])
    def test_what_is_no_day_is_400(self, admin: Api, name: str, day: str) -> None:
        response = admin.get(f"/invoices?{name}={day}")
        assert response.status_code == 400
        assert response.json()["error"]["details"][0]["pointer"] == f"/{name}"

    def test_a_client_by_its_phone_number_however_it_is_written(self, admin: Api) -> None:
        digits = str(int(token_hex(8), 16))[:9].rjust(9, "5")
        id = factories.client(admin, phone=f"+49 (0){digits[:2]}/{digits[2:5]}-{digits[5:]}")
        for phone in (digits, f"0{digits}", f"+49{digits}", " ".join(digits), f"tel: {digits[1:]}"):
            assert self.ids(admin, "/clients", phone=phone) == [id]
        for phone in (digits[2:], f"{digits}1", "no digits", "٣"):
            assert self.ids(admin, "/clients", phone=phone) == []
        admin.put(f"/clients/{id}", {"phone": "112"})
        assert self.ids(admin, "/clients", phone=digits) == []
        assert id in self.ids(admin, "/clients", phone="1-1-2", limit=100)
        admin.put(f"/clients/{id}", {"company": "Other"})
        assert id in self.ids(admin, "/clients", phone="112", q="baker", limit=100)

    def test_a_client_of_the_api_has_no_filter_of_the_operator(self, client: Api) -> None:
        for query in ("tickets?q=x", "tickets?ticket_number=TKT-A3F7B2C1", "services?domain=a.example"):
            assert client.get(f"/{query}").status_code == 400
        for query in ("services?username=x", "domains?domain=a.example"):
            assert client.get(f"/{query}").status_code == 400
