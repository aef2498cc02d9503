"""Explorers: every control changes the picture, live in a browser as well as on a rendered page."""

import importlib.util
import io
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import ipywidgets
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import papermill
import pytest
import torch
from browsing import chromium, faults
from PIL import Image

from helpers.course import explorers
from helpers.course.explorers import explorer, network
from helpers.explain import lime
from helpers.nets import models
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parent.parent
SETUP = """import pandas as pd
from helpers import data
from helpers.course import explorers
from helpers.dissect.units import COLUMNS
from helpers.nets import models
test = data.load("shapes", "test", 6)
classifier = models.build("shapes_net", test.class_names, 64)
rows = [(f"layer{n}", u, ["edge", "round"][u % 2], u / 24, "") for n in (1, 2) for u in range(24)]
nameless = ("layer1", 24, None, float("nan"), None)
labels = pd.DataFrame([*rows, nameless], columns=COLUMNS)
labels.attrs = {"name": "by hand"}"""
CALLS = {
    "feature maps": "explorers.feature_maps(classifier, test.images)",
    "cam": "explorers.cam(classifier, test.images)",
    "lime": "explorers.lime(classifier, test.images, num_samples=60)",
    "units": "explorers.units(labels, explorers.most_exciting(classifier, test.images, 4))",
}
CONTROLS = {
    "feature maps": ["image", "layer", "channel"],
    "cam": ["image", "method", "layer", "class", "opacity"],
    "lime": ["image", "superpixels", "strongest"],
    "units": ["layer", "label", "rank"],
}

every_explorer = pytest.mark.parametrize("name", CALLS)


@pytest.fixture(scope="module")
def scene():
    there: dict = {}
    exec(SETUP, there)
    return there


@pytest.fixture
def make(scene):
    return lambda name: eval(CALLS[name], scene)


def another(control):
    """Return a value of a control that it does not have now."""
    if isinstance(control, ipywidgets.Dropdown):
        values = [o[1] if isinstance(o, tuple) else o for o in control.options]
        return next(v for v in values if v != control.value)
    if isinstance(control.value, bool):
        return not control.value
    return control.max if control.value != control.max else control.min


# ---- controls and pictures ---------------------------------------------------------------------


@every_explorer
def test_an_explorer_has_its_controls_and_each_is_labelled(make, name):
    assert list(make(name).controls) == CONTROLS[name]


@pytest.mark.parametrize(("name", "control"), [(n, c) for n in CONTROLS for c in CONTROLS[n]])
def test_every_control_changes_the_picture_and_back(make, name, control):
    shown = make(name)
    first, value = shown.png, shown.controls[control].value
    shown.controls[control].value = another(shown.controls[control])
    assert shown.png != first
    if control not in ("layer", "image"):  # these two choose the others anew
        shown.controls[control].value = value
        assert shown.png == first


@every_explorer
def test_an_explorer_leaves_no_figure_behind(make, name):
    before = plt.get_fignums()
    shown = make(name)
    control = next(iter(shown.controls.values()))
    control.value = another(control)
    assert plt.get_fignums() == before


@every_explorer
def test_the_picture_has_its_caption_as_alternative_text_and_keeps_its_size(make, name):
    shown = make(name)
    size = Image.open(io.BytesIO(shown.png)).size
    for control in shown.controls.values():
        control.value = another(control)
        assert f'alt="{shown.caption.value}"' in shown.picture.value
        assert Image.open(io.BytesIO(shown.png)).size == size


def test_a_caption_with_quotes_and_brackets_stays_text(make):
    shown = make("cam")
    shown.draw = lambda: (plt.figure(), '"<b>"')
    shown.show()
    assert 'alt="&quot;&lt;b&gt;&quot;"' in shown.picture.value
    assert shown.caption.value == "&quot;&lt;b&gt;&quot;"
    assert shown._repr_mimebundle_()["text/plain"] == '"<b>"'


def test_a_fault_while_drawing_is_told_in_the_caption(make, monkeypatch):
    shown = make("cam")

    def fail(*_arguments, **_options):
        raise WorkbookError("no <map> here")

    monkeypatch.setattr(network, "explain", fail)
    shown.controls["method"].value = "layercam"
    assert shown.caption.value == "no &lt;map&gt; here"
    monkeypatch.undo()
    shown.controls["method"].value = "hirescam"
    assert "HiResCAM" in shown.caption.value


# ---- what is shown is what was computed --------------------------------------------------------


def test_a_layer_begins_with_the_channel_that_answers_most(make, scene):
    shown = make("feature maps")
    for layer in ("layer3", "layer1"):  # from 96 channels down to 24
        shown.controls["layer"].value = layer
        maps = network.layer_maps(scene["classifier"], layer, scene["test"].images[:1])[0]
        assert shown.controls["channel"].value == maps.amax(dim=(1, 2)).argmax()
        assert shown.controls["channel"].max == len(maps) - 1
        assert f"largest activation {maps.max():.2f}" in shown.text
        assert f"number 1 of {len(maps)} channels" in shown.text


