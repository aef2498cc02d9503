"""Sending a hand-in: a replica of the course's client and server, and every way to fail."""

import io
import json
import os
import pickle
import socket
import threading
import time
from contextlib import suppress
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from handing_in import GOOD, Call

from helpers.course import handin
from helpers.run.errors import WorkbookError

TOKEN = "s3cr3t-t0ken"


class Server:
    """A course server on this machine that gives one scripted answer after the other."""

    def __init__(self):
        self.script, self.requests = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), body))
                outer.script.pop(0)(self)

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hand-in"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def says(status, content, kind="application/json", **headers):
    body = content.encode() if isinstance(content, str) else json.dumps(content).encode()

    def answer(handler):
        handler.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": len(body), **headers}.items():
            handler.send_header(name, str(value))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hangs_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def sleeps(handler):
    time.sleep(1.5)


def begins(handler, body=b"", status=200):
    """Send headers that promise more than comes."""
    handler.send_response(status)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def stalls(handler):
    begins(handler)
    time.sleep(1.5)


def stalls_in_trouble(handler):
    begins(handler, b"busy", 503)
    time.sleep(1.5)


def hangs_up_early(handler):
    begins(handler, b"{")
    hangs_up(handler)


def drips(handler):
    begins(handler)
    for _ in range(30):
        handler.wfile.write(b" ")
        time.sleep(0.1)


def floods(handler):
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"a" * 1000)


def floods_busy(handler):
    handler.send_response(503)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b"a" * 1000)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def send(server, saved, capsys):
    """Return a function that scripts the server and submits; the token must never show."""

    def run(*script, content=GOOD, url=None, **arguments):
        server.script[:] = script
        arguments = {"timeout": 5, "pause": 0, **arguments}
        path = saved(content)
        try:
            return handin.submit(
                path, url or server.url, arguments.pop("token", TOKEN), **arguments
            )
        finally:
            printed = capsys.readouterr()
            assert TOKEN not in printed.out + printed.err
            for file in path.parent.rglob("*"):
                assert file.is_dir() or TOKEN.encode() not in file.read_bytes()

    return run


def refused(error, one_line, *words):
    one_line(error, *words)
    assert TOKEN not in str(error.value)
    assert error.value.__cause__ is None


def test_a_good_answer_is_returned(send, server):
    answer = send(says(200, {"message": "received", "iou": 0.4}))
    assert answer == {"message": "received", "iou": 0.4}
    ((path, headers, body),) = server.requests
    assert path == "/hand-in"
    assert headers["token"] == TOKEN
    assert "Authorization" not in headers
    assert b'name="file"; filename="explain_params.pkl"' in body
    start = body.index(b"\r\n\r\n") + 4
    assert set(pickle.load(io.BytesIO(body[start:]))) == set(handin.KEYS)


@pytest.mark.parametrize("header", ["token", "X-API-Key"])
def test_the_server_of_the_course_reads_the_token_from_its_header(header, send, server):
    """A replica of the course's server: multipart ``file``, a header, and what it answers."""

    def course(handler):
        form = message_from_bytes(
            b"Content-Type: " + handler.headers["Content-Type"].encode() + b"\r\n\r\n"
            + server.requests[-1][2]
        )  # fmt: skip
        (part,) = form.get_payload()
        assert part.get_param("name", header="content-disposition") == "file"
        params = pickle.loads(part.get_payload(decode=True))  # our own, sent a moment ago
        assert all(arguments["labels"] is None for arguments in params.values())
        known = handler.headers[header] == TOKEN and len(params) == 10
        answer = {"avg_iou": 0.33, "avg_time": 1.9}
        says(*((200, answer) if known else (401, {"detail": "unknown"})))(handler)

    content = {key: {"labels": None, "top_labels": 1} for key in handin.KEYS}
    assert send(course, content=content, header=header) == {"avg_iou": 0.33, "avg_time": 1.9}
    other = "X-API-Key" if header == "token" else "token"
    with pytest.raises(WorkbookError, match="token is not accepted"):
        send(course, content=content, header=other)


