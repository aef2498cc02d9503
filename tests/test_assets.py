"""Assets: verified, written whole or not at all, and every fault is one line with a remedy."""

import errno
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pooch
import pytest
import torch
from torchvision import models
from torchvision.models import get_weight

from helpers.data import assets
from helpers.run import files
from helpers.run.errors import WorkbookError

DATA = b"the good file" * 5000


def sha256(data):
    return hashlib.sha256(data).hexdigest()


CHECKSUM = sha256(DATA)


@pytest.fixture
def server():
    """A web server on this machine; ``server.pages`` maps paths to bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            page = self.server.pages.get(self.path)
            if page is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page[: len(page) // 2] if "dies" in self.path else page)

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.pages, httpd.asked = {"/good.bin": DATA}, []
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def list_asset(monkeypatch):
    """Return a function that makes an asset called ``thing`` the only one of the catalogue."""

    def replace(*urls, checksum=CHECKSUM):
        entry = {"urls": list(urls), "sha256": checksum, "licence": "MIT", "citation": "Doe 2020"}
        monkeypatch.setattr(assets, "catalogue", lambda: {"thing": entry})

    return replace


def cached():
    folder = files.data_folder() / "cache"
    return sorted(p.name for p in folder.rglob("*")) if folder.exists() else []


def closed_port():
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as httpd:
        return f"http://127.0.0.1:{httpd.server_port}"


# ---- downloads ---------------------------------------------------------------------------------


def test_a_good_download_is_kept_and_not_fetched_again(server, list_asset):
    list_asset(f"{server.url}/good.bin")
    assert not assets.available("thing")
    asset = assets.fetch("thing")
    assert asset.path.read_bytes() == DATA
    assert (asset.licence, asset.citation, asset.note) == ("MIT", "Doe 2020", "")
    assert assets.available("thing")
    assert assets.fetch("thing").path == asset.path
    assert server.asked == ["/good.bin"]
    assert cached() == ["good.bin"]


def test_a_wrong_checksum_leaves_nothing_and_names_the_remedy(server, list_asset, one_line):
    list_asset(f"{server.url}/good.bin", checksum=sha256(b"another file"))
    with pytest.raises(WorkbookError) as error:
        assets.fetch("thing")
    one_line(error, "thing", "wrong checksum", "try again", "mirror")
    assert cached() == []


def test_the_second_address_is_tried_when_the_first_fails(server, list_asset):
    list_asset(f"{server.url}/gone.bin", f"{server.url}/good.bin")
    assert assets.fetch("thing").path.read_bytes() == DATA
    assert server.asked == ["/gone.bin", "/good.bin"]


def test_the_second_address_is_tried_when_the_first_sends_another_file(server, list_asset):
    server.pages["/other.bin"] = b"a page that says sorry"
    list_asset(f"{server.url}/other.bin", f"{server.url}/good.bin")
    assert assets.fetch("thing").path.read_bytes() == DATA


def test_a_refused_connection_names_three_remedies(list_asset, one_line):
    list_asset(f"{closed_port()}/good.bin")
    with pytest.raises(WorkbookError) as error:
        assets.fetch("thing")
    one_line(error, "cannot download thing", "connect to the network", "WORKBOOK_MIRROR", "quick")
    assert cached() == []


def test_no_network_at_all_is_a_clear_error(list_asset, one_line):
    list_asset("https://no-such-host.invalid/good.bin")
    with pytest.raises(WorkbookError) as error:
        assets.fetch("thing")
    one_line(error, "cannot download thing", "no-such-host.invalid")
    assert cached() == []


def test_a_server_that_dies_half_way_leaves_nothing(server, list_asset, one_line):
    server.pages["/dies.bin"] = DATA
    list_asset(f"{server.url}/dies.bin")
    with pytest.raises(WorkbookError) as error:
        assets.fetch("thing")
    one_line(error, "thing")
    assert cached() == []


def test_a_server_that_dies_half_way_is_noticed_without_a_checksum(server, list_asset, one_line):
    server.pages["/dies.bin"] = DATA
    list_asset(f"{server.url}/dies.bin", checksum="")
    with pytest.raises(WorkbookError) as error:
        assets.fetch("thing")
    one_line(error, "cannot download thing")
    assert cached() == []


def test_a_killed_download_leaves_nothing(server, list_asset, monkeypatch):
    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    list_asset(f"{server.url}/good.bin")
    with monkeypatch.context() as patch:
        patch.setattr(pooch.HTTPDownloader, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            assets.fetch("thing")
    assert cached() == []
    assert assets.fetch("thing").path.read_bytes() == DATA


def test_a_damaged_cached_file_is_downloaded_again(server, list_asset):
    list_asset(f"{server.url}/good.bin")
    assets.fetch("thing").path.write_bytes(b"damaged")
    assert assets.fetch("thing").path.read_bytes() == DATA


def test_the_first_download_is_pinned_and_a_changed_one_refused(server, list_asset, one_line):
    list_asset(f"{server.url}/good.bin", checksum="")
    path = assets.fetch("thing").path
    pins = json.loads((path.parent / "pins.json").read_text())
    assert pins == {"thing": sha256(DATA)}
    path.unlink()
    server.pages["/good.bin"] = b"the source has changed"
    with pytest.raises(WorkbookError) as error:
        assets.fetch("thing")
    one_line(error, "thing", "wrong checksum", "the source has changed")
    assert cached() == [".pins.lock", "pins.json"]


def test_a_full_disk_is_one_line(server, list_asset, monkeypatch, one_line):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    list_asset(f"{server.url}/good.bin")
    monkeypatch.setattr(shutil, "move", full)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", full)
    with pytest.raises(WorkbookError) as error:
        assets.fetch("thing")
    one_line(error, "good.bin", "No space left", "WORKBOOK_DATA")
    assert cached() == []


def test_an_unknown_asset_offers_the_nearest(one_line):
    with pytest.raises(WorkbookError) as error:
        assets.fetch("cifar01")
    one_line(error, "'cifar01'", "did you mean cifar10")


def test_weights_of_torchvision_without_network_are_a_clear_error(one_line):
    for ask in (assets.state_dict, assets.fetch):
        with pytest.raises(WorkbookError) as error:
            ask("imagenet_resnet18")
        one_line(error, "imagenet_resnet18", "WORKBOOK_MIRROR")


def test_a_name_that_ends_in_a_checksum_must_tell_the_truth(server, list_asset, one_line):
    good, bad = f"net-{CHECKSUM[:8]}.pth", "net-00000000.pth"
    server.pages |= {f"/{name}": DATA for name in (good, bad)}
    list_asset(f"{server.url}/{bad}", checksum="")
    with pytest.raises(WorkbookError) as error:
        assets.fetch("thing")
    one_line(error, "thing", "wrong checksum")
    assert cached() == []
    list_asset(f"{server.url}/{good}", checksum="")
    assert assets.fetch("thing").path.read_bytes() == DATA
    assert cached() == [".pins.lock", good, "pins.json"]


def test_an_asset_without_a_public_address_says_so(list_asset, one_line):
    list_asset(checksum="")
    assert not assets.available("thing")
    with pytest.raises(WorkbookError) as error:
        assets.fetch("thing")
    one_line(error, "thing", "no public address", "WORKBOOK_MIRROR")


# ---- the mirror --------------------------------------------------------------------------------


@pytest.fixture
def own_mirror(tmp_path, monkeypatch):
    """A mirror in a tmp folder; call it with the text of mirror.toml."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / "thing.bin").write_bytes(DATA)
    monkeypatch.setenv("WORKBOOK_MIRROR", str(folder))

    def write(name="cifar10", file="thing.bin", checksum=CHECKSUM, more=""):
        (folder / "mirror.toml").write_text(
            f'[{name}]\nfile = "{file}"\nsha256 = "{checksum}"\n{more}\n'
        )
        return folder

    return write


