"""Who may ask: tokens, hosts, origins, routes, and nothing of a client's that becomes a path."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from tests.serve.conftest import Client, Serve, plain

from loopline.errors import SettingsError
from loopline.serve.guard import OPEN_PATHS, Guard
from loopline.serve.reply import Refusal
from loopline.serve.routes import ROUTES
from loopline.serve.settings import ServeSettings, check_token, is_loopback

TOKEN = "correct-horse-battery-staple"
PATHS = [
    (route.method, route.pattern.replace("{model}", "binary").replace("{version}", "0" * 12))
    for route in ROUTES
]


@pytest.fixture(scope="module")
def locked(releases: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service that needs a token."""
    import loopline

    place = tmp_path_factory.mktemp("locked")
    with loopline.open_service(releases["binary"], store=place, token=TOKEN) as running:
        yield Client(running)


@pytest.mark.parametrize(("method", "path"), [*PATHS, ("GET", "/nowhere"), ("DELETE", "/predict")])
@pytest.mark.parametrize(
    "sent", [None, "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"bearer {TOKEN}"]
)
def test_no_route_answers_without_the_token(
    locked: Client, method: str, path: str, sent: str | None
) -> None:
    """Every route in the table, and what is in none, is 401 without it; health alone is open."""
    headers = {"Content-Type": "application/json"}
    if sent is not None:
        headers["Authorization"] = sent
    answer = locked.ask(method, path, b"{}" if method == "POST" else None, headers)
    assert answer.status == (200 if path in OPEN_PATHS else 401)
    if answer.status == 401:
        assert answer.json() == {
            "error": "This service needs a token: send the header `Authorization: Bearer <token>`."
        }


def test_the_token_opens(locked: Client, rows: Any) -> None:
    """With it rows are answered, on the short way too."""
    header = {"Authorization": f"Bearer {TOKEN}"}
    assert locked.post("/predict", plain(rows)[0], header).status == 200
    assert locked.get("/metrics", **header).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "nas.example"])
def test_beyond_this_machine_a_token_is_needed(host: str) -> None:
    """An address that others can reach is refused at start without a token."""
    with pytest.raises(SettingsError, match="that needs a token"):
        check_token(None, ServeSettings(host=host))
    check_token(TOKEN, ServeSettings(host=host))


@pytest.mark.parametrize("token", ["short", "with a blank in it", "ümlaut-ümlaut-ümlaut", ""])
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    """Short or odd tokens are refused at start."""
    with pytest.raises(SettingsError, match="16 or more printable ASCII characters"):
        check_token(token, ServeSettings())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_loopback_is_known(host: str) -> None:
    """Every name of this machine itself needs no token."""
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil:80", ""])
def test_another_host_is_refused(client: Client, host: str, rows: Any) -> None:
    """A name that was bound to 127.0.0.1 anew reaches nothing (DNS rebinding)."""
    answer = client.post("/predict/binary", plain(rows)[0], {"Host": host})
    assert (answer.status, answer.headers["connection"]) == (421, "close")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000"])
def test_own_hosts_are_taken(client: Client, host: str) -> None:
    """This machine's names are taken with any port: a tunnel may have another one."""
    assert client.get("/v2", Host=host).status == 200


def test_allowed_hosts_are_added(serve: Serve, releases: Any) -> None:
    """`allow_hosts` adds a name, and no other."""
    client = serve(releases["binary"], settings={"allow_hosts": "churn.example"})
    assert client.get("/v2", Host="churn.example").status == 200
    assert client.get("/v2", Host="churn2.example").status == 421


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_other_pages_may_not_call(client: Client, method: str, origin: str) -> None:
    """A browser's page of another origin is refused, whatever the method."""
    answer = client.ask(method, "/predict/binary", None, {"Origin": origin})
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


def test_allowed_pages_may_call(serve: Serve, releases: Any, rows: Any) -> None:
    """A page of an allowed origin gets its preflight and may read its answer."""
    page = {"Origin": "https://app.example"}
    client = serve(releases["binary"], settings={"allow_origins": ["https://app.example"]})
    before = client.ask(
        "OPTIONS", "/predict", None, page | {"Access-Control-Request-Method": "POST"}
    )
    assert before.status == 204
    assert before.headers["access-control-allow-methods"] == "GET, POST"
    answer = client.post("/predict", plain(rows)[0], page)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_text_plain_is_refused(client: Client, rows: Any, kind: str | None) -> None:
    """The kinds of body that any page may send without asking are not taken, whatever they hold."""
    body = json.dumps(plain(rows)[0]).encode()
    answer = client.post("/predict/binary", body, {} if kind is None else {"Content-Type": kind})
    assert answer.status == 415


@pytest.mark.parametrize("name", ["host", "authorization", "content-type", "content-length"])
def test_a_header_that_came_twice_is_refused(name: str) -> None:
    """Which of two a proxy believed is not known, so neither is."""
    guard = Guard(ServeSettings(), None)
    twice = [(b"host", b"localhost"), (name.encode(), b"1"), (name.encode(), b"2")]
    with pytest.raises(Refusal, match=f"The header {name} came twice"):
        guard.check("GET", "/v2", twice)


NASTY = [
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e", "..\\..\\x", "%00", "a%00b",
    "%252e%252e%252f", "file:%2f%2f%2fetc%2fpasswd", "%c0%ae%c0%ae", "http:%2f%2f169.254.169.254",
    "binary%23", "binary%3f", "%0d%0aSet-Cookie:x", "CON", "~root", "binary/", "binary//infer",
]  # fmt: skip


@pytest.mark.parametrize("nasty", NASTY)
def test_no_text_of_a_client_opens_anything(client: Client, nasty: str) -> None:
    """Names with paths, URLs and control signs on every parameter are unknown names; no file, no
    socket and no process is opened for them."""
    opened: list[str] = []
    watching = True

    def hook(event: str, arguments: Any) -> None:
        if watching and event in ("open", "subprocess.Popen", "os.system", "exec", "import"):
            opened.append(f"{event} {arguments!r:.200}")

    patterns = [route for route in ROUTES if "{" in route.pattern]
    client.post("/predict/nothing", {})  # what is loaded lazily is loaded now
    client.get("/v2/models/nothing")
    sys.addaudithook(hook)
    for route in patterns:
        path = route.pattern.replace("{model}", nasty).replace("{version}", nasty)
        body = b"{}" if route.method == "POST" else None
        answer = client.ask(route.method, path, body, {"Content-Type": "application/json"})
        assert answer.status in (400, 404), path
        assert not (set(answer.headers) & {"set-cookie", "location"})
    watching = False
    assert [event for event in opened if "passwd" in event or "169.254" in event] == []


def test_an_unknown_method_is_told_what_is_allowed(client: Client) -> None:
    """405 names the methods of the path."""
    answer = client.ask("DELETE", "/predict/binary")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_the_page_escapes_names(serve: Serve, releases: Any) -> None:
    """A model's name cannot put markup into the page."""
    from loopline.serve.page import page

    client = serve(releases["binary"])
    deployment = client.service.deployments.pop("binary")
    client.service.deployments["<script>x</script>"] = deployment
    assert "<script>" not in page(client.service, "localhost", [])
    answer = client.get("/")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
