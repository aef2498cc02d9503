"""Send a hand-in to a course server."""

from __future__ import annotations

import json
import re
import time
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

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
    file: str | Path, url: str, token: str, *, header: str = "token", timeout: float = 30,
    retries: int = 3, pause: float = 1,
) -> dict:  # fmt: skip
    """Check a pickled hand-in and send it by HTTP POST.

    The file goes as the multipart field ``file``, the token as the header ``token: …``. The token
    is neither printed nor stored, and redirects, which would carry it elsewhere, are not followed.
    What may have arrived is never sent again.

    Args:
        file: the pickle, read with :func:`helpers.course.handin.load_params` and validated first.
        url: of the course server; it answers in JSON.
        token: your own, secret.
        header: the name under which the server reads the token, such as ``"X-API-Key"``.
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
    if not re.fullmatch(r"[A-Za-z0-9-]+", header):
        raise WorkbookError(f"{header!r} is no name of a header: it has letters, digits and '-'")
    host = address.hostname
    again = (
        f"{host} {{}}: look on the course page whether your file has arrived before you send it "
        "again"
    )
    try:
        with requests.Session() as session:
            adapter = HTTPAdapter(max_retries=_Retry.of(retries, pause))
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            with session.post(
                url, files={"file": (file.name, file.read_bytes())}, headers={header: token},
                timeout=timeout, allow_redirects=False, stream=True,
            ) as response:  # fmt: skip
                status, body = response.status_code, _body(response, timeout)
    except requests.ConnectionError as error:
        if error.args and isinstance(error.args[0], MaxRetryError):  # never connected
            raise WorkbookError(
                f"no connection to {host}, {retries + 1} times in a row: try again later"
            ) from None
        raise WorkbookError(again.format("hung up")) from None
    except (requests.Timeout, requests.exceptions.ChunkedEncodingError):
        raise WorkbookError(again.format(f"did not answer within {timeout:g} s")) from None
    except requests.RequestException as error:
        raise WorkbookError(
            f"{file.name} could not be sent to {host} ({type(error).__name__}): check the url"
        ) from None
    answer, words = _read(body)
    said = " ".join(words.replace(token, "…").split())[:200]
    if status >= 500:
        raise WorkbookError(
            f"{host} is in trouble (status {status}{': ' * bool(said)}{said}), {retries + 1} times "
            "in a row: try again later"
        )
    return _accepted(status, answer, said, host)


class _Retry(Retry):
    """Tries again where no connection was made, or the server says that it is in trouble."""

    @classmethod
    def of(cls, retries: int, pause: float) -> _Retry:
        return cls(
            retries, read=False, redirect=False, status_forcelist=range(500, 600),
            allowed_methods=None, backoff_factor=pause, raise_on_status=False,
            respect_retry_after_header=False,
        )  # fmt: skip

    def get_backoff_time(self) -> float:
        """Wait before the first further attempt too."""
        return self.backoff_factor * 2 ** (len(self.history) - 1)

    def increment(self, method=None, url=None, response=None, *args, **kwargs) -> Retry:
        """Hang up before the next attempt; the body of a refusal may have no end."""
        further = super().increment(method, url, response, *args, **kwargs)
        if response is not None:
            response.close()
        return further


def _body(response: requests.Response, timeout: float) -> bytes:
    """Return the answer's first bytes, within ``timeout`` seconds."""
    start, body = time.monotonic(), b""
    try:
        for byte in response.iter_content(1):
            body += byte
            # The library's timeout begins anew with each byte that drips in; this one does not.
            if time.monotonic() - start > timeout:
                raise requests.ReadTimeout
            if len(body) > _LONGEST:
                break
    except requests.ConnectionError:  # so the library calls a body that stalls
        raise requests.ReadTimeout from None
    return body


def _read(body: bytes) -> tuple[object, str]:
    """Return an answer in JSON, or None, and what it says in words."""
    text = body.decode(errors="replace")
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None, text
    words = answer if isinstance(answer, dict) else {}
    found = (words[key] for key in ("message", "detail", "error") if words.get(key))
    return answer, str(next(found, text))


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
