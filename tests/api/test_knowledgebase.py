"""The knowledgebase, announcements and domains, as a client reads them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import pytest
from sqlalchemy import BigInteger, bindparam, text

from openapi import loading
from persistence import clients, engines, knowledgebase, search
from persistence.engines.common import search_timeout
from persistence.engines.sqlite import SQLite
from server import app
from tests.support import factories
from tests.support.contract_client import Api
from tests.support.live_server import Running

# What a client looks for, and the title of the article that must come first, on both databases.
QUERIES = [
    ("cname", "How to set up a CNAME record"),
    ("set up cname record", "How to set up a CNAME record"),
    ("dns", "DNS settings explained"),
    ("dns settings", "DNS settings explained"),
    ("DNS CHANGES", "Why DNS changes take time"),
    ("transfer code", "Moving a domain to us"),
    ("renew domain", "Renewing a domain"),
    ("mailbox", "Adding a mailbox"),
    ("imap", "Mail on your phone"),
    ("spam", "Fighting spam"),
    ("forward mail", "Forwarding mail"),
    ("automatic reply", "Out of office replies"),
    ("certificate", "Installing a certificate"),
    ("backup", "Restoring a backup"),
    ("sftp", "Uploading files with SFTP"),
    ("php version", "Choosing the PHP version"),
    ("cron", "Running cron jobs"),
    ("login", "Your first login"),
    ("password", "Changing your password"),
    ("pay invoice", "Paying an invoice"),
    ("grossere uploads", "Größere Uploads erlauben"),
    ("GRÖSSERE", "Größere Uploads erlauben"),
]


class TestSearchKnowledgebase:
    def test_nobody_401(self, nobody: Api) -> None:
        assert nobody.get("/knowledgebase").status_code == 401

    def test_the_operator_finds_the_same(self, client: Api, admin: Api) -> None:
        mine = client.get("/knowledgebase", q="dns").json()["data"]
        assert mine == admin.get("/knowledgebase", q="dns").json()["data"] != []

    @pytest.mark.parametrize(("q", "title"), QUERIES)
    def test_the_best_match_comes_first(self, client: Api, q: str, title: str) -> None:
        assert client.get("/knowledgebase", q=q).json()["data"][0]["title"] == title

    def test_the_documented_address_works(self, client: Api) -> None:
        body = client.get("/knowledgebase?q=cname+record&category=3").json()
        assert body["data"][0]["title"] == "How to set up a CNAME record"
        assert all(row["category"] == 3 for row in body["data"])

    @pytest.mark.parametrize(
        "q",
        [
            '"',
            "'",
            "\\",
            "a:b",
            "NEAR(a b)",
            "a AND",
            "OR",
            "NOT x",
            "^a",
            "{a}",
            "a*",
            "-",
            "()",
            "%",
            "!!!",
            ":*",
            "& |",
            "<->",
            "\u202e",
            "🦊",
            " ",
            "\t",
            "a'b\"c",
            "'; DROP TABLE articles; --",
            "x" * 200,
            " ".join(["a"] * 100),
        ],
    )
    def test_any_text_is_safe(self, client: Api, q: str) -> None:
        assert client.get("/knowledgebase", q=q).status_code == 200

    def test_without_words_nothing_is_found_and_without_a_text_all(self, client: Api) -> None:
        assert client.get("/knowledgebase", q="!!!").json()["total"] == 0
        total = client.get("/knowledgebase").json()["total"]
        assert total > 60
        assert client.get("/knowledgebase?q=").json()["total"] == total

    def test_the_newest_come_first_where_nothing_is_looked_for(self, client: Api) -> None:
        ids = [row["id"] for row in client.get("/knowledgebase", limit=50).json()["data"]]
        assert ids == sorted(ids, reverse=True)

    @pytest.mark.parametrize(
        "query", ["q=release", "q=release&category=5", "category=5", "q=version+changed"]
    )
    def test_pages_and_links_tile_the_same_list(self, client: Api, query: str) -> None:
        total = client.get(f"/knowledgebase?{query}&limit=1").json()["total"]
        assert total >= 60
        paged = [
            row["id"]
            for page in range(1, total // 7 + 2)
            for row in client.get(f"/knowledgebase?{query}&limit=7&page={page}").json()["data"]
        ]
        linked: list[int] = []
        path = f"/knowledgebase?{query}&limit=7"
        while path:
            response = client.get(path)
            linked += [row["id"] for row in response.json()["data"]]
            path = response.headers.get("Link", "").partition(">")[0].removeprefix("</api/v1")
        assert paged == linked
        assert len(set(paged)) == total


# With the parameters of every search. Both databases read it alike.
ENDLESS = (
    text(
        "WITH RECURSIVE numbers (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM numbers"
        " WHERE :limit > 0 AND :offset >= 0 AND :words <> '') SELECT count(*) FROM numbers"
    )
    .bindparams(
        bindparam("limit", type_=BigInteger),
        bindparam("offset", type_=BigInteger),
        bindparam("words", type_=search.Wanted),
    )
    .execution_options(search=True)
)


class TestSearchLimits:
    MESSAGE = str(search_timeout())

    @pytest.fixture
    def endless(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(knowledgebase.PAGES, (False, False), ENDLESS)
        monkeypatch.setattr(clients.LIST, "statement", lambda *_: ENDLESS)

    @pytest.mark.usefixtures("endless")
    def test_one_that_takes_too_long_is_refused_in_each_dialect(self, client: Api, admin: Api) -> None:
        mine, theirs = client.get("/knowledgebase", q="dns"), admin.get("/knowledgebase", q="dns")
        assert mine.status_code == theirs.status_code == 503
        assert mine.headers["Retry-After"] == theirs.headers["Retry-After"] == "1"
        assert mine.json() == {"error": self.MESSAGE, "code": 503}
        assert theirs.json()["error"] == {"code": "SERVICE_UNAVAILABLE", "message": self.MESSAGE}

    @pytest.mark.usefixtures("endless")
    def test_one_for_clients_has_the_same_limit(self, admin: Api) -> None:
        response = admin.get("/clients", q="jane")
        assert response.status_code == 503
        assert response.json()["error"]["message"] == self.MESSAGE

    @pytest.mark.usefixtures("endless")
    def test_others_are_answered_while_one_caller_has_many(
        self, server: Running, client: Api, other: Api, admin: Api
    ) -> None:
        database: Any = server.database
        queue = database.slow_reads if isinstance(database, SQLite) else database.searches
        with ThreadPoolExecutor(6) as pool:
            mine = [pool.submit(client.get, "/knowledgebase", q="dns") for _ in range(6)]
            while not queue.running:
                pass
            assert queue.running == {("client", 42)}
            # Those in a category end, and are made in other words.
            assert other.get("/knowledgebase", q="dns", category=3).json()["total"] > 0
            assert admin.get("/knowledgebase", limit=1).status_code == 200
            assert not all(each.done() for each in mine)
            assert {each.result().status_code for each in mine} == {503}

    def test_the_contract_names_the_limits(self) -> None:
        parameters = loading.bundle()["components"]["parameters"]
        for name in ("ArticleQuery", "ClientQuery"):
            told = parameters[name]["description"]
            assert f"The first {search.MAX_WORDS} different words" in told
            assert f"{engines.limits.SEARCH_SECONDS * 1000:.0f} ms" in told
        assert search.MIN_PREFIX == 2 and "A word of two or more letters" in told

    def test_twenty_words_of_one_letter_over_long_articles_are_answered(
        self, admin: Api, client: Api
    ) -> None:
        letters = "abcdefghijklmnopqrst"
        # PostgreSQL compared each place of each letter with all others, 10 to 100 ms for each article.
        content = " ".join(letters * 2_000)[:80_000]
        ids = [factories.article(admin, content=content, category=77) for _ in range(40)]
        try:
            response = client.get("/knowledgebase", q=" ".join(letters), category=77)
            assert response.status_code == 200
            assert response.json()["total"] == 40
        finally:
            for id in ids:
                admin.request("DELETE", f"/knowledgebase/{id}")

    def test_pages_past_the_end_tell_the_total(self, client: Api) -> None:
        total = client.get("/knowledgebase", q="release").json()["total"]
        past = client.get("/knowledgebase", q="release", page=99)
        assert (past.json()["data"], past.json()["total"]) == ([], total)
        last = client.get("/knowledgebase", q="release", page=total, limit=1).json()["data"][0]["id"]
        after = client.get("/knowledgebase", q="release", after=last)
        assert (after.json()["data"], after.json()["total"]) == ([], total)


class TestWanted:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("DNS dns Dns", ["dns"]),
            ("set settings up", ["settings", "up"]),
            ("settings set", ["settings"]),
            # A single letter is a whole word, which no longer word has.
            ("a and b", ["a", "and", "b"]),
            ("域 域名", ["域名"]),
            ("域名解析", ["域名", "名解", "解析"]),
            # An apostrophe is no end of a word.
            ("O'Brien obrien", ["obrien"]),
            (" ".join(f"w{n}w" for n in range(10, 40)), [f"w{n}w" for n in range(10, 10 + search.MAX_WORDS)]),
        ],
    )
    def test_what_says_nothing_new_is_left_out(self, text: str, words: list[str]) -> None:
        assert search.wanted(text) == words

    @pytest.mark.parametrize(
        ("word", "is_prefix"),
        [("a", False), ("7", False), ("ж", False), ("ß", True), ("ab", True), ("域", True), ("で", True)],
    )
    def test_a_letter_that_has_a_case_is_a_whole_word(self, word: str, is_prefix: bool) -> None:
        assert [search.is_prefix(each) for each in search.words(word)] == [is_prefix]

    @pytest.mark.parametrize(
        ("q", "found"),
        [
            ("x", False),
            ("xy", True),
            ("xylo xylograph", True),
            ("7", False),
            ("k", True),
            ("k xylo", True),
            ("域", True),
            ("域名", True),
            ("名", True),
            ("解析", True),
            ("名析", False),
        ],
    )
    def test_what_is_found(self, admin: Api, client: Api, q: str, found: bool) -> None:
        id = factories.article(admin, content="Xylographs 7000, plan K. 域名解析", category=78)
        try:
            rows = client.get("/knowledgebase", q=q, category=78).json()["data"]
            assert [row["id"] for row in rows] == [id] * found
        finally:
            admin.request("DELETE", f"/knowledgebase/{id}")


class TestWriteArticles:
    def found(self, api: Api, q: str) -> list[int]:
        return [row["id"] for row in api.get("/knowledgebase", q=q).json()["data"]]

    def test_what_is_written_is_found_by_its_words_and_no_longer_by_its_old_ones(
        self, admin: Api, client: Api
    ) -> None:
        old, new = (token_hex(8) for _ in range(2))
        id = factories.article(admin, content=f"About {old}.")
        assert self.found(client, old) == [id]
        changed = admin.put(f"/knowledgebase/{id}", {"content": f"About {new}."}).json()["data"]
        assert changed == {"id": id, "title": "Test", "category": 9, "content": f"About {new}."}
        assert (self.found(client, old), self.found(client, new)) == ([], [id])
        assert admin.request("DELETE", f"/knowledgebase/{id}").json()["data"] == {"id": id, "deleted": True}
        assert self.found(client, new) == []
        assert admin.get(f"/knowledgebase/{id}").status_code == 404

    def test_a_change_that_is_refused_leaves_the_words(self, admin: Api, client: Api) -> None:
        word = token_hex(8)
        id = factories.article(admin, title=word)
        headers = {"If-Match": '"7"'}
        body = {"title": "Other"}
        refused = [
            admin.request("PUT", f"/knowledgebase/{id}", json=body, headers=headers),
            admin.request("DELETE", f"/knowledgebase/{id}", headers=headers),
        ]
        assert [each.status_code for each in refused] == [412, 412]
        assert self.found(client, word) == [id]

    @pytest.mark.parametrize("char", ["\ufdfa", "\u3300", "\U0001f98a", "a", "\u0301"])
    def test_the_longest_text_of_any_characters_is_kept(self, admin: Api, char: str) -> None:
        id = factories.article(admin, content=char * 80_000)
        assert admin.get(f"/knowledgebase/{id}").json()["data"]["content"] == char * 80_000

    def test_as_many_different_words_as_a_text_can_have_are_kept(self, admin: Api) -> None:
        # Squared katakana, each of which is folded to four or five characters.
        signs = [chr(code) for code in range(0x3300, 0x3357)]
        text = " ".join(a + b + c for a in signs for b in signs for c in signs)[:80_000]
        assert factories.article(admin, content=text)


class TestWriteAnnouncements:
    def shown(self, client: Api) -> list[str]:
        return [row["title"] for row in client.get("/announcements").json()["data"]]

    def test_a_draft_is_read_by_clients_once_it_is_published(self, admin: Api, client: Api) -> None:
        title = token_hex(8)
        id = factories.announcement(admin, title=title)
        assert admin.get(f"/announcements/{id}").json()["data"]["published_at"] is None
        assert title not in self.shown(client)
        now = f"{app.now():%Y-%m-%dT%H:%M:%SZ}"
        assert admin.put(f"/announcements/{id}", {"published_at": now}).status_code == 200
        assert title in self.shown(client)
        admin.put(f"/announcements/{id}", {"published_at": "9999-12-31T23:59:59Z"})
        assert title not in self.shown(client)
        assert admin.request("DELETE", f"/announcements/{id}").status_code == 200
        assert admin.get(f"/announcements/{id}").status_code == 404

    def test_the_operator_lists_drafts_too(self, admin: Api) -> None:
        id = factories.announcement(admin)
        body = admin.get("/announcements", limit=1).json()
        assert body["data"][0]["id"] == id
        assert body["meta"]["total"] > 30


class TestWriteDomains:
    def test_a_new_one_is_active_registered_now_and_its_clients(
        self, server: Running, admin: Api, client: Api, other: Api
    ) -> None:
        server.clock.fixed = datetime(2034, 1, 1, tzinfo=UTC)
        id = factories.domain(admin, domain="new.example.com")
        made = {
            "id": id,
            "client_id": 42,
            "domain": "new.example.com",
            "status": "active",
            "registered_at": "2034-01-01T00:00:00Z",
            "expires_at": "2035-01-31T00:00:00Z",
        }
        assert admin.get(f"/domains/{id}").json()["data"] == made
        assert client.get("/domains").json()["data"][0]["domain"] == "new.example.com"
        assert id not in [row["id"] for row in other.get("/domains").json()["data"]]

    def test_it_is_changed_and_deleted(self, admin: Api, client: Api) -> None:
        id = factories.domain(admin)
        changed = admin.put(f"/domains/{id}", {"status": "cancelled", "expires_at": "2034-01-01T00:00:00Z"})
        assert changed.json()["data"]["status"] == "cancelled"
        assert admin.request("DELETE", f"/domains/{id}").status_code == 200
        assert id not in [row["id"] for row in client.get("/domains").json()["data"]]

    def test_a_client_that_does_not_exist_has_none(self, admin: Api) -> None:
        body = {"client_id": 999_999, "domain": "x.example.com", "expires_at": "2034-01-01T00:00:00Z"}
        assert admin.post("/domains", body).status_code == 404
        gone = factories.client(admin)
        id = factories.domain(admin, gone, status="expired")
        admin.request("DELETE", f"/clients/{gone}")
        assert admin.post("/domains", body | {"client_id": gone}).status_code == 404
        # The books are never lost.
        assert admin.get(f"/domains/{id}").status_code == 200

    def test_an_operator_filters(self, admin: Api, client: Api) -> None:
        rows = admin.get("/domains", client_id=42, limit=100).json()
        assert [row["id"] for row in rows["data"]] == [
            row["id"] for row in client.get("/domains").json()["data"]
        ]
        rows = admin.get("/domains", status="pending").json()["data"]
        assert {row["status"] for row in rows} == {"pending"}


class TestListAnnouncements:
    def test_the_newest_twenty_that_are_published(self, client: Api, server: Running) -> None:
        server.clock.fixed = datetime(2034, 1, 1, tzinfo=UTC)
        body = client.get("/announcements").json()
        assert body["count"] == 20 == len(body["data"])
        times = [row["published_at"] for row in body["data"]]
        assert times == sorted(times, reverse=True)
        assert 30 not in [row["id"] for row in body["data"]]
        server.clock.fixed = datetime(2036, 1, 1, tzinfo=UTC)
        ids = [row["id"] for row in client.get("/announcements").json()["data"]]
        assert ids[0] == 30
        assert 29 not in ids


class TestListDomains:
    def test_a_client_gets_all_of_its_own(self, client: Api, other: Api) -> None:
        mine, theirs = client.get("/domains").json(), other.get("/domains").json()
        assert mine.keys() == {"data", "count"}
        assert mine["count"] == len(mine["data"]) >= 2
        assert "mysite.com" in [row["domain"] for row in mine["data"]]
        assert not {row["id"] for row in mine["data"]} & {row["id"] for row in theirs["data"]}
