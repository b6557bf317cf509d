"""Alarms reach a webhook, a mail server and Prometheus, or come back with the reason."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import ValidationError

from loopline.errors import InputError
from loopline.monitor.receivers import SinkSettings, WebhookSettings
from loopline.monitor.sinks import (
    Gauge,
    Message,
    deliver,
    prometheus_text,
    write_prometheus,
)

PAGE = Message("churn: age", "age moved up by 0.5 sd since 3 May.", True, {"what": "shift"})
NOTE = Message("churn: city", "city has a new value.", False, {"what": "unseen"})


class Receiver:
    """An HTTP server on loopback that answers as it is told and remembers what came."""

    def __init__(self, status=200, headers=None):
        came = self.came = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                came.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(status)
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *args):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alarms"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *args):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class MailServer:
    """As much of SMTP (RFC 5321) as a letter needs, on loopback."""

    def __init__(self, refuse=False):
        self._refuse = refuse
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.letters = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *args):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb") as stream:
                self._talk(stream)

    def _talk(self, stream):
        def say(text):
            stream.write(f"{text}\r\n".encode())
            stream.flush()

        say("220 here")
        while line := stream.readline().strip().upper():
            if line == b"DATA":
                say("354 go on")
                letter = []
                while (part := stream.readline().rstrip(b"\r\n")) != b".":
                    letter.append(part.decode())
                self.letters.append("\n".join(letter))
                say("250 kept")
            elif line == b"QUIT":
                say("221 bye")
                return
            else:
                say("550 no" if self._refuse and line.startswith(b"RCPT") else "250 yes")


def test_a_webhook_gets_one_post_a_page_with_its_token(monkeypatch):
    """The body is the message with its id; notes are not sent unless asked for."""
    monkeypatch.setenv("ALARM_TOKEN", "secret-of-the-hook")
    with Receiver() as hook:
        settings = SinkSettings(webhook=WebhookSettings(url=hook.url, token_env="ALARM_TOKEN"))
        assert deliver([PAGE, NOTE], settings) == []
    ((path, headers, body),) = hook.came
    assert path == "/alarms"
    assert headers["Authorization"] == "Bearer secret-of-the-hook"
    assert body == {**PAGE.to_dict(), "id": PAGE.id}


def test_notes_are_sent_where_all_is_asked_for():
    """`send: all`."""
    with Receiver() as hook:
        assert deliver([NOTE], SinkSettings(webhook={"url": hook.url, "send": "all"})) == []
    assert hook.came[0][2]["page"] is False


@pytest.mark.parametrize("status", [400, 500, 503])
def test_what_a_webhook_refuses_comes_back(status):
    """Any answer but 2xx means not delivered; the reason is told."""
    with Receiver(status) as hook:
        (lost,) = deliver([PAGE], SinkSettings(webhook={"url": hook.url}))
    assert (lost.sink, lost.message, lost.reason) == ("webhook", PAGE, f"it answered {status}")


def test_a_letter_lists_what_belongs_together():
    """The strongest first, the others as lines, and their numbers not once more."""
    page = Message(
        "churn: age and 1 more", "age moved.", True, {"p": 1, "also": [1]}, ("pay fell.",)
    )
    with MailServer() as server:
        mail = {"host": "127.0.0.1", "port": server.port, "security": "none"}
        settings = SinkSettings(email={**mail, "sender": "a@example.org", "to": "b@example.org"})
        assert deliver([page], settings) == []
    (letter,) = server.letters
    assert "age moved.\n\n- pay fell.\n\np: 1" in letter
    assert "also" not in letter


def test_a_redirect_is_not_followed(monkeypatch):
    """It would carry the token to another place."""
    monkeypatch.setenv("ALARM_TOKEN", "secret-of-the-hook")
    with Receiver() as other, Receiver(302, {"Location": other.url}) as hook:
        settings = SinkSettings(webhook={"url": hook.url, "token_env": "ALARM_TOKEN"})
        (lost,) = deliver([PAGE], settings)
    assert lost.reason == "it answered 302"
    assert other.came == []


def test_a_receiver_that_is_down_does_not_keep_the_others_from_hearing():
    """Each receiver is told whatever the others say."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    with MailServer() as mail:
        settings = SinkSettings(
            webhook={"url": f"http://127.0.0.1:{closed}/"},
            email={
                "host": "127.0.0.1",
                "port": mail.port,
                "security": "none",
                "sender": "loop@example.org",
                "to": "team@example.org",
            },
        )
        (lost,) = deliver([PAGE], settings)
    assert lost.sink == "webhook"
    assert "refused" in lost.reason.lower()
    assert PAGE.sentence in mail.letters[0]
    assert "Subject: Loopline: churn: age" in mail.letters[0]


