import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from labels.errors import LabelingError
from ml_backend.imaging import connections, fetching
from ml_backend.imaging.addresses import ForbiddenAddressError, check_address
from ml_backend.imaging.fetching import AccessToken, Fetcher, FetchError, read_api_key

PAT = "header.payload.signature"
LEGACY = "0123456789abcdef0123456789abcdef01234567"
DRIPS = 90


class Site(ThreadingHTTPServer):
    """Answers like Label Studio where it looks at tokens, and like any host elsewhere; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str | None]] = []
        self.good_access = {"access-1", "access-2", "access-3"}
        self.bought = 0
        self.redirect_to = ""
        self.dripped = 0
        self.size = 4

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body != {"refresh": PAT}:
            self.answer(401, b"{}")
            return
        self.server.bought += 1
        self.answer(200, json.dumps({"access": f"access-{self.server.bought}"}).encode())

    def do_GET(self) -> None:
        header = self.headers.get("Authorization")
        self.server.seen.append((self.path, header))
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", self.server.redirect_to)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path.startswith("/data/") and not self.is_known(header):
            self.answer(401, b"who are you?")
        elif self.path == "/drip.png":
            self.send_response(200)
            self.send_header("Content-Length", str(DRIPS))
            self.end_headers()
            with suppress(OSError):
                while self.server.dripped < DRIPS:
                    self.wfile.write(b"x")
                    self.server.dripped += 1
                    time.sleep(0.1)
        elif self.path == "/cut.png":
            self.send_response(200)
            self.send_header("Content-Length", "50")
            self.end_headers()
            self.wfile.write(b"x" * 20)
            self.close_connection = True
        elif self.path == "/packed.png":
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"xxxx")
        elif self.path == "/drip-headers.png":
            with suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Name: ")
                while self.server.dripped < DRIPS:
                    self.wfile.write(b"x")
                    self.server.dripped += 1
                    time.sleep(0.1)
            self.close_connection = True
        elif self.path.startswith("/absent"):
            self.answer(404, b"no")
        else:
            self.answer(200, b"x" * self.server.size)

    def is_known(self, header: str | None) -> bool:
        return header in {f"Token {LEGACY}", *(f"Bearer {access}" for access in self.server.good_access)}

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "session=1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def start_site() -> Iterator[Callable[[], Site]]:
    running: list[tuple[Site, threading.Thread]] = []

    def start() -> Site:
        site = Site()
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((site, thread))
        return site

    yield start
    for site, thread in running:
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.fixture
def label_studio(start_site: Callable[[], Site]) -> Site:
    return start_site()


@pytest.fixture
def other(start_site: Callable[[], Site]) -> Site:
    return start_site()


def make_fetcher(site: Site, *allowed: str, key: str | None = PAT) -> Fetcher:
    return Fetcher(
        label_studio_url=site.url,
        token=AccessToken(site.url, lambda: key),
        allowed_hosts=frozenset(allowed),
        max_bytes=100,
    )


def host_of(site: Site) -> str:
    return f"127.0.0.1:{site.server_port}"


def test_label_studio_gets_an_access_token_bought_once(label_studio: Site) -> None:
    fetcher = make_fetcher(label_studio)

    assert fetcher.fetch("/data/upload/3/p.png") == b"xxxx"
    assert fetcher.fetch(f"{label_studio.url}/data/upload/3/q.png") == b"xxxx"

    assert label_studio.bought == 1
    assert label_studio.seen == [
        ("/data/upload/3/p.png", "Bearer access-1"),
        ("/data/upload/3/q.png", "Bearer access-1"),
    ]


def test_an_access_token_that_ran_out_is_renewed_once(label_studio: Site) -> None:
    fetcher = make_fetcher(label_studio)
    fetcher.fetch("/data/upload/3/p.png")
    label_studio.good_access = {"access-2"}

    assert fetcher.fetch("/data/upload/3/p.png") == b"xxxx"

    assert label_studio.bought == 2


def test_a_token_that_stays_refused_is_an_error_that_says_what_to_check(label_studio: Site) -> None:
    label_studio.good_access = set()

    with pytest.raises(FetchError, match="answered 401, check LABEL_STUDIO_API_KEY"):
        make_fetcher(label_studio).fetch("/data/upload/3/p.png")

    assert label_studio.bought == 2


def test_a_personal_access_token_that_is_refused_is_not_told(label_studio: Site) -> None:
    with pytest.raises(FetchError, match="refuses our token") as caught:
        make_fetcher(label_studio, key="a.wrong.one").fetch("/data/upload/3/p.png")

    assert "a.wrong.one" not in str(caught.value)


def test_a_legacy_token_is_sent_as_it_is(label_studio: Site) -> None:
    assert make_fetcher(label_studio, key=LEGACY).fetch("/data/upload/3/p.png") == b"xxxx"

    assert label_studio.seen == [("/data/upload/3/p.png", f"Token {LEGACY}")]


def test_without_a_token_label_studio_is_asked_without_one(label_studio: Site) -> None:
    with pytest.raises(FetchError, match="answered 401"):
        make_fetcher(label_studio, key=None).fetch("/data/upload/3/p.png")

    assert label_studio.seen == [("/data/upload/3/p.png", None)]


def test_an_allowed_host_is_asked_without_the_token(label_studio: Site, other: Site) -> None:
    assert make_fetcher(label_studio, host_of(other)).fetch(f"{other.url}/p.png") == b"xxxx"

    assert other.seen == [("/p.png", None)]
    assert label_studio.bought == 0


@pytest.mark.parametrize("allowed", [(), ("127.0.0.1",), ("127.0.0.1:1",), ("localhost",)])
def test_a_host_or_port_that_is_not_allowed_is_never_asked(
    label_studio: Site, other: Site, allowed: tuple[str, ...]
) -> None:
    with pytest.raises(FetchError, match="is not allowed"):
        make_fetcher(label_studio, *allowed).fetch(f"{other.url}/p.png")

    assert other.seen == []


def test_a_redirect_to_a_host_that_is_not_allowed_is_refused(label_studio: Site, other: Site) -> None:
    label_studio.redirect_to = f"{other.url}/p.png"

    with pytest.raises(FetchError, match="is not allowed"):
        make_fetcher(label_studio).fetch("/redirect")

    assert other.seen == []


def test_a_redirect_to_an_allowed_host_goes_without_the_token(label_studio: Site, other: Site) -> None:
    label_studio.redirect_to = f"{other.url}/p.png"

    assert make_fetcher(label_studio, host_of(other)).fetch("/redirect") == b"xxxx"

    assert other.seen == [("/p.png", None)]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://127.0.0.1/"])
def test_a_redirect_to_another_scheme_is_refused(label_studio: Site, target: str) -> None:
    label_studio.redirect_to = target

    with pytest.raises(FetchError, match="not an http or https address"):
        make_fetcher(label_studio).fetch("/redirect")


def test_redirects_in_a_circle_end(label_studio: Site) -> None:
    label_studio.redirect_to = "/redirect"

    with pytest.raises(FetchError, match="redirects too often"):
        make_fetcher(label_studio).fetch("/redirect")


def test_an_address_without_a_scheme_does_not_leave_label_studio_with_the_token(
    label_studio: Site, other: Site
) -> None:
    with pytest.raises(FetchError, match="is not allowed"):
        make_fetcher(label_studio).fetch(f"//{host_of(other)}/p.png")


@pytest.mark.parametrize(
    "address",
    [
        "http://{other}\\@{own}/p.png",
        "http://{other}\\@{own}/data/p.png",
        "http:\\\\{other}/p.png",
        "http://{own}@{other}/p.png",
        "http://{other}@{own}/p.png",
        "http://{other}\t@{own}/p.png",
        "http://{other}\n/p.png",
        "http://{other}#@{own}/p.png",
        "http://{other}?@{own}/p.png",
        "ftp://{own}/p.png",
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_asked_nowhere_else(
    label_studio: Site, other: Site, address: str
) -> None:
    with pytest.raises(FetchError):
        make_fetcher(label_studio).fetch(address.format(own=host_of(label_studio), other=host_of(other)))

    assert other.seen == []


def test_a_backslash_in_a_query_is_part_of_a_name(label_studio: Site) -> None:
    assert make_fetcher(label_studio).fetch("/data/local-files/?d=photos\\1.png") == b"xxxx"


def test_an_address_that_begins_like_label_studios_gets_no_unchecked_connection(
    label_studio: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "127.0.0.1")
    host = f"images.example.org:{other.server_port}"
    fetcher = Fetcher(label_studio_url="http://images", token=None, allowed_hosts=frozenset({host}), max_bytes=100)

    for address in (f"http://{host}/p.png", f"http://images@{host}/p.png"):
        with pytest.raises(FetchError):
            fetcher.fetch(address)

    assert other.seen == []


def test_a_host_that_drips_is_given_up_in_time(label_studio: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TOTAL_TIMEOUT_S", 0.5)

    with pytest.raises(FetchError, match="not finished"):
        make_fetcher(label_studio).fetch("/drip.png")

    assert label_studio.dripped < DRIPS


@pytest.mark.parametrize("is_own", [True, False])
def test_a_host_that_drips_its_headers_is_given_up_in_time(
    label_studio: Site, other: Site, is_own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEADERS_TIMEOUT_S", 0.5)
    site = label_studio if is_own else other

    with pytest.raises(FetchError, match=r"no answer \(ReadTimeout"):
        make_fetcher(label_studio, f"127.0.0.1:{other.server_port}").fetch(f"{site.url}/drip-headers.png")

    assert site.dripped < DRIPS
    assert make_fetcher(label_studio).fetch("/p.png") == b"xxxx"


@pytest.mark.parametrize("path", ["/cut.png", "/packed.png"])
def test_an_answer_that_breaks_off_or_cannot_be_unpacked_is_an_error(label_studio: Site, path: str) -> None:
    with pytest.raises(FetchError, match="no answer"):
        make_fetcher(label_studio).fetch(path)


def test_an_answer_above_the_limit_is_refused(label_studio: Site) -> None:
    label_studio.size = 101

    with pytest.raises(FetchError, match="larger than 100 bytes"):
        make_fetcher(label_studio).fetch("/p.png")


def test_another_answer_than_200_is_an_error(label_studio: Site) -> None:
    with pytest.raises(FetchError, match="answered 404"):
        make_fetcher(label_studio).fetch("/absent.png")


def test_a_host_that_does_not_answer_is_an_error() -> None:
    fetcher = Fetcher(label_studio_url="http://127.0.0.1:1", token=None, max_bytes=100)

    with pytest.raises(FetchError, match="no answer"):
        fetcher.fetch("/p.png")


def test_cookies_are_not_kept(label_studio: Site) -> None:
    fetcher = make_fetcher(label_studio)
    fetcher.fetch("/p.png")

    assert not fetcher._get_session(is_own=True).cookies


def test_the_key_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    assert read_api_key(None, path) == "one"
    path.write_text("two\n")
    assert read_api_key(None, path) == "two"

    assert read_api_key("value", path) == "value"
    assert read_api_key(None, None) is None


def test_a_key_file_that_is_not_there_is_an_error_that_names_its_variable(tmp_path: Path) -> None:
    with pytest.raises(LabelingError, match="LABEL_STUDIO_API_KEY_FILE: cannot be read"):
        read_api_key(None, tmp_path / "absent")


def test_the_place_of_the_key_file_is_not_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(LabelingError) as caught:
        read_api_key(None, tmp_path / "absent")

    assert str(tmp_path) not in str(caught.value)


def test_a_name_that_leads_to_this_machine_is_not_followed(
    label_studio: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, "127.0.0.1")

    with pytest.raises(FetchError, match="leads to an address that is not allowed"):
        make_fetcher(label_studio, f"images.example.org:{other.server_port}").fetch(
            f"http://images.example.org:{other.server_port}/p.png"
        )

    assert other.seen == []


def test_a_redirect_is_looked_at_like_any_address(
    label_studio: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"images.example.org:{other.server_port}"
    label_studio.redirect_to = f"http://{host}/p.png"
    resolve_to(monkeypatch, "169.254.169.254")

    with pytest.raises(FetchError, match="leads to an address that is not allowed"):
        make_fetcher(label_studio, host).fetch("/redirect")


def test_a_name_is_resolved_once_and_what_was_looked_at_is_connected_to(
    label_studio: Site, other: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second answer would lead elsewhere, if anybody asked for it.
    asked = resolve_to(monkeypatch, "10.1.2.3", "127.0.0.1")
    connected: list[str] = []

    def connect(address: tuple[str, int], timeout_s: float | None) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(socket, "create_connection", connect)

    with pytest.raises(FetchError, match="no answer"):
        make_fetcher(label_studio, "images.example.org").fetch("http://images.example.org/p.png")

    assert (asked, connected) == (["images.example.org"], ["10.1.2.3"])


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.8.8.8", "0.0.0.0", "169.254.169.254", "224.0.0.1", "::1", "fe80::1", "::ffff:127.0.0.1", "::"],
)
def test_no_name_leads_to_an_address_of_this_machine_or_of_nobody(address: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        check_address("images.example.org", ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("host", "address"), [("localhost", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("a", "10.0.0.1")]
)
def test_what_was_written_down_as_such_is_followed(host: str, address: str) -> None:
    check_address(host, ipaddress.ip_address(address))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Have one name lead to these addresses, one look-up after the other; return who was asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        if host != "images.example.org":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        address = addresses[min(len(asked), len(addresses)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked
