"""Send a hand-in to a course server."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import requests

from helpers.course.handin.params import validate
from helpers.course.handin.unpickle import load_params
from helpers.run.errors import WorkbookError

_LONGEST = 20_000  # bytes of an answer
_LOCAL = ("localhost", "127.0.0.1", "::1")

_MEANING = {
    401: "the token is not accepted: copy it again from the course page",
    403: "the token may not hand in here: ask the instructor",
    404: "there is nothing at this address: check the url",
    405: "this address takes no hand-ins: check the url",
    409: "the server already has one from you, or it is busy",
    413: "the file is too large for the server",
    422: "the server does not accept this file",
    429: "too many attempts: wait before the next one",
}


def submit(
    file: str | Path, url: str, token: str, *, timeout: float = 30, retries: int = 3,
    pause: float = 1,
) -> dict:  # fmt: skip
    """Check a pickled hand-in and send it by HTTP POST.

    The file goes as the multipart field ``file``, the token as the header ``Authorization:
    Bearer …``. The token is neither printed nor stored, and redirects, which would carry it
    elsewhere, are not followed.

    Args:
        file: the pickle, read with :func:`helpers.course.handin.load_params` and validated first.
        url: of the course server; it answers in JSON.
        token: your own, secret.
        timeout: seconds to wait for the connection, and again for the whole answer.
        retries: further attempts where the connection fails or the server is in trouble (5xx).
        pause: seconds before the first of them, doubled each time.

    Returns:
        the server's answer, a dictionary.

    Raises:
        WorkbookError: the file has faults, or the server does not accept it, does not answer, or
            answers in another language; the message says what to do.
    """
    file = Path(file)
    faults = validate(load_params(file))
    if faults:
        raise WorkbookError(f"{file.name} was not sent, it has faults: " + "; ".join(faults))
    if not token.strip() or not (token.isascii() and token.isprintable()):
        raise WorkbookError("the token is empty or damaged: copy it again from the course page")
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise WorkbookError(f"{url!r} is no address of a server: it begins with https://")
    if address.scheme == "http" and address.hostname not in _LOCAL:
        warnings.warn("http sends your token readable by others: prefer https", stacklevel=2)
    data, host = file.read_bytes(), address.hostname
    for attempt in range(retries + 1):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            status, text, answer = _post(url, file.name, data, token, timeout)
        except requests.ConnectionError:  # a connection that took too long is one of these
            trouble = f"no connection to {host}"
            continue
        except requests.Timeout:
            # Not tried again: the server may have taken the file.
            raise WorkbookError(
                f"{host} did not answer within {timeout:g} s: look on the course page whether "
                "your file has arrived before you send it again"
            ) from None
        except requests.RequestException as error:
            raise WorkbookError(
                f"{file.name} could not be sent to {host} ({type(error).__name__}): check the url"
            ) from None
        said = " ".join(text.replace(token, "…").split())[:200]
        if status < 500:
            return _accepted(status, answer, said, host)
        trouble = f"{host} is in trouble (status {status}{': ' * bool(said)}{said})"
    raise WorkbookError(f"{trouble}, {retries + 1} times in a row: try again later")


def _post(
    url: str, name: str, data: bytes, token: str, timeout: float
) -> tuple[int, str, object]:  # fmt: skip
    """Send once; return the status, what the server said in words, and its JSON or None."""
    start = time.monotonic()
    with requests.post(
        url, files={"file": (name, data)}, headers={"Authorization": f"Bearer {token}"},
        timeout=timeout, allow_redirects=False, stream=True,
    ) as response:  # fmt: skip
        body = b""
        for byte in response.iter_content(1):
            body += byte
            # The library's timeout begins anew with each byte that drips in; this one does not.
            if time.monotonic() - start > 2 * timeout:
                raise requests.ReadTimeout
            if len(body) > _LONGEST:
                break
        response._content = body
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            return response.status_code, response.text, None
    words = answer if isinstance(answer, dict) else {}
    found = (words[key] for key in ("message", "detail", "error") if words.get(key))
    return response.status_code, str(next(found, response.text)), answer


def _accepted(status: int, answer: object, said: str, host: str) -> dict:
    """Return an answer that means yes; raise one that means no."""
    if 200 <= status < 300 and isinstance(answer, dict):
        return answer
    if 200 <= status < 300:
        raise WorkbookError(
            f"{host} answers, but not as a course server does (status {status}, no JSON object: "
            f"{said[:80]!r}): check the url"
        )
    if 300 <= status < 400:
        raise WorkbookError(f"{host} sends you elsewhere (status {status}): ask for the new url")
    meaning = _MEANING.get(status, "the server refuses the file")
    raise WorkbookError(f"{meaning} (status {status}{': ' * bool(said)}{said})")
