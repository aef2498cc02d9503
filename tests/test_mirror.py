"""`make mirror`: a folder that replaces the network, filled from what there is, and checked."""

import hashlib
import re
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from helpers.data import assets
from helpers.nets import models
from helpers.run import files, profiles
from helpers.run.errors import WorkbookError

TWO = b"two" * 999
# The name of the second one ends as that of torchvision's weights do.
PAGES = {
    "/one.tar.gz": b"one" * 999,
    f"/two-{hashlib.sha256(TWO).hexdigest()[:8]}.pth": TWO,
    "/three.csv": b"three",
}


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.syspath_prepend(files.ROOT / "scripts")
    import mirror

    return mirror


@pytest.fixture
def web(monkeypatch):
    """A web server and a catalogue of three assets on it; ``web.pages`` is what it has."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            page = self.server.pages.get(self.path)
            self.send_response(200 if page else 404)
            self.send_header("Content-Length", str(len(page or b"")))
            self.end_headers()
            self.wfile.write(page or b"")

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.pages, httpd.asked = dict(PAGES), []
    entries = {
        re.match(r"/(\w+)", page)[1]: {
            "urls": [f"http://127.0.0.1:{httpd.server_port}{page}"], "sha256": "",
            "profiles": ["laptop", "full"] if page == "/one.tar.gz" else ["full"],
            "licence": "MIT", "citation": "Doe 2020",
        }
        for page in PAGES
    }  # fmt: skip
    entries["nowhere"] = entries["one"] | {"urls": []}
    monkeypatch.setattr(assets, "catalogue", lambda: entries)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def fill(mirror, monkeypatch, tmp_path, capsys):
    """Return a function that runs the command; it gives status, output and errors."""

    def command(*arguments, folder=tmp_path / "room"):
        monkeypatch.setattr(sys, "argv", ["mirror.py", str(folder), *arguments])
        status = mirror.main()
        said, wrong = capsys.readouterr()
        lines = [line for line in wrong.splitlines() if line and "B/s]" not in line]  # no bars
        return status, said, "\n".join(lines)

    command.folder = tmp_path / "room"
    return command


def in_folder(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_mirror_replaces_the_network(web, fill, monkeypatch, tmp_path):
    status, said, wrong = fill()
    assert (status, wrong) == (0, "")
    assert f"export WORKBOOK_MIRROR={fill.folder}" in said
    assert in_folder(fill.folder) == ["mirror.toml", "one.tar.gz", "three.csv", "two.pth"]
    web.pages.clear()
    monkeypatch.setenv("WORKBOOK_DATA", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("WORKBOOK_MIRROR", str(fill.folder))
    asked = len(web.asked)
    for name, data in zip(("one", "two", "three"), PAGES.values(), strict=True):
        asset = assets.fetch(name)
        assert asset.path.read_bytes() == data
        assert (asset.path.parent, asset.note, asset.format) == (fill.folder, "", "original")
    assert len(web.asked) == asked


def test_a_profile_chooses_and_further_assets_can_be_named(web, fill):
    assert fill("--profile", "laptop")[0] == 0
    assert in_folder(fill.folder) == ["mirror.toml", "one.tar.gz"]
    assert fill("--profile", "laptop", "three")[0] == 0
    assert in_folder(fill.folder) == ["mirror.toml", "one.tar.gz", "three.csv"]


def test_what_fails_is_one_line_at_the_end_and_the_same_command_goes_on(web, fill):
    lost = web.pages.pop("/three.csv")
    status, _, wrong = fill()
    assert status == 1
    head, *lines = wrong.strip().splitlines()
    assert head == "1 of 3 assets are missing:"
    assert len(lines) == 1 and "cannot download three" in lines[0]
    assert in_folder(fill.folder) == ["mirror.toml", "one.tar.gz", "two.pth"]
    assert set(tomllib.loads((fill.folder / "mirror.toml").read_text())) == {"one", "two"}
    web.pages["/three.csv"] = lost
    web.asked.clear()
    assert fill()[0] == 0
    assert web.asked == ["/three.csv"], "what is there is not downloaded again"


def test_a_damaged_file_is_replaced_and_a_good_one_stays(web, fill, monkeypatch):
    fill()
    good = (fill.folder / "three.csv").stat()
    (fill.folder / "one.tar.gz").write_bytes(b"damaged")
    monkeypatch.setenv("WORKBOOK_MIRROR", str(fill.folder))  # it is not filled from itself
    assert fill()[0] == 0
    assert (fill.folder / "one.tar.gz").read_bytes() == PAGES["/one.tar.gz"]
    assert (fill.folder / "three.csv").stat().st_ino == good.st_ino


def test_a_break_leaves_whole_files_and_a_list_of_them(web, fill, mirror, monkeypatch):
    copied = mirror.shutil.copyfile

    def breaks(source, target):
        if "three" in str(source):
            target.write_bytes(b"th")
            raise KeyboardInterrupt
        copied(source, target)

    monkeypatch.setattr(mirror.shutil, "copyfile", breaks)
    with pytest.raises(KeyboardInterrupt):
        fill()
    assert in_folder(fill.folder) == ["mirror.toml", "one.tar.gz", "two.pth"]
    assert set(tomllib.loads((fill.folder / "mirror.toml").read_text())) == {"one", "two"}


def test_another_mirror_is_copied_with_its_notes(web, fill, monkeypatch, tmp_path):
    (old := tmp_path / "old").mkdir()
    (old / "copies.zip").write_bytes(b"lossy")
    digest = hashlib.sha256(b"lossy").hexdigest()
    (old / "mirror.toml").write_text(
        f'[nowhere]\nfile = "copies.zip"\nsha256 = "{digest}"\nformat = "class-folders"\n'
        'note = "lossy \\"copies\\", 5 \\u00d7 smaller"\n'
    )
    monkeypatch.setenv("WORKBOOK_MIRROR", str(old))
    assert fill("--profile", "laptop")[0] == 0
    monkeypatch.setenv("WORKBOOK_MIRROR", str(fill.folder))
    asset = assets.fetch("nowhere")
    assert asset.path == fill.folder / "nowhere.zip"
    assert (asset.format, asset.note) == ("class-folders", 'lossy "copies", 5 × smaller')
    assert fill("--profile", "full")[0] == 0, "a mirror can be extended in its place"
    assert in_folder(fill.folder)[1:] == ["nowhere.zip", "one.tar.gz", "three.csv", "two.pth"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--profile", "fulll"], "did you mean full"), (["thre"], "did you mean three")],
)
def test_what_nobody_knows_is_one_line(web, fill, arguments, words):
    status, _, wrong = fill(*arguments)
    assert status == 1 and words in wrong and "Traceback" not in wrong


def test_a_damaged_list_is_one_line_and_nothing_is_lost(web, fill):
    fill.folder.mkdir()
    (fill.folder / "mirror.toml").write_text("[one\n")
    status, _, wrong = fill()
    assert status == 1 and len(wrong.splitlines()) == 1 and "mirror.toml" in wrong
    assert in_folder(fill.folder) == ["mirror.toml"]


# ---- what a profile needs ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["quick", "laptop", "full"])
def test_what_a_profile_names_is_in_its_mirror(mirror, name):
    profile, held = profiles.load(name), mirror.assets_of(name)
    if name == "quick":
        assert held == [], "it needs no network"
        return
    wanted = {profile.dataset, "imagenet_samples", profile.text}
    for model in (profile.filters_model, profile.imagenet_model, profile.imagenet_vit):
        if model:
            wanted.add(models.PRETRAINED["imagenet"][model][0])
    if profile.start != "random":
        wanted.add(models.PRETRAINED[profile.start][profile.model][0])
    if profile.dissection.clip:
        wanted |= {profile.dissection.clip, "imagenet_resnet18", "places365_resnet18"}
    wanted |= {f"concepts_{words}" for words in profile.dissection.concept_sets}
    assert wanted <= set(held)
    assert len([each for each in held if each.startswith("imagenet_n0")]) == 10


def test_an_unknown_profile_is_named(mirror, one_line):
    with pytest.raises(WorkbookError) as error:
        mirror.assets_of("fulll")
    one_line(error, "did you mean full")
