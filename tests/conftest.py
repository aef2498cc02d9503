"""What all tests share: no network, no mirror unless asked for, and files only in tmp folders."""

import os
import pickle
import socket

WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # one of those that pytest -n starts, or None
if WORKER:  # before torch is imported: side by side, one thread each is fastest
    os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

from helpers.data import assets, shapes
from helpers.run import files, profiles, results

MIRROR = os.environ.get("WORKBOOK_MIRROR")
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Files that take minutes. They begin, so that at the end no worker waits for another.
LONGEST = ("test_scoreboard", "test_course", "test_colab", "test_widgets", "test_site")

if WORKER:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Put the longest files first."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def painted(tmp_path_factory):
    """Keep Shapes that any test of any worker has painted, in a tmp folder, for all others."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if WORKER else folder) / "painted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "_shelf", lambda: folder)
        yield


@pytest.fixture(autouse=True)
def clean_environment(request, monkeypatch, tmp_path):
    """Downloads and checkpoints go to a tmp folder; only tests marked ``mirror`` see the mirror."""
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "data"))
    for name in ("WORKBOOK_PROFILE", "WORKBOOK_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    if request.node.get_closest_marker("mirror") is None:
        monkeypatch.delenv("WORKBOOK_MIRROR", raising=False)
    elif MIRROR is None:
        pytest.skip("WORKBOOK_MIRROR is not set: this test needs the assets of a mirror")
    monkeypatch.setattr(results, "_run", {})
    assets._verified.cache_clear()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Refuse every connection that leaves this machine."""
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self, address):
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise OSError(f"tests may not connect to {address[0]}")
        return connect(self, address)

    def guarded_getaddrinfo(host, *args, **kwargs):
        if host not in (None, *LOOPBACK):
            raise socket.gaierror(f"tests may not look up {host}")
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def tmp_root(monkeypatch, tmp_path):
    """Redirect figures and results to a tmp folder, and return it."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def tiny_profile():
    """Profile quick, with a few images and one epoch."""
    profile = profiles.load("quick")
    profile.images.train, profile.images.validation, profile.images.test = 200, 40, 60
    profile.images.probe = 40
    profile.training.epochs = 1
    return profile


@pytest.fixture
def one_line():
    """Return a check that an error is one line that holds all the given words."""

    def check(error, *words):
        message = str(error.value if hasattr(error, "value") else error)
        assert "\n" not in message, message
        for word in words:
            assert word in message, f"{word!r} is not in: {message}"

    return check


@pytest.fixture
def saved(tmp_path):
    """Return a function that writes an object, or raw bytes, as explain_params.pkl."""

    def write(content, protocol=pickle.DEFAULT_PROTOCOL):
        path = tmp_path / "explain_params.pkl"
        raw = isinstance(content, bytes)
        path.write_bytes(content if raw else pickle.dumps(content, protocol))
        return path

    return write
