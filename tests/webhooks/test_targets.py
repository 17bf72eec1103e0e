"""Which addresses are called: the inner network is not reached, however it is written or resolved."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from webhooks.sending import DeliveryResponse, http_session, post
from webhooks.targets import (
    NotCalled,
    Refused,
    check_resolves_public,
    check_url,
    guarded_socket,
    public,
    refusal,
)


def words(text: str) -> list[str]:
    return text.split()


PRIVATE_ADDRESSES = words(
    """
    0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1 127.255.255.255
    169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.0 172.31.255.255 192.0.0.0 192.0.0.8 192.0.0.9
    192.0.0.170 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1 192.168.0.0 192.168.255.255 192.175.48.1
    198.18.0.0 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1
    255.255.255.255 :: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:0.0.0.0 ::ffff:127.0.0.1 ::ffff:7f00:1
    ::ffff:10.1.2.3 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 64:ff9b::8.8.8.8
    64:ff9b:1::1 100::1 100:0:0:1::1 1fff::1 2001::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff:ffff::1
    2001:db8::1 2001:db8:ffff::1 2002::1 2002:7f00:1::1 2002:a00:1::1 3fff::1 3fff:fff:ffff::1 4000::1
    5f00::1 8000::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1 fe80::1%lo 2606:4700::1111%lo fec0::1 ff00::1
    ff02::1 ffff::1 161.26.0.0 161.26.255.255 166.8.0.0 166.11.255.255 168.63.129.16 199.36.153.4
    199.36.153.11 100.100.100.200 192.0.0.192 ::ffff:168.63.129.16 ::ffff:161.26.0.1 64:ff9b::168.63.129.16
    fd20:ce::254
    """
)
PUBLIC_ADDRESSES = words(
    """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0
    192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.255 203.0.114.0 223.255.255.255
    ::ffff:8.8.8.8 2000::1 2001:200::1 2001:db7:ffff::1 2001:db9::1 2001:4860:4860::8888 2003::1
    2606:4700::1111 3ffe::1 3fff:1000::1 161.25.255.255 161.27.0.0 166.7.255.255 166.12.0.0 168.63.129.15
    168.63.129.17 199.36.153.3 199.36.153.12
    """
)
# Not called even where private targets are admitted: link-local, and what hands out a cloud's credentials.
METADATA_ADDRESSES = words(
    """
    169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255 168.63.129.16 100.100.100.200 192.0.0.192
    fe80::1 fe80::a9fe:a9fe febf:ffff::1 fe80::1%lo fd00:ec2::254 fd00:ec2::23 fd20:ce::254
    ::ffff:169.254.169.254 ::ffff:a9fe:a9fe ::ffff:168.63.129.16 ::ffff:100.100.100.200 ::ffff:192.0.0.192
    ::169.254.169.254 ::ffff:0:169.254.169.254 64:ff9b::169.254.169.254 64:ff9b::a9fe:a9fe
    64:ff9b::168.63.129.16 64:ff9b::100.100.100.200 64:ff9b::192.0.0.192 64:ff9b:1::169.254.169.254
    64:ff9b:1:a9fe:a9:fe00:: 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 2002:a9fe:a9fe::1
    """
)
INNER_ADDRESSES = words(
    """
    127.0.0.1 ::1 10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 100.100.100.199 169.253.255.255 169.255.0.0
    168.63.129.17 192.0.0.191 fd00::1 fd00:ec1::1 fd20:ce::253 ::ffff:127.0.0.1 ::ffff:10.0.0.1
    64:ff9b::10.0.0.1 8.8.8.8 2606:4700::1111 fec0::1
    """
)

# Each of them reaches this machine, some inner network or nothing; {} is the port of a listener here.
LOOPBACK_URLS = words(
    """
    http://127.0.0.1:{}/ http://127.0.0.1.:{}/ http://127.1:{}/ http://127.0.1:{}/ http://127.0.0.2:{}/
    http://127.255.255.254:{}/ http://0177.0.0.1:{}/ http://0177.0.0.01:{}/ http://00000177.0.0.1:{}/
    http://0x7f000001:{}/ http://0X7F000001:{}/ http://0x7f.1:{}/ http://0x7f.0x0.0x0.0x1:{}/
    http://0x7f.0.1:{}/ http://2130706433:{}/ http://017700000001:{}/ http://127.0.0.0x1:{}/
    http://127.0x1:{}/ http://0:{}/ http://0.0.0.0:{}/ http://0.0:{}/ http://0x0:{}/ http://00:{}/
    http://4294967295:{}/ http://6425673729:{}/ http://１２７.0.0.1:{}/ http://１２７。０。０。１:{}/
    http://127。0。0。1:{}/ http://127．0．0．1:{}/ http://127｡0｡0｡1:{}/ http://①②⑦.0.0.①:{}/
    http://𝟏𝟐𝟕.0.0.1:{}/ http://１27.1:{}/ http://[::1]:{}/ http://[0:0:0:0:0:0:0:1]:{}/
    http://[0000::0001]:{}/ http://[::]:{}/ http://[::0.0.0.1]:{}/ http://[::ffff:127.0.0.1]:{}/
    http://[::ffff:7f00:1]:{}/ http://[0:0:0:0:0:ffff:127.0.0.1]:{}/ http://[::127.0.0.1]:{}/
    http://[::ffff:0:127.0.0.1]:{}/ http://[64:ff9b::127.0.0.1]:{}/ http://[::1%25lo]:{}/
    http://[::1%lo]:{}/ http://[fe80::1%25lo]:{}/ http://[fe80::1]:{}/ http://[ff02::1]:{}/
    http://[::FFFF:127.0.0.1]:{}/ http://[2002:7f00:1::]:{}/ http://[fd00:ec2::254]:{}/
    http://[127.0.0.1]:{}/ http://localhost:{}/ http://LOCALHOST:{}/ http://localhost.:{}/
    http://LocalHost:{}/ http://ⓛocalhost:{}/ http://ｌｏｃａｌｈｏｓｔ:{}/ http://localhoſt:{}/
    http://a.localhost:{}/ http://a.b.localhost.:{}/ http://localhost。:{}/ http://user@127.0.0.1:{}/
    http://user:password@localhost:{}/ http://hooks.invalid@127.0.0.1:{}/
    http://hooks.invalid:80@127.0.0.1:{}/ http://127.0.0.1:{}@127.0.0.1:{}/ http://@127.0.0.1:{}/
    http://127.0.0.1:{}#@hooks.invalid/ http://127.0.0.1:{}/#hooks.invalid
    http://127.0.0.1:{}?@hooks.invalid/ http://127.0.0.1:{}\\@hooks.invalid/
    http://hooks.invalid\\@127.0.0.1:{}/ http://127.0.0.1%2f@hooks.invalid:{}/ http://%31%32%37.0.0.1:{}/
    http://loc%61lhost:{}/ http://127.0.0.1%00.hooks.invalid:{}/ http://[::1]hooks.invalid:{}/
    http://10.0.0.1:{}/ http://172.16.0.1:{}/ http://192.168.0.1:{}/
    http://169.254.169.254:{}/latest/meta-data/ http://0xa9fea9fe:{}/ http://2852039166:{}/
    http://100.64.0.1:{}/ http://224.0.0.1:{}/ http://255.255.255.255:{}/ http:/127.0.0.1:{}/
    http:127.0.0.1:{}/ http:///127.0.0.1:{}/ //127.0.0.1:{}/ 127.0.0.1:{} HTTP://127.0.0.1:{}/
    ftp://127.0.0.1:{}/ file:///etc/passwd gopher://127.0.0.1:{}/ unix:///run/x ws://127.0.0.1:{}/
    """
)

Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine to its end, in the loop of the library and in the one that the server uses."""

    def run(work: Any) -> Any:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(work)

    return run