@pytest.mark.parametrize("header", ["", "a b", "x:y", "a\nb"])
def test_what_is_no_name_of_a_header_is_refused(header, send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(header=header)
    refused(error, one_line, "no name of a header")
    assert not server.requests


def test_trouble_that_passes_is_waited_for(send, server):
    answer = send(says(503, "busy"), floods_busy, says(500, {"error": "oh"}), says(201, {"id": 7}))
    assert answer == {"id": 7}
    assert len(server.requests) == 4
    assert len({body.split(b"\r\n", 1)[1] for _, _, body in server.requests}) >= 1
    assert all(b"explain_params.pkl" in body for _, _, body in server.requests)


def test_trouble_that_stays_is_reported(send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(*[says(503, {"detail": "disk\nfull " + TOKEN})] * 3, retries=2)
    refused(error, one_line, "status 503", "disk full …", "3 times in a row", "try again later")
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says(401, {"detail": "no " + TOKEN}), ["token is not accepted", "status 401: no …"]),
        (says(403, "<html>Forbidden</html>", "text/html"), ["may not hand in", "403"]),
        (says(404, ""), ["nothing at this address", "check the url", "(status 404)"]),
        (says(413, ""), ["too large"]),
        (says(422, {"message": "kite is missing"}), ["does not accept", "kite is missing"]),
        (says(429, ""), ["too many attempts", "wait"]),
        (says(418, {"error": "teapot"}), ["refuses the file", "418: teapot"]),
        (says(302, "", Location="https://elsewhere.example/"), ["sends you elsewhere", "302"]),
        (says(200, "<html>Welcome</html>", "text/html"), ["no JSON object", "Welcome", "url"]),
        (says(200, [1, 2]), ["no JSON object"]),
        (says(200, "[" * 15_000), ["no JSON object"]),
        (floods, ["no JSON object", "aaaa"]),
    ],
    ids=["401", "403", "404", "413", "422", "429", "418", "302", "html", "list", "deep", "endless"],
)
def test_every_answer_that_means_no_is_clear_and_final(answer, words, send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(answer, timeout=1)
    refused(error, one_line, *words)
    assert len(server.requests) == 1, "such an answer is not asked for again"


@pytest.mark.parametrize("slow", [sleeps, stalls, drips])
def test_a_slow_server_is_not_waited_for_nor_asked_again(slow, send, server, one_line):
    start = time.perf_counter()
    with pytest.raises(WorkbookError) as error:
        send(slow, timeout=0.4)
    assert time.perf_counter() - start < 1.4
    refused(error, one_line, "did not answer within 0.4 s", "has arrived")
    assert len(server.requests) == 1


@pytest.mark.parametrize("gone", [hangs_up, hangs_up_early])
def test_a_hang_up_after_the_file_was_sent_is_final(gone, send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(gone, says(200, {}))
    refused(error, one_line, "has arrived before you send it again")
    assert len(server.requests) == 1


def test_a_refusal_whose_body_stalls_is_tried_again(send, server):
    assert send(stalls_in_trouble, says(200, {"id": 1}), timeout=2) == {"id": 1}


def test_a_server_that_is_not_there_is_said_not_to_be(send, one_line):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    start = time.perf_counter()
    with pytest.raises(WorkbookError) as error:
        send(url=url, retries=2, pause=0.05)
    refused(error, one_line, "no connection to 127.0.0.1", "3 times in a row")
    assert 0.15 <= time.perf_counter() - start < 5


def test_a_faulty_file_is_not_sent(send, server, one_line):
    with pytest.raises(WorkbookError) as error:
        send(content={**GOOD, "kite": {"image": 1}})
    refused(error, one_line, "was not sent", "kite: image is given by the scoreboard")
    with pytest.raises(WorkbookError) as error:
        send(content=Call(os.system, "true"))
    refused(error, one_line, "is refused")
    assert not server.requests


@pytest.mark.parametrize("url", ["course.example/upload", "ftp://course.example", "https://", ""])
def test_what_is_no_address_is_named(url, saved, one_line):
    with pytest.raises(WorkbookError) as error:
        handin.submit(saved(GOOD), url, TOKEN)
    refused(error, one_line, "no address of a server")


@pytest.mark.parametrize("token", ["", "  ", "a\nb", "ключ"])
def test_a_damaged_token_is_noticed_and_not_shown(token, saved, one_line):
    with pytest.raises(WorkbookError) as error:
        handin.submit(saved(GOOD), "https://course.example", token)
    one_line(error, "the token is empty or damaged")


def test_an_open_line_is_warned_of(saved, one_line):
    with pytest.warns(UserWarning, match="readable by others"), pytest.raises(WorkbookError):
        handin.submit(saved(GOOD), "http://course.example", TOKEN, retries=0)