def test_a_cam_is_of_the_chosen_class_layer_and_image(make, scene, monkeypatch):
    shown, seen = make("cam"), []
    explain = network.explain
    monkeypatch.setattr(network, "explain", lambda *a: seen.append(a) or explain(*a))
    shown.controls["image"].value = 3
    shown.controls["layer"].value = "layer2"
    chosen = another(shown.controls["class"])
    shown.controls["class"].value = chosen
    method, _, images, classes, layer = seen[-1]
    assert (method, layer, classes.tolist()) == ("gradcam", "layer2", [chosen])
    assert torch.equal(images, scene["test"].images[3:4])
    assert scene["test"].class_names[chosen] in shown.text
    n = len(seen)
    shown.controls["opacity"].value = 0.1
    assert len(seen) == n, "opacity needs no new heatmap"


def test_the_most_probable_classes_are_offered_first(scene):
    probabilities = scene["classifier"].probabilities(scene["test"].images)
    shown = explorers.cam(scene["classifier"], scene["test"].images, n_classes=3)
    shown.controls["image"].value = 2
    offered = [c for _, c in shown.controls["class"].options]
    assert offered == probabilities[2].argsort(descending=True)[:3].tolist()


def test_lime_shows_the_mask_of_the_strongest_superpixels(scene, monkeypatch):
    classifier, images = scene["classifier"], scene["test"].images
    classes = torch.tensor([1, 2, 3, 4, 5, 6])
    found = lime.explain(classifier, images, classes, num_samples=60)
    monkeypatch.setattr(lime, "explain", None)  # nothing is explained twice
    shown = explorers.lime(classifier, images, classes, found)
    for i, k in ((0, 1), (4, 3)):
        shown.controls["image"].value = i
        shown.controls["strongest"].value = k
        c = int(classes[i])
        area = lime.mask(found[i], c, k).float().mean()
        assert shown.controls["strongest"].max == (lime.weights(found[i], c) > 0).sum()
        assert f"LIME for {classifier.class_names[c]}: the {k} strongest" in shown.text
        assert f"cover {area:.0%}" in shown.text


def test_borders_run_between_superpixels():
    segments = np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]])
    _, ax = plt.subplots()
    network._show_borders(ax, segments, "black")
    lines = {tuple(map(tuple, path.vertices)) for path in ax.collections[0].get_paths()}
    plt.close()
    assert lines == {
        ((1.5, -0.5), (1.5, 0.5)), ((1.5, 0.5), (1.5, 1.5)),
        ((-0.5, 1.5), (0.5, 1.5)), ((0.5, 1.5), (1.5, 1.5)), ((1.5, 1.5), (2.5, 1.5)),
    }  # fmt: skip


def test_units_come_in_the_order_of_their_score(make):
    shown = make("units")
    scores = []
    for rank in (1, 2, 24):
        shown.controls["rank"].value = rank
        scores.append(float(shown.text.split("score ")[1].split(";")[0]))
    assert scores == [0.958, 0.917, 0]
    shown.controls["label"].value = "edge"
    assert (shown.controls["rank"].value, shown.controls["rank"].max) == (1, 12)
    assert "unit 22: edge, score 0.917; number 1 of 12 units called edge" in shown.text
    shown.controls["layer"].value = "layer2"
    assert shown.controls["label"].value == "any"
    assert shown.text.startswith("layer2, unit 23: round")


def test_no_labelled_units_are_an_error(scene, one_line):
    with pytest.raises(WorkbookError) as error:
        explorers.units(scene["labels"][scene["labels"].label.isna()], lambda layer, unit: None)
    one_line(error, "by hand labels no unit", "dissect")


def test_the_most_exciting_images_lead_and_share_one_scale(scene):
    classifier, images = scene["classifier"], scene["test"].images
    top, heat = explorers.most_exciting(classifier, images, 4)("layer2", 5)
    maps = network.layer_maps(classifier, "layer2", images)[:, 5]
    order = maps.amax(dim=(1, 2)).argsort(descending=True)[:4]
    assert torch.equal(top, images[order])
    assert heat.shape == (4, 64, 64)
    assert heat[0].max() == 1
    assert heat.min() >= 0
    peaks = heat.amax(dim=(1, 2)).tolist()
    assert len(set(peaks)) > 1
    few, _ = explorers.most_exciting(classifier, images[:2], 4)("layer2", 5)
    assert len(few) == 2


def test_the_tokens_of_a_transformer_are_explored_as_maps(scene):
    vit = models.build("shapes_vit", scene["test"].class_names, 64)
    shown = explorers.feature_maps(vit, scene["test"].images[:2])
    shown.controls["layer"].value = vit.architecture.stages[-1]
    assert "a map of 8 x 8" in shown.text
    assert "Grad-CAM" in explorers.cam(vit, scene["test"].images[:2]).text


# ---- without a front end -----------------------------------------------------------------------