class Listener:
    """A server on one port of 127.0.0.1 and ::1 that counts who connects, and answers 200."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    sockets = []
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        each = socket.socket(family)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind((address, listener.port))
        listener.port = each.getsockname()[1]
        sockets.append(each)
    servers = [await asyncio.start_server(listener.connected, sock=each) for each in sockets]
    try:
        yield listener
    finally:
        for server in servers:
            server.close()
            await server.wait_closed()


class Names:
    """Name resolution that answers as a test says, one list of addresses after the other."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    def next(self) -> list[str]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in self.next()
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def answer(*answers: list[str]) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", Names(*answers).getaddrinfo)

    return answer


async def call(url: str, *, private: bool = False) -> DeliveryResponse:
    async with http_session(private=private) as client:
        return await post(client, url, b"{}", {}, deadline=5)


class TestPublic:
    @pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
    def test_inner_special_and_unassigned_addresses_are_not(self, address: str) -> None:
        assert not public(address)

    @pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
    def test_their_neighbours_are(self, address: str) -> None:
        assert public(address)

    @pytest.mark.parametrize(
        "text", ["", "localhost", "127.1", "0x7f000001", "8.8.8.8 ", "08.8.8.8", "[::1]"]
    )
    def test_what_is_no_address_is_not(self, text: str) -> None:
        assert not public(text)


