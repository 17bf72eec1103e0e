"""The knowledgebase, announcements and domains, as a client reads them."""

from datetime import UTC, datetime

import pytest

from tests.contract_client import Api
from tests.running import Running

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
    def test_nobody_401_operator_403(self, nobody: Api, admin: Api) -> None:
        assert [api.get("/knowledgebase").status_code for api in (nobody, admin)] == [401, 403]

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
