"""Send a hand-in to a course server."""

import json
import re
import time
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import MaxRetryError

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
    look = "look on the course page whether your file has arrived before you send it again"
    files = {"file": (file.name, file.read_bytes())}
    for attempt in range(retries + 1):
        try:
            with requests.post(
                url, files=files, headers={header: token}, timeout=timeout, allow_redirects=False,
                stream=True,
            ) as response:  # fmt: skip
                status = response.status_code
                if status < 500 or attempt == retries:
                    body = _body(response, timeout)
                    break
        except requests.ConnectionError as error:
            if not error.args or not isinstance(error.args[0], MaxRetryError):
                raise WorkbookError(f"{host} hung up: {look}") from None
            if attempt == retries:  # it has never connected
                raise WorkbookError(
                    f"no connection to {host}, {retries + 1} times in a row: try again later"
                ) from None
        except (requests.Timeout, requests.exceptions.ChunkedEncodingError):
            raise WorkbookError(f"{host} did not answer within {timeout:g} s: {look}") from None
        except requests.RequestException as error:
            raise WorkbookError(
                f"{file.name} could not be sent to {host} ({type(error).__name__}): check the url"
            ) from None
        time.sleep(pause * 2**attempt)
    answer, words = _read(body)
    said = " ".join(words.replace(token, "…").split())[:200]
    told = f"status {status}: {said}" if said else f"status {status}"
    if status >= 500:
        why = f"{host} is in trouble ({told}), {retries + 1} times in a row: try again later"
    elif status >= 400:
        why = f"{_MEANING.get(status, 'the server refuses the file')} ({told})"
    elif status >= 300:
        why = f"{host} sends you elsewhere (status {status}): ask for the new url"
    elif isinstance(answer, dict):
        return answer
    else:
        why = (
            f"{host} answers, but not as a course server does (status {status}, no JSON object: "
            f"{said[:80]!r}): check the url"
        )
    raise WorkbookError(why)


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