class TestMetadata:
    """Link-local addresses and clouds' metadata services are not called, whatever the setting."""

    @pytest.mark.parametrize("address", METADATA_ADDRESSES)
    @pytest.mark.parametrize("private", [False, True])
    def test_no_spelling_of_them_is_admitted(
        self, address: str, private: bool, names: Callable[..., None]
    ) -> None:
        assert refusal(address, private=private)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with pytest.raises(NotCalled):
            guarded_socket((family, socket.SOCK_STREAM, 6, "", (address, 80)), private=private)
        host = f"[{address}]" if ":" in address else address
        with pytest.raises(Refused):
            check_url(f"https://{host}/", private=private)
        names(["8.8.8.8", address])
        with pytest.raises(Refused, match="has an address that is"):
            asyncio.run(check_resolves_public("https://hooks.example.com/", private=private))

    @pytest.mark.parametrize("address", METADATA_ADDRESSES)
    def test_none_of_them_is_connected_to_where_private_targets_are_admitted(
        self, address: str, names: Callable[..., None]
    ) -> None:
        names([address])
        answer = asyncio.run(call("http://metadata.example.com/", private=True))
        expected = "The host's address is link-local or a metadata service of a cloud."
        assert (answer.status, answer.error) == (None, expected)
        if "%" not in address:
            host = f"[{address}]" if ":" in address else address
            assert asyncio.run(call(f"http://{host}/", private=True)).error == expected

    @pytest.mark.parametrize("address", INNER_ADDRESSES)
    def test_their_neighbours_are_where_private_targets_are(self, address: str) -> None:
        assert refusal(address, private=True) is None
        check_url(f"http://[{address}]/" if ":" in address else f"http://{address}/", private=True)

    def test_a_name_is_looked_up_where_private_targets_are_admitted(self, names: Callable[..., None]) -> None:
        names(["127.0.0.1"])
        asyncio.run(check_resolves_public("http://hooks.example.com/", private=True))