def test_the_mirror_replaces_the_download_and_its_note_is_passed_on(own_mirror):
    folder = own_mirror(more='note = "lossy copies"\nformat = "class-folders"')
    asset = assets.fetch("cifar10")
    assert asset.path == folder / "thing.bin"
    assert (asset.note, asset.format) == ("lossy copies", "class-folders")
    assert asset.citation == "Krizhevsky 2009"
    assert assets.available("cifar10")


def test_a_mirror_without_mirror_toml_is_named(tmp_path, monkeypatch, one_line):
    monkeypatch.setenv("WORKBOOK_MIRROR", str(tmp_path))
    with pytest.raises(WorkbookError) as error:
        assets.fetch("cifar10")
    one_line(error, "WORKBOOK_MIRROR", "mirror.toml", "unset it")
    assert not assets.available("cifar10")


def test_a_damaged_mirror_toml_is_named(own_mirror, one_line):
    (own_mirror() / "mirror.toml").write_text("[cifar10\n")
    with pytest.raises(WorkbookError) as error:
        assets.fetch("cifar10")
    one_line(error, "no readable mirror.toml")


def test_an_incomplete_mirror_table_is_named(own_mirror, one_line):
    (own_mirror() / "mirror.toml").write_text('[cifar10]\nfile = "thing.bin"\n')
    with pytest.raises(WorkbookError) as error:
        assets.fetch("cifar10")
    one_line(error, "cifar10", "sha256")


def test_a_file_that_the_mirror_lacks_is_named(own_mirror, one_line):
    own_mirror(file="lost.bin")
    with pytest.raises(WorkbookError) as error:
        assets.fetch("cifar10")
    one_line(error, "lost.bin", "copy it there")


def test_a_damaged_file_of_the_mirror_is_named(own_mirror, one_line):
    own_mirror(checksum=sha256(b"another"))
    with pytest.raises(WorkbookError) as error:
        assets.fetch("cifar10")
    one_line(error, "thing.bin", "wrong checksum", "replace it")


