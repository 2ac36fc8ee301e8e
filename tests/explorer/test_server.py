"""The server answers the page that it gave out, and nobody else."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from dln.explorer import server as module
from dln.explorer.door import listening
from dln.explorer.frames import unpacked
from dln.explorer.server import MOST_BODY, TOKEN, application
from dln.explorer.worker import Worker
from tests.explorer.asking import SMALL, body
from tests.explorer.serving import KEY, Running, running_server

OWN = "http://127.0.0.1:8000"
ASKS = {"values": SMALL, "seeds": 2, "records": 5}


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.stop()


@pytest.fixture
def client(worker: Worker) -> TestClient:
    return TestClient(application(KEY, worker), base_url=OWN)


def post(client: TestClient, content: bytes | None = None, **headers: str | None):
    usual = {TOKEN: KEY, "origin": OWN, "content-type": "application/json"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in (usual | named).items() if value is not None}
    return client.post("/answer", content=body(ASKS) if content is None else content, headers=sent)


def test_the_page_asks_for_the_token_and_comes_with_a_strict_policy(client):
    assert client.get("/").status_code == 403
    assert client.get("/?token=wrong").status_code == 403
    assert client.get("/?token=ü").status_code == 403
    response = client.get(f"/?token={KEY}")
    assert response.status_code == 200
    assert response.text.startswith("<!doctype html>")
    policy = dict(rule.split(" ", 1) for rule in response.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)
    assert KEY not in response.text
    assert "http-equiv" in response.text
    assert response.text.count("<script src") == 0


@pytest.mark.parametrize("path", ["/", f"/?token={KEY}", "/nowhere", "/answer"])
def test_every_answer_has_the_headers(client, path):
    headers = client.get(path).headers
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


def test_a_question_is_answered(client):
    response = post(client)
    assert response.status_code == 200
    kinds = [told["kind"] for told, _ in unpacked(response.content)]
    assert kinds[-1] == "done"
    assert {"begin", "curves", "sharpness"} <= {*kinds}


def test_a_figure_is_drawn_of_the_first_run(client):
    headers = {TOKEN: KEY, "origin": OWN, "content-type": "application/json"}
    response = client.post("/figure", content=body(ASKS), headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/pdf")
    assert response.content.startswith(b"%PDF")
    assert b"%%EOF" in response.content[-10:]
    refused = client.post("/figure", content=body({**ASKS, "theory": "aligned_modes"}), headers=headers)
    assert refused.status_code == 422
    assert "start with model.init=aligned" in refused.text
    assert client.post("/figure", content=body(ASKS)).status_code == 403


REFUSED = {
    "no token": ({TOKEN: None}, 403),
    "a wrong token": ({TOKEN: "k-124"}, 403),
    "another origin": ({"origin": "https://evil.example"}, 403),
    "another port of this machine": ({"origin": "http://127.0.0.1:8001"}, 403),
    "an opaque origin": ({"origin": "null"}, 403),
    "no origin": ({"origin": None}, 403),
    "a page of another site": ({"sec_fetch_site": "cross-site"}, 403),
    "another host": ({"host": "evil.example", "origin": "http://evil.example"}, 400),
    "a name that resolves here": ({"host": "127.0.0.1.evil.example", "origin": "http://127.0.0.1.evil.example"}, 400),
    "a form": ({"content_type": "application/x-www-form-urlencoded"}, 415),
}


@pytest.mark.parametrize("what", REFUSED)
def test_who_may_not_ask_is_refused(client, worker, what):
    headers, status = REFUSED[what]
    pieces = worker.pieces
    response = post(client, **headers)
    assert response.status_code == status
    assert worker.pieces == pieces


ELSEWHERE = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {**ELSEWHERE, "sec-fetch-dest": "iframe"},
        {**ELSEWHERE, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    ],
)
def test_the_page_is_not_given_to_other_sites(client, headers):
    assert client.get(f"/?token={KEY}", headers=headers).status_code == 403


def test_a_link_with_the_token_opens_the_page(client):
    """As from a terminal in a web page: the address is followed in a window of its own."""
    headers = {**ELSEWHERE, "sec-fetch-dest": "document"}
    assert client.get(f"/?token={KEY}", headers=headers).status_code == 200
    assert client.get("/?token=k", headers=headers).status_code == 403


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"tab": "x", "number": 1, "question": {"seeds": 0}}'])
def test_what_is_no_question_is_told_in_a_line(client, content):
    response = post(client, content)
    assert response.status_code == 422
    assert response.text.count("\n") == 1


def test_a_question_too_long_is_not_read_to_the_end(client):
    assert post(client, b" " * MOST_BODY + b"{}").status_code == 413


def test_other_ways_in_are_closed(client):
    assert client.get("/answer").status_code == 405
    assert client.put(f"/?token={KEY}", headers={"origin": OWN}).status_code == 405
    assert client.get("/..%2f..%2fetc/passwd").status_code == 404


# --- a server that runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def running() -> Iterator[Running]:
    with running_server() as made:
        yield made


LONG = {"values": {"max_steps": 200_000, "model.hidden_dim": 60}, "seeds": 64, "records": 257}


def until(true: Callable[[], bool], seconds: float = 10) -> float:
    started = time.monotonic()
    while not true():
        assert time.monotonic() < started + seconds
        time.sleep(0.01)
    return time.monotonic() - started


@pytest.mark.long
def test_two_tabs_that_go_away_leave_no_work_behind(running):
    tabs = [running.ask(LONG, tab) for tab in ("x", "y")]
    for tab in tabs:
        assert tab.read(8)
    assert running.worker.busy()
    for tab, connection in zip(tabs, running.connections, strict=True):
        tab.close()
        connection.close()
    until(lambda: not running.worker.busy())
    pieces = running.worker.pieces
    time.sleep(3 * module.BEAT)  # as long as something could still be computed
    assert running.worker.pieces == pieces


def test_a_newer_question_ends_the_stream_of_the_older(running):
    older = running.ask(LONG, "x", 1)
    assert older.read(8)
    newer = running.ask(ASKS, "x", 2)
    assert unpacked(newer.read())[-1][0]["kind"] == "done"
    rest = older.read()
    assert b'"done"' not in rest
    until(lambda: not running.worker.busy())


def test_a_tab_that_waits_is_told_that_the_server_is_there(running, monkeypatch):
    monkeypatch.setattr(module, "BEAT", 0.02)
    stream = running.ask({**ASKS, "values": {**SMALL, "model.hidden_dim": 200, "max_steps": 2000}}, "x").read()
    assert module.HEARTBEAT in stream
    assert unpacked(stream)[-1][0]["kind"] == "done"


def test_a_question_that_does_not_arrive_is_given_up(running, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with contextlib.closing(socket.create_connection(("127.0.0.1", running.port), timeout=10)) as raw:
        own = f"127.0.0.1:{running.port}"
        head = {"host": own, "origin": f"http://{own}", TOKEN: KEY, "content-type": "application/json"}
        lines = ["POST /answer HTTP/1.1", *(f"{k}: {v}" for k, v in head.items()), "content-length: 50", "", "{"]
        raw.sendall("\r\n".join(lines).encode())
        assert b"408" in raw.recv(100)


def test_it_listens_on_this_machine_alone(running):
    with listening(0) as other:
        assert other.getsockname()[0] == "127.0.0.1"
    outside = [info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    for address in {*outside} - {"127.0.0.1"}:
        if not str(address).startswith("127."):
            with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
                socket.create_connection((address, running.port), timeout=2)


def test_the_token_is_not_in_what_is_asked_of_json(running):
    answer = running.ask(ASKS, "x")
    assert KEY.encode() not in answer.read()
    assert KEY not in json.dumps(dict(answer.getheaders()))