class TestTheTable:
    def test_it_is_long_enough(self) -> None:
        assert len(set(LOOPBACK_URLS)) >= 90

    @pytest.mark.parametrize("url", LOOPBACK_URLS)
    def test_the_url_is_refused_when_it_is_written_down(self, url: str) -> None:
        for text in (url.replace("{}", "443"), url.replace("{}", "443").replace("http:", "https:", 1)):
            with pytest.raises(Refused):
                check_url(text, private=False)

    def test_no_url_connects_to_this_machine(self, run: Run) -> None:
        async def work() -> None:
            async with listening() as listener, http_session(private=False) as client:
                for url in LOOPBACK_URLS:
                    answer = await post(client, url.replace("{}", str(listener.port)), b"{}", {}, deadline=5)
                    assert (answer.status, bool(answer.error)) == (None, True), (url, answer)
                assert listener.connections == 0

        run(work())

    def test_without_the_guard_most_of_them_would(self, run: Run) -> None:
        """Else the table would show nothing."""

        async def work() -> int:
            async with listening() as listener, http_session(private=True) as client:
                for host in ("127.0.0.1", "[::1]", "localhost", "0.0.0.0", "[::]"):
                    url = f"http://{host}:{listener.port}/"
                    check_url(url, private=True)
                    assert (await post(client, url, b"{}", {}, deadline=5)).status == 200, url
                return listener.connections

        assert run(work()) == 5


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com",
            "https://example.com/",
            "HTTPS://Example.COM/hook?a=1&b=/?@:x",
            "https://example.com:1/",
            "https://example.com:65535/",
            "https://example.com./hook",
            "https://münchen.example/straße",
            "https://faß.example/",
            "https://xn--mnchen-3ya.example/",
            "https://my_host.example.com/",
            "https://8.8.8.8/hook",
            "https://[2606:4700::1111]:8443/hook",
            "https://1.example.com/",
            "https://0x7f.example.com/",
            "https://localhost.example.com/",
            "https://notlocalhost/",
            "https://example.com/" + "a" * (2048 - 20),
        ],
    )
    def test_a_public_https_url_is_admitted(self, url: str) -> None:
        check_url(url, private=False)

    @pytest.mark.parametrize(
        ("url", "word"),
        [
            ("", "begin with https"),
            ("example.com", "begin with https"),
            ("http://example.com/", "begin with https"),
            ("javascript://example.com/", "begin with https"),
            ("https://", "contain a host"),
            ("https:///hook", "contain a host"),
            ("https://?a", "contain a host"),
            ("https://:443/", "contain a host"),
            ("https://example.com:/", "contain a host"),
            ("https://example.com:0/", "from 1 to 65535"),
            ("https://example.com:65536/", "from 1 to 65535"),
            ("https://example.com:70000/", "from 1 to 65535"),
            ("https://example.com:999999/", "port of digits"),
            ("https://example.com:-1/", "port of digits"),
            ("https://example.com:+1/", "port of digits"),
            ("https://example.com:٤٤٣/", "port of digits"),
            ("https://example.com:4４3/", "port of digits"),
            ("https://example.com:https/", "port of digits"),
            ("https://a@example.com/", "user name"),
            ("https://:b@example.com/", "user name"),
            ("https://example.com/#", "fragment"),
            ("https://example.com/#a", "fragment"),
            ("https://exam ple.com/", "spaces"),
            (" https://example.com/", "spaces"),
            ("https://example.com/\n", "spaces"),
            ("https://example.com/\x00", "spaces"),
            ("https://example.com/\t", "spaces"),
            ("https://example.com/\u2028", "spaces"),
            ("https://exam\u00adple.com/", "spaces"),
            ("https://exam\u202eple.com/", "spaces"),
            ("https://example.com\\a", "backslashes"),
            ("https://example.com/\ud800", "spaces"),
            ("https://example..com/", "not a name"),
            ("https://.example.com/", "not a name"),
            ("https://exa!mple.com/", "not a name"),
            ("https://*.example.com/", "not a name"),
            (f"https://{'a' * 64}.example/", "not a name"),
            (f"https://{'a.' * 126}aa/", "not a name"),
            ("https://example.com／@a/", "user name"),
            ("https://example.com／a/", "not a name"),
            ("https://[::1/", "contain a host"),
            ("https://[v1.a]/", "contain a host"),
            ("https://[1:2]/", "usual way"),
            ("https://[::1]a/", "contain a host"),
            ("https://1.2.3.4.5/", "usual way"),
            ("https://256.1.1.1/", "usual way"),
            ("https://134744072/", "usual way"),
            ("https://8.8.2056/", "usual way"),
            ("https://8.8.8.8./", "usual way"),
            ("https://example.com/" + "a" * 2048, "2048"),
        ],
    )
    def test_anything_else_is_refused_with_a_sentence(self, url: str, word: str) -> None:
        with pytest.raises(Refused, match=word) as raised:
            check_url(url, private=False)
        assert str(raised.value).endswith(".")

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1:8080/", "http://[::1]:1/", "http://localhost/a", "https://10.0.0.1/"]
    )
    def test_private_targets_are_a_setting(self, url: str) -> None:
        check_url(url, private=True)
        with pytest.raises(Refused):
            check_url(url, private=False)

    @pytest.mark.parametrize(
        "url",
        ["http://127.1/", "http://2130706433/", "http://a@localhost/", "ftp://localhost/", "http://a:0/"],
    )
    def test_which_does_not_admit_what_cannot_be_called(self, url: str) -> None:
        with pytest.raises(Refused):
            check_url(url, private=True)


