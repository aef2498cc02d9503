"""The site: whole, self-contained, and readable on a phone."""

import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from browsing import chromium, faults

from helpers.run.errors import WorkbookError
from helpers.run.files import ROOT

pytest.importorskip("sphinx", reason='no Sphinx: pip install -e ".[site]"')
pytest.importorskip("myst_nb", reason='no MyST-NB: pip install -e ".[site]"')

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n][^$]*)\$", re.DOTALL)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


@pytest.fixture(scope="module")
def builder():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        import build_site

        yield build_site


@pytest.fixture(scope="module")
def site(builder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "site"
    builder.build(folder)
    return folder


class Page(HTMLParser):
    """What a page links to, what it loads, and its ids."""

    LINKS_ONLY = ("next", "prev", "index", "search", "author", "canonical", "genindex")

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id") or attrs.get("name"))
        if (tag == "a" and "href" in attrs) or (
            tag == "link" and attrs.get("rel") in self.LINKS_ONLY
        ):
            self.links.append(attrs["href"])
        else:
            self.loads += [attrs[a] for a in ("src", "href", "data", "poster") if attrs.get(a)]
            self.loads += [
                part.split()[0] for part in (attrs.get("srcset") or "").split(",") if part
            ]
        self.loads += re.findall(r"url\(['\"]?([^'\")]+)", attrs.get("style") or "")


def foreign(url):
    return re.match(r"(?:https?:)?//", url)


def loaded_from_elsewhere(folder):
    """Return what the pages and style sheets of a site load from other hosts."""
    found = [(p.name, u) for p in folder.rglob("*.html") for u in Page(p).loads if foreign(u)]
    for sheet in folder.rglob("*.css"):
        urls = re.findall(r"url\(['\"]?([^'\")]+)|@import ['\"]([^'\"]+)", sheet.read_text())
        found += [(sheet.name, a or b) for a, b in urls if foreign(a or b)]
    return found


def broken_links(folder):
    """Return the links and loads of a site that lead to no file or no place in it."""
    pages = {path.resolve(): Page(path) for path in folder.rglob("*.html")}
    broken = []
    for path, page in pages.items():
        for url in page.links + page.loads:
            if re.match(r"(?:[a-z]+:|//)", url):
                continue
            name, anchor = urldefrag(url)
            there = path if not name else (path.parent / unquote(name).split("?")[0]).resolve()
            known = pages[there].ids if there in pages else ()
            if not there.is_file() or (anchor and there in pages and unquote(anchor) not in known):
                broken.append((path.name, url))
    return broken


# ---- the built site ----------------------------------------------------------------------------


def test_nothing_is_loaded_from_elsewhere(site):
    assert not loaded_from_elsewhere(site)


def test_no_link_is_broken(site):
    assert len(list(site.rglob("*.html"))) > len(NOTEBOOKS)
    assert not broken_links(site)


@every_notebook
def test_a_page_links_to_colab_and_to_the_notebook(site, builder, path):
    links = Page(site / "notebooks" / f"{path.stem}.html").links
    place = (
        f"{builder.REPOSITORY.removeprefix('https://')}/blob/{builder.TAG}/notebooks/{path.name}"
    )
    assert any(place.replace("github.com", "research.google.com/github") in u for u in links)
    assert f"https://{place}" in links
    (download,) = (u for u in links if u.endswith(path.name) and "_downloads" in u)
    assert (site / "notebooks" / download).resolve().read_bytes() == path.read_bytes()


@every_notebook
def test_a_page_has_every_formula_and_every_figure(site, path):
    text = (site / "notebooks" / f"{path.stem}.html").read_text()
    cells = nbformat.read(path, 4).cells
    prose = [re.sub(r"`[^`]*`", "", c.source) for c in cells if c.cell_type == "markdown"]
    assert text.count("<math ") == sum(len(FORMULA.findall(part)) for part in prose)
    assert "\\(" not in text
    pictures = sum(
        bool({"image/png", "image/jpeg"} & set(output.get("data", {})))
        for cell in cells for output in cell.get("outputs", [])
    )  # fmt: skip
    assert len(re.findall(r'<img[^>]*src="\.\./_images/', text)) == pictures


def test_the_gallery_leads_to_every_notebook(site):
    text = (site / "index.html").read_text()
    cards = re.findall(r'class="sd-card .*?</a>', text, re.DOTALL)
    for path, card in zip(NOTEBOOKS, cards, strict=True):
        title = nbformat.read(path, 4).cells[0].source.splitlines()[0].removeprefix("# ")
        assert title in card.replace("&#39;", "'")
        assert f'href="notebooks/{path.stem}.html"' in card


def test_the_covers_are_figures_with_a_description(builder):
    import tomllib

    covers = tomllib.loads((ROOT / "docs" / "covers.toml").read_text())
    figures = ROOT / "figures" / "laptop"
    for number, cover in covers.items():
        assert cover["figure"].startswith(f"{number}_")
        assert (figures / f"{cover['figure']}.png").is_file()
        assert cover["alt"]


# ---- the checks above, and faults --------------------------------------------------------------


@pytest.mark.parametrize("text", [
    '<script src="https://cdn.example.org/x.js"></script>',
    '<link rel="stylesheet" href="//fonts.example.org/x.css">',
    '<img src="http://example.org/badge.svg">',
    '<img srcset="a.png 1x, https://example.org/b.png 2x">',
    '<p style="background: url(https://example.org/x.png)">',
])  # fmt: skip
def test_a_load_from_elsewhere_is_noticed(tmp_path, text):
    (tmp_path / "page.html").write_text(text)
    assert loaded_from_elsewhere(tmp_path)
    (tmp_path / "page.html").write_text('<a href="https://example.org">a link is no load</a>')
    assert not loaded_from_elsewhere(tmp_path)
    (tmp_path / "x.css").write_text("@font-face { src: url('https://example.org/f.woff') }")
    assert loaded_from_elsewhere(tmp_path)


@pytest.mark.parametrize("url", ["gone.html", "page.html#gone", "#gone", "gone.png"])
def test_a_broken_link_is_noticed(tmp_path, url):
    text = '<h1 id="top"></h1><a href="{}"></a>'
    (tmp_path / "page.html").write_text(text.format(url))
    assert broken_links(tmp_path)
    (tmp_path / "page.html").write_text(text.format("page.html#top"))
    assert not broken_links(tmp_path)


@pytest.fixture
def small(builder, monkeypatch, tmp_path):
    """Return a repository with one notebook and no figures; the builder builds this one."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.pyc"))
    for page in ("instructors.md", "house.md"):  # they link to files that are not there
        (tmp_path / "docs" / page).unlink()
    (tmp_path / "docs" / "index.md").write_text("# Small\n\n{{gallery}}\n")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    book = nbformat.read(NOTEBOOKS[0], 4)
    book.cells = book.cells[:2]
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(builder, "ROOT", tmp_path)

    def write(extra):
        book.cells[0].source += f"\n\n{extra}\n"
        nbformat.write(book, tmp_path / "notebooks" / "01_small.ipynb")
        return tmp_path

    return write


def test_a_small_site_is_built_in_the_place_of_an_older_one(small, builder, tmp_path):
    small("See [the project](../pyproject.toml) and [the start](../docs/index.md).")
    old = tmp_path / "site" / "old.html"
    old.parent.mkdir()
    old.write_text("old")
    builder.build(tmp_path / "site")
    assert not old.exists()
    text = (tmp_path / "site" / "notebooks" / "01_small.html").read_text()
    assert f"{builder.REPOSITORY}/blob/{builder.TAG}/pyproject.toml" in text
    assert 'href="../index.html"' in text


@pytest.mark.parametrize(("extra", "word"), [
    ("[a file](../gone.md)", "gone.md"),
    ("[a place](../docs/index.md#gone)", "gone"),
    (r"$\unknowncommand x$", "unknowncommand"),
])  # fmt: skip
def test_a_fault_is_one_line_and_leaves_the_older_site(
    small, builder, tmp_path, one_line, extra, word
):
    small(extra)
    old = tmp_path / "site" / "old.html"
    old.parent.mkdir()
    old.write_text("old")
    with pytest.raises(WorkbookError) as error:
        builder.build(tmp_path / "site")
    one_line(error, word)
    assert old.read_text() == "old"


# ---- in a browser ------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desktop"])
def test_pages_fit_the_screen_and_need_no_network(site, tmp_path, width):
    with chromium(width) as driver:
        for path in sorted(site.rglob("*.html")):
            driver.get(path.as_uri())
            wide, missing, fonts = driver.execute_script(
                "return [document.documentElement.scrollWidth - innerWidth,"
                "[...document.images].filter(i => !i.naturalWidth).map(i => i.src),"
                "[...document.fonts].filter(f => f.status == 'error').map(f => f.family)]"
            )
            assert wide <= 0, path.name
            assert not missing + fonts + faults(driver)
            driver.save_screenshot(str(tmp_path / f"{path.stem}.png"))
        messages = [
            json.loads(line["message"])["message"] for line in driver.get_log("performance")
        ]
    asked = [
        m["params"]["request"]["url"] for m in messages if m["method"].endswith("requestWillBeSent")
    ]
    assert len(asked) > len(NOTEBOOKS)
    assert not [url for url in asked if not re.match("file:|data:", url)]