def test_what_the_mirror_lacks_is_downloaded(own_mirror, server, list_asset):
    own_mirror("something_else")
    list_asset(f"{server.url}/good.bin")
    assert assets.fetch("thing").path.read_bytes() == DATA


# ---- weights -----------------------------------------------------------------------------------


@pytest.fixture
def weights_in_mirror(own_mirror, tmp_path):
    """Return a function that saves an object and gives the weights that are read from it."""

    def save_and_read(value, save=torch.save):
        path = tmp_path / "mirror" / "weights.pt"
        save(value, path)
        own_mirror("cifar10_resnet20", "weights.pt", sha256(path.read_bytes()), 'note = "ours"')
        return assets.state_dict("cifar10_resnet20")

    return save_and_read


def test_weights_lose_their_wrapping_and_become_float32(weights_in_mirror):
    saved = {"module.conv.weight": torch.ones(2, dtype=torch.float16), "module.n": torch.tensor(3)}
    weights, note = weights_in_mirror({"state_dict": saved, "best": 91.2})
    assert list(weights) == ["conv.weight", "n"]
    assert weights["conv.weight"].dtype == torch.float32
    assert weights["n"].dtype == torch.int64
    assert note == "ours"


def test_weights_of_densenet_have_the_names_of_today(weights_in_mirror):
    network = models.densenet121()
    # How torchvision's own file, made years ago, names them.
    old = {re.sub(r"(denselayer\d+\.\w+?)([12])\.", r"\1.\2.", key): value
           for key, value in network.state_dict().items()}  # fmt: skip
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert list(weights_in_mirror(old)[0]) == list(network.state_dict())


def test_plain_weights_are_read_as_they_are(weights_in_mirror):
    weights, _ = weights_in_mirror({"fc.weight": torch.arange(3.0)})
    assert torch.equal(weights["fc.weight"], torch.arange(3.0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(weights_in_mirror, bad, one_line):
    with pytest.raises(WorkbookError) as error:
        weights_in_mirror({"a": torch.ones(2), "fc.bias": torch.tensor([1.0, bad])})
    one_line(error, "weights.pt", "NaN", "fc.bias")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_weights_with_code_are_refused_and_the_code_does_not_run(
    weights_in_mirror, tmp_path, one_line
):
    with pytest.raises(WorkbookError) as error:
        weights_in_mirror({"fc.weight": Malicious(tmp_path / "evil")})
    one_line(error, "weights.pt", "read safely")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("data", [b"", b"<html>sorry</html>"])
def test_a_file_without_weights_is_refused(weights_in_mirror, data, one_line):
    with pytest.raises(WorkbookError) as error:
        weights_in_mirror(data, save=lambda value, path: path.write_bytes(value))
    one_line(error, "weights.pt", "no weights")


# ---- the catalogue -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(assets.catalogue()))
def test_every_asset_is_listed_completely(name):
    entry = assets.catalogue()[name]
    for key in ("licence", "citation", "used_by"):
        assert entry[key].strip()
    assert set(entry["profiles"]) <= {"laptop", "full"}, "quick needs no network"
    if "torchvision" in entry:
        assert get_weight(entry["torchvision"]).url.startswith("https://")
    else:
        assert re.fullmatch(r"https://[\w.-]+/\S+", (entry["urls"] or ["https://a/b"])[0])
        # The weights of Places365 are published over plain http; the pinned checksum covers both.
        assert all(re.match("https?://", url) for url in entry["urls"])
        assert re.fullmatch(r"[0-9a-f]{64}|", entry["sha256"])
        assert entry["bytes"] >= 0


def test_no_two_assets_share_a_cached_file():
    paths = [assets._cached(name) for name in assets.catalogue()]
    assert len(set(paths)) == len(paths)


@pytest.mark.mirror
def test_the_mirror_s_files_are_those_that_it_lists():
    for name in ("cifar10_resnet20", "cifar10_resnet56", "imagenet_n01443537_goldfish"):
        assert assets.fetch(name).path.exists()
        assert assets.catalogue()[name]["sha256"] == assets._mirror()[name]["sha256"]


def pin_many(folder, names):
    os.environ["WORKBOOK_DATA"] = str(folder)
    for name in names:
        path = folder / "cache" / name
        path.write_text(name)
        assets._pin(name, path)


def test_pins_that_two_processes_write_at_once_are_all_kept(tmp_path):
    (tmp_path / "cache").mkdir()
    names = [[f"{who}{i}" for i in range(60)] for who in "ab"]
    start = multiprocessing.get_context("fork").Process
    writers = [start(target=pin_many, args=(tmp_path, part)) for part in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    kept = json.loads((tmp_path / "cache" / "pins.json").read_text())
    assert sorted(kept) == sorted(names[0] + names[1])