class TestResolving:
    """Of these, the name resolution is ours; the loop is the library's, whose resolver can be replaced."""

    @staticmethod
    def check(url: str = "https://hooks.example.com/", *, private: bool = False) -> None:
        asyncio.run(check_resolves_public(url, private=private))

    def test_a_name_with_public_addresses_is_admitted(self, names: Callable[..., None]) -> None:
        names(["8.8.8.8", "2606:4700::1111"])
        self.check()

    @pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%lo"])
    def test_one_address_that_is_not_public_is_enough(self, address: str, names: Callable[..., None]) -> None:
        names(["8.8.8.8", address])
        with pytest.raises(Refused, match="has an address that is not public"):
            self.check()
        if not address.startswith("fe80"):
            self.check(private=True)

    def test_a_name_that_nobody_knows_yet_is_judged_when_it_is_called(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: Any, **__: Any) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", fails)
        self.check()

    def test_a_resolver_that_hangs_is_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        over = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30))

        async def work() -> None:
            try:
                await check_resolves_public("https://hooks.example.com/", private=False, deadline=0.05)
            finally:
                over.set()

        asyncio.run(work())

    def test_an_address_is_judged_without_a_resolver(self, run: Run) -> None:
        run(check_resolves_public("https://8.8.8.8/", private=False))
        run(check_resolves_public("http://127.0.0.1/", private=True))
        with pytest.raises(Refused):
            run(check_resolves_public("https://127.0.0.1/", private=False))


class TestRebinding:
    def test_a_name_that_turns_private_after_it_was_admitted_is_not_called(
        self, names: Callable[..., None]
    ) -> None:
        async def work() -> None:
            async with listening() as listener:
                url = f"https://rebinding.example.com:{listener.port}/"
                names(["8.8.8.8"], ["127.0.0.1"])
                await check_resolves_public(url, private=False)
                answer = await call(url)
                assert answer.error == "The host's address is not public."
                assert listener.connections == 0

        asyncio.run(work())

    @pytest.mark.parametrize(
        "addresses", [["127.0.0.1"], ["::1"], ["0.0.0.0", "::", "127.0.0.1", "::1"], ["::ffff:127.0.0.1"]]
    )
    def test_every_address_of_a_name_is_vetted(
        self, addresses: list[str], names: Callable[..., None], run: Run
    ) -> None:
        names(addresses)

        async def work() -> None:
            async with listening() as listener:
                answer = await call(f"http://rebinding.example.com:{listener.port}/")
                assert answer.error == "The host's address is not public."
                assert listener.connections == 0
                # The same name is called where private targets are let through.
                answer = await call(f"http://rebinding.example.com:{listener.port}/", private=True)
                assert (answer.status, answer.error) == (200, None)

        run(work())
