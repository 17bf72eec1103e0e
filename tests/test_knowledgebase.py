"""The knowledgebase, announcements and domains, as a client reads them."""

from datetime import UTC, datetime
from secrets import token_hex

import pytest

from server import app
from tests import making
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


class TestWriteArticles:
    def found(self, api: Api, q: str) -> list[int]:
        return [row["id"] for row in api.get("/knowledgebase", q=q).json()["data"]]

    def test_what_is_written_is_found_by_its_words_and_no_longer_by_its_old_ones(
        self, admin: Api, client: Api
    ) -> None:
        old, new = (token_hex(8) for _ in range(2))
        id = making.article(admin, content=f"About {old}.")
        assert self.found(client, old) == [id]
        changed = admin.put(f"/knowledgebase/{id}", {"content": f"About {new}."}).json()["data"]
        assert changed == {"id": id, "title": "Test", "category": 9, "content": f"About {new}."}
        assert (self.found(client, old), self.found(client, new)) == ([], [id])
        assert admin.request("DELETE", f"/knowledgebase/{id}").json()["data"] == {"id": id, "deleted": True}
        assert self.found(client, new) == []
        assert admin.get(f"/knowledgebase/{id}").status_code == 404

    def test_a_change_that_is_refused_leaves_the_words(self, admin: Api, client: Api) -> None:
        word = token_hex(8)
        id = making.article(admin, title=word)
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
        id = making.article(admin, content=char * 80_000)
        assert admin.get(f"/knowledgebase/{id}").json()["data"]["content"] == char * 80_000

    def test_as_many_different_words_as_a_text_can_have_are_kept(self, admin: Api) -> None:
        # Squared katakana, each of which is folded to four or five characters.
        signs = [chr(code) for code in range(0x3300, 0x3357)]
        text = " ".join(a + b + c for a in signs for b in signs for c in signs)[:80_000]
        assert making.article(admin, content=text)


class TestWriteAnnouncements:
    def shown(self, client: Api) -> list[str]:
        return [row["title"] for row in client.get("/announcements").json()["data"]]

    def test_a_draft_is_read_by_clients_once_it_is_published(self, admin: Api, client: Api) -> None:
        title = token_hex(8)
        id = making.announcement(admin, title=title)
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
        id = making.announcement(admin)
        body = admin.get("/announcements", limit=1).json()
        assert body["data"][0]["id"] == id
        assert body["meta"]["total"] > 30


class TestWriteDomains:
    def test_a_new_one_is_active_registered_now_and_its_clients(
        self, server: Running, admin: Api, client: Api, other: Api
    ) -> None:
        server.clock.fixed = datetime(2034, 1, 1, tzinfo=UTC)
        id = making.domain(admin, domain="new.example.com")
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
        id = making.domain(admin)
        changed = admin.put(f"/domains/{id}", {"status": "cancelled", "expires_at": "2034-01-01T00:00:00Z"})
        assert changed.json()["data"]["status"] == "cancelled"
        assert admin.request("DELETE", f"/domains/{id}").status_code == 200
        assert id not in [row["id"] for row in client.get("/domains").json()["data"]]

    def test_a_client_that_does_not_exist_has_none(self, admin: Api) -> None:
        body = {"client_id": 999_999, "domain": "x.example.com", "expires_at": "2034-01-01T00:00:00Z"}
        assert admin.post("/domains", body).status_code == 404
        gone = making.client(admin)
        id = making.domain(admin, gone)
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
