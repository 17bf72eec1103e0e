"""An operator's browser, as far as the panel needs one: a cookie, forms read from pages, and where it is."""

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx

from panel.app import HEADERS
from persistence import demo
from tests.support.live_server import Running

HEADING = re.compile(r"<h1>(.*?)</h1>", re.DOTALL)


class Form(HTMLParser):
    """The fields of the form of a page that is sent to an address, as a browser would send them."""

    def __init__(self, text: str, action: str | None = None) -> None:
        super().__init__()
        self.action = action
        self.inside = False
        self.found = False
        self.values: dict[str, Any] = {}
        self.area = self.select = ""
        self.feed(text)

    def handle_starttag(self, tag: str, given: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in given}
        if tag == "form":
            where = attributes.get("action", "")
            mine = where != "/admin/sign-out" if self.action is None else where == self.action
            self.inside = mine and attributes.get("method") == "post" and not self.found
            self.found = self.found or self.inside
        elif not self.inside:
            return
        elif tag == "input":
            if attributes.get("type") == "checkbox":
                chosen = self.values.setdefault(attributes["name"], [])
                if "checked" in attributes:
                    chosen.append(attributes["value"])
            else:
                self.values[attributes["name"]] = attributes.get("value", "")
        elif tag == "textarea":
            self.area = attributes["name"]
            self.values[self.area] = ""
        elif tag == "select":
            self.select = attributes["name"]
            self.values[self.select] = None
        elif tag == "option" and ("selected" in attributes or self.values[self.select] is None):
            self.values[self.select] = attributes["value"]

    def handle_data(self, data: str) -> None:
        if self.area:
            self.values[self.area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            # Browsers leave out the line that the text begins with.
            self.values[self.area] = self.values[self.area].removeprefix("\n")
            self.area = ""
        elif tag == "form":
            self.inside = False


class Browser:
    """Somebody at the panel. Every page is held to what all pages promise."""

    def __init__(self, server: Running, address: str | None = None) -> None:
        headers = {"Origin": server.base, "Sec-Fetch-Site": "same-origin"}
        if address:
            headers["X-Forwarded-For"] = address
        self.http = httpx.Client(
            base_url=server.base, headers=headers, timeout=30, event_hooks={"response": [self._check]}
        )

    @staticmethod
    def _check(response: httpx.Response) -> None:
        for name, value in HEADERS.items():
            if not response.request.url.path.endswith(".css"):
                assert response.headers.get(name) == value, (response.request.url, name)
        assert response.headers["X-Request-Id"]

    def sign_in(self, name: str = demo.OPERATOR, password: str = demo.OPERATOR_PASSWORD) -> httpx.Response:
        response = self.http.post("/admin/sign-in", data={"name": name, "password": password})
        if response.status_code == 303:
            # httpx sends no secure cookie over plain HTTP; browsers do so to this machine.
            self.http.headers["Cookie"] = response.headers["Set-Cookie"].partition(";")[0]
        return response

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(path, params=query or None)

    def send(self, path: str, values: dict[str, Any] | None = None, **changed: Any) -> httpx.Response:
        """Fill in the form of a page and send it; None leaves a field out."""
        page = self.get(path)
        assert page.status_code == 200, page.text
        return self.send_form(Form(page.text, path.partition("?")[0]), path, (values or {}) | changed)

    def send_form(self, form: Form, path: str, values: dict[str, Any]) -> httpx.Response:
        assert form.found, path
        given = {name: value for name, value in (form.values | values).items() if value is not None}
        return self.http.post(path.partition("?")[0], data=given)

    def follow(self, response: httpx.Response) -> httpx.Response:
        assert response.status_code == 303, text(response)
        return self.get(response.headers["Location"])

    def close(self) -> None:
        self.http.close()


def text(response: httpx.Response) -> str:
    """What a page says, without its markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", response.text)))


def heading(response: httpx.Response) -> str:
    found = HEADING.search(response.text)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", found[1]))).strip() if found else ""