def test_only_one_receiver_is_asked_again():
    """A second attempt goes to the one that did not hear."""
    with Receiver() as hook, MailServer() as mail:
        settings = SinkSettings(
            webhook={"url": hook.url},
            email={
                "host": "127.0.0.1",
                "port": mail.port,
                "security": "none",
                "sender": "loop@example.org",
                "to": ["team@example.org"],
            },
        )
        assert deliver([PAGE], settings, only="email") == []
    assert (len(hook.came), len(mail.letters)) == (0, 1)


def test_a_mail_server_that_refuses_is_told():
    """The server's own words are in the reason."""
    with MailServer(refuse=True) as mail:
        settings = SinkSettings(
            email={
                "host": "127.0.0.1",
                "port": mail.port,
                "security": "none",
                "sender": "loop@example.org",
                "to": ["team@example.org"],
            }
        )
        (lost,) = deliver([PAGE], settings)
    assert "550" in lost.reason


def test_a_secret_that_is_not_set_is_named():
    """The variable's name, and nothing is sent without it."""
    with Receiver() as hook:
        settings = SinkSettings(webhook={"url": hook.url, "token_env": "NO_SUCH_TOKEN"})
        (lost,) = deliver([PAGE], settings)
    assert "NO_SUCH_TOKEN is not set" in lost.reason
    assert hook.came == []


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"webhook": {"url": "ftp://host/"}}, "no address"),
        ({"webhook": {"url": "https://me:pass@host/"}}, "token_env"),
        ({"email": {"host": "h", "sender": "nobody", "to": "a@b"}}, "no e-mail address"),
        ({"email": {"host": "h", "sender": "a@b", "to": "a@b\r\nBcc: c@d"}}, "no e-mail address"),
        ({"email": {"host": "h", "sender": "a@b", "to": "a@b", "user": "u"}}, "together"),
        (
            {
                "email": {
                    "host": "h",
                    "sender": "a@b",
                    "to": "a@b",
                    "security": "none",
                    "user": "u",
                    "password_env": "P",
                }
            },
            "security",
        ),
    ],
)
def test_settings_that_could_not_work_are_refused(settings, word):
    """Before an alarm is lost by them."""
    with pytest.raises(ValidationError, match=word):
        SinkSettings.model_validate(settings)


def test_prometheus_reads_the_file(tmp_path):
    """Meaning and type once a name; labels are escaped."""
    path = tmp_path / "alarms.prom"
    gauges = [
        Gauge("loopline_alarms_open", "Open alarms.", 1, {"model": "a", "column": "x\n1"}),
        Gauge("loopline_alarms_open", "Open alarms.", 0, {"model": "b", "column": "y"}),
        Gauge("loopline_checked_time", "When.", float("nan"), {}),
    ]
    write_prometheus(path, gauges)
    assert path.read_text().splitlines() == [
        "# HELP loopline_alarms_open Open alarms.",
        "# TYPE loopline_alarms_open gauge",
        'loopline_alarms_open{model="a",column="x\\n1"} 1',
        'loopline_alarms_open{model="b",column="y"} 0',
        "# HELP loopline_checked_time When.",
        "# TYPE loopline_checked_time gauge",
        "loopline_checked_time NaN",
    ]
    assert prometheus_text([]) == ""


def test_a_folder_is_no_file_for_prometheus(tmp_path):
    """Refused in a sentence."""
    with pytest.raises(InputError, match="it is a folder"):
        write_prometheus(tmp_path, [])