@every_explorer
def test_a_page_without_widgets_finds_the_first_picture(make, name):
    shown = make(name)
    bundle = shown._repr_mimebundle_()
    assert set(bundle) == {explorer.VIEW, "image/png", "text/plain"}
    assert bundle[explorer.VIEW]["model_id"] == shown.panel.model_id
    pixels = np.asarray(Image.open(io.BytesIO(shown.png)).convert("L"))
    assert pixels.std() > 20


def notebook(path):
    """Write a notebook with one explorer per cell."""
    cells = [nbformat.v4.new_code_cell(code) for code in (SETUP, *CALLS.values())]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, path)
    return path


def test_a_headless_run_is_rendered_as_pictures(tmp_path):
    spec = importlib.util.spec_from_file_location("render", ROOT / "scripts" / "render.py")
    render = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    executed = tmp_path / "executed.ipynb"
    papermill.execute_notebook(
        str(notebook(tmp_path / "explorers.ipynb")), str(executed), progress_bar=False
    )
    for cell in nbformat.read(executed, 4).cells[1:]:
        (output,) = render.clean_outputs(cell.outputs)
        assert set(output.data) in ({"image/png", "text/plain"}, {"image/jpeg", "text/plain"})


@pytest.mark.parametrize("call", ["feature_maps", "cam", "lime", "units"])
def test_a_rendered_notebook_shows_each_explorer(call):
    cells = [
        cell
        for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
        for cell in nbformat.read(path, 4).cells
        if f"explorers.{call}(" in cell.source
    ]
    assert cells
    for cell in cells:
        (output,) = cell.outputs
        assert {"image/png", "image/jpeg"} & set(output.data)


# ---- in a browser ------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path):
    """Return a headless Chromium, and a notebook with all explorers open in JupyterLab."""
    pytest.importorskip("jupyterlab", reason='no JupyterLab: pip install -e ".[site]"')
    notebook(tmp_path / "explorers.ipynb")
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{n}_DIR": str(tmp_path / n) for n in ("SETTINGS", "WORKSPACES")}
    with chromium(1280) as driver:
        with socket.socket() as free:  # only now, or the browser may take the port
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
             "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--LabApp.news_url=None",
             "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
             "--LabApp.extension_manager=readonly", "--LabApp.expose_app_in_browser=True",
             f"--ServerApp.root_dir={tmp_path}"],
            env={**os.environ, **own, "HOME": str(tmp_path)}, cwd=tmp_path,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: urllib.request.urlopen(f"{address}/api", timeout=1).status == 200)
            driver.get(f"{address}/doc/tree/explorers.ipynb")
            yield driver
            driver.save_screenshot(str(tmp_path / "last.png"))
        finally:
            server.terminate()
            server.wait()


def until(question, seconds=60):
    """Ask until the answer is true, and return it."""
    end, answer = time.monotonic() + seconds, None
    while time.monotonic() < end:
        try:
            if answer := question():
                return answer
        except (OSError, IndexError) as error:  # not there yet
            answer = error
        time.sleep(0.1)
    raise AssertionError(f"still {answer!r} after {seconds} seconds")


def test_explorers_work_in_a_browser_from_the_keyboard(browser, tmp_path):
    from selenium.webdriver.common.keys import Keys

    def find(selector, root=browser):
        return root.find_elements("css selector", selector)

    def picture(cell):
        """Return the picture's data once the browser has read it."""
        return browser.execute_script(
            "const image = arguments[0].querySelector('img[alt]');"
            "return image && image.complete && image.src", cell,
        )  # fmt: skip

    def key_of(menu):
        last = menu.get_property("selectedIndex") == menu.get_property("length") - 1
        return Keys.ARROW_UP if last else Keys.ARROW_DOWN

    kernel = (
        "return window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
    )
    until(lambda: browser.execute_script(kernel) == "idle")
    until(lambda: len(find(".jp-CodeCell")) > len(CONTROLS))
    browser.execute_script("jupyterapp.commands.execute('notebook:run-all-cells')")
    for cell, (name, controls) in zip(find(".jp-CodeCell")[1:], CONTROLS.items(), strict=True):
        browser.execute_script("arguments[0].scrollIntoView()", cell)
        seen = [until(lambda cell=cell: picture(cell))]
        fields = find("select, input", cell)
        assert [field.accessible_name for field in fields] == controls
        assert all(slider.accessible_name in controls for slider in find("[role=slider]", cell))
        steps = [(menu, key_of(menu)) for menu in fields if menu.tag_name == "select"]
        steps += [(f, Keys.SPACE) for f in fields if f.get_attribute("type") == "checkbox"]
        steps += [(slider, Keys.ARROW_RIGHT) for slider in find("[role=slider]", cell)]
        for element, key in steps:
            element.send_keys(key)
            until(lambda cell=cell, seen=seen: picture(cell) not in (None, False, seen[-1]))
            seen.append(picture(cell))
        browser.save_screenshot(str(tmp_path / f"{name}.png"))
    assert not faults(browser)
