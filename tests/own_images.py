"""Run a notebook on images of one's own: easy class folders, and networks that fail in known ways.

``run("04", classes=12, network="blind")`` executes the code cells of notebook 4 in this process,
on a folder with twelve classes and a network that is never right on one of them. It returns the
text that the notebook printed and the tables that it showed, and raises the first cell's error.
Nothing is written outside of a temporary folder.
"""

import ast
import io
import json
import re
import shutil
import tempfile
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from helpers.course.explorers import explorer
from helpers.nets import checkpoints, training
from helpers.run import figures, profiles, results

ROOT = Path(__file__).resolve().parent.parent
CLASSES = (2, 3, 12)
NETWORKS = (
    "perfect",  # makes no mistake
    "blind",  # never says the second class, so that it is never right on it
    "wrong",  # takes every class for the next one, so that it is never right
)
SLIP = "slip"  # one mistake: a single test image lies in the folder of another class
NAMES = (
    "sea lion", "cat_2", "Löwe", "red fox", "owl", "bee",
    "ant", "cow", "dog", "elk", "fish", "goat",
)  # fmt: skip
IMAGES = {"train": 20, "test": 8}  # of each class

# In place of what profile quick says: enough to go through every cell.
SMALL = {
    "images": {"probe": 40, "judged": 20},
    "text_lime": {"samples": 60, "scored": 6, "traced": 3, "seeds": 2, "sizes": [20, 50]},
    "trust": {
        "images": 4, "samples": 20, "steps": 3, "road_shares": [0.3], "sensitivity_images": 2,
        "sensitivity_tries": 1, "sanity_images": 2, "shapley_images": 1, "superpixels": 9,
        "orders": 2, "ten_samples": 20,
    },
    "dissection": {"probe": 100},
    "agreement": {"images": 8, "samples": 40, "many_samples": 30, "random": 20, "random_many": 10},
    "lime": {
        "samples": 20, "cifar_samples": 20, "seeds": 2, "many": 20, "few": 10, "plain": 3,
    },
}  # fmt: skip
SMALL_LAB = {"images": {"test": 40, "probe": 60, "judged": 20}}


def paint(root: Path, classes: int, images: dict[str, int] = IMAGES) -> Path:
    """Write ``root/{train,test}/<class>/*.png``: a disc on a grey ground, a colour for each class.

    A child tells them apart, and so does a network after seconds.
    """
    rng = np.random.default_rng(classes)
    y, x = np.indices((64, 64))
    for split, n in images.items():
        for c, name in enumerate(sorted(NAMES[:classes])):
            folder = root / split / name
            folder.mkdir(parents=True)
            hue = plt.cm.hsv(c / classes)[:3]
            for i in range(n):
                pixels = np.full((64, 64, 3), rng.uniform(0.2, 0.8))
                centre, radius = rng.uniform(20, 44, 2), rng.uniform(12, 20)
                pixels[np.hypot(y - centre[0], x - centre[1]) < radius] = hue
                pixels = (pixels + rng.normal(0, 0.04, pixels.shape)).clip(0, 1)
                Image.fromarray((255 * pixels).astype(np.uint8)).save(folder / f"{i:02d}.png")
    return root


def spoil(classifier, network: str) -> None:
    """Change a perfect classifier into one that fails in a known way."""
    head = classifier.layer(classifier.architecture.head)
    with torch.no_grad():
        if network == "blind":
            head.bias[1] -= 100
        if network == "wrong":
            head.weight.copy_(head.weight.roll(1, 0))
            head.bias.copy_(head.bias.roll(1, 0))


@cache
def _kept() -> tempfile.TemporaryDirectory:
    """Return a folder for this process, which goes with it."""
    return tempfile.TemporaryDirectory(prefix="own-images-")


@cache
def folder(classes: int, network: str = "perfect") -> Path:
    """Return a painted folder with so many classes; it is painted once."""
    if network != SLIP:
        return _painted(classes)
    root = Path(_kept().name) / f"{classes}-classes-slip"
    shutil.copytree(_painted(classes), root)
    first, second, *_ = sorted((root / "test").iterdir())
    shutil.copy(first / "00.png", second / "00.png")
    return root


@cache
def _painted(classes: int) -> Path:
    return paint(Path(_kept().name) / f"{classes}-classes", classes)


@cache
def _weights(classes: int) -> dict[str, torch.Tensor]:
    """Train a network that is always right, on all images of the folder, and return its weights."""
    profile = _small_profile("quick", dataset=f"folder:{folder(classes)}", start="random")
    classifier, _ = training.untrained(profile)
    train, test = (training.load_split(profile, split) for split in ("train", "test"))
    both = replace(
        train, pixels=torch.cat([train.pixels, test.pixels]), ids=train.ids + test.ids,
        labels=torch.cat([train.labels, test.labels]),
    )  # fmt: skip
    for epochs in (6, 8, 12):
        recipe = training.Recipe(epochs, 5e-3, batch_size=16, sizes=(32, 64))
        training.fit(classifier, both, test, recipe)
        if training.accuracy(classifier, test) == 1:
            return {k: v.clone() for k, v in classifier.network.state_dict().items()}
    raise AssertionError("the easy images were not learned")


@cache
def checkpoint(classes: int, network: str) -> Path:
    """Write a network where the notebooks look for it; return the folder for WORKBOOK_DATA."""
    data_folder = Path(_kept().name) / f"{classes}-{network}"
    dataset = f"folder:{folder(classes, network)}"
    profile = _small_profile("quick", dataset=dataset, start="random")
    recipes = {
        "all": training.recipe_of(profile),
        "last": training.recipe_of(profile, layers="last", **vars(profile.last_layer)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBOOK_DATA", str(data_folder))
        for recipe in recipes.values():
            classifier, start = training.untrained(profile)
            made_by = checkpoints.configuration(classifier, profile, asdict(recipe), start)
            classifier.network.load_state_dict(_weights(classes))
            spoil(classifier, network)
            epochs = [0.5] * recipe.epochs
            history = training.History(epochs, epochs, epochs, seconds=1.0)
            checkpoints.save(checkpoints.paths(made_by)[0], classifier, made_by, asdict(history))
    return data_folder


def run(notebook: str, *, classes: int = 3, network: str = "perfect", dataset: str = "") -> str:
    """Execute a notebook's code cells at profile quick with very small counts.

    Args:
        notebook: what its file name begins with, such as ``"04"``.
        classes: of the folder, one of :data:`CLASSES`.
        network: one of :data:`NETWORKS`, or :data:`SLIP`.
        dataset: another data set instead of the folder; its classifier is then trained.

    Returns:
        What the cells print and show as text. The numbers recorded are in :func:`recorded`.

    Raises:
        AssertionError: a cell fails or warns (the message has its number, id and error), or the
            report would lack a number, a table or a figure of this notebook.
    """
    (path,) = (ROOT / "notebooks").glob(f"{notebook}*.ipynb")
    names = {"__name__": "__main__"}
    drawn.clear()
    with _workplace(checkpoint(classes, network)), redirect_stdout(io.StringIO()) as text:
        for i, cell in enumerate(nbformat.read(path, 4).cells):
            tags = cell.metadata.get("tags", [])
            if cell.cell_type != "code" or "setup" in tags:
                continue
            try:
                _execute(cell.source, names)
            except Exception as error:
                raise AssertionError(
                    f"{path.stem}, cell [{i}] {cell.id}, {classes} classes, {network}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            finally:
                plt.close("all")
            if "parameters" in tags:
                names["PROFILE"], names["START"] = "quick", "random"
                names["DATASET"] = dataset or f"folder:{folder(classes, network)}"
    book = results._run["book"]
    made = drawn | {*book["tables"], *book["numbers"]}
    made |= {f"{name}/low" for name, entry in book["numbers"].items() if "low" in entry}
    lacking = sorted(needed_by_report(path.stem) - made)
    assert not lacking, f"{path.stem}, {classes} classes, {network}: the report lacks {lacking}"
    return text.getvalue()


def needed_by_report(notebook: str) -> set[str]:
    """Return the numbers, tables and figures of a notebook that the report takes from any run."""
    report = (ROOT / "report" / "report.tex").read_text(encoding="utf-8")
    report = report.partition(r"\begin{document}")[2]
    argument = r"\{((?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*)\}\s*"
    report = re.sub(rf"\\ifresult{argument * 3}", "", report)  # what may be left out
    asked = re.findall(r"\\(result|interval)\{([^{}]+)\}", report)
    files = re.findall(r"\\(?:includegraphics\[[^]]*\]|input)\{(?:generated/)?([^{}.]+)", report)
    book = json.loads((ROOT / f"figures/laptop/results/{notebook}.json").read_text("utf-8"))
    ours = [(kind, name) for kind, name in asked if name in book["numbers"]]
    needed = {name for _, name in ours}
    needed |= {f"{name}/low" for kind, name in ours if kind == "interval"}
    return needed | {file for file in files if file.startswith(notebook[:3])}


def recorded() -> dict[str, object]:
    """Return what the last run has recorded: name to number, word, or None."""
    return {name: entry["value"] for name, entry in results._run["book"]["numbers"].items()}


def _execute(source: str, names: dict) -> None:
    """Run a cell, and print what its last line gives, as a notebook does."""
    tree = ast.parse(re.sub(r"^( *)[%!].*$", r"\1pass", source, flags=re.MULTILINE))
    last = tree.body[-1] if tree.body else None
    shown = isinstance(last, ast.Expr) and not source.rstrip().endswith(";")
    body = tree.body[:-1] if shown else tree.body
    exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
    if shown:
        value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
        if value is not None:
            print(value)


def _smaller(profile: profiles.Profile, changes: dict) -> profiles.Profile:
    for name, value in changes.items():
        if isinstance(value, dict):
            vars(getattr(profile, name)).update(value)
        else:
            setattr(profile, name, value)
    return profile


_load, _lab = profiles.load, profiles.shapes_lab


def _small_profile(name: str = "quick", **overrides: object) -> profiles.Profile:
    return _smaller(_load(name, **overrides), SMALL)


def _small_lab(**overrides: object) -> profiles.Profile:
    return _smaller(_lab(**overrides), SMALL_LAB)


drawn: set[str] = set()  # the figures of the last run


def _looked_at(figure: plt.Figure, name: str = "") -> None:
    """Draw a figure once, small and without looking for the best layout, and close it.

    What stands in the figure itself, outside of axes, is printed.
    """
    drawn.add(name)
    for text in figure.texts:
        print(text.get_text())
    figure.set_layout_engine("none")
    figure.set_dpi(20)
    figure.canvas.draw()
    plt.close(figure)


@contextmanager
def _workplace(data_folder: Path):
    """Put everything that a notebook writes or draws into temporary places."""
    with (
        pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(),
        tempfile.TemporaryDirectory() as written, redirect_stderr(io.StringIO()),
    ):  # fmt: skip
        patch.setenv("WORKBOOK_DATA", str(data_folder))
        patch.setenv("TQDM_DISABLE", "1")
        patch.delenv("WORKBOOK_RUN", raising=False)
        patch.setattr(results, "folder", lambda: Path(written))
        patch.setattr(profiles, "load", _small_profile)
        patch.setattr(profiles, "shapes_lab", _small_lab)
        patch.setattr(figures, "save", _looked_at)
        patch.setattr(explorer, "_png", lambda figure: _looked_at(figure) or b"")
        patch.setattr(plt, "show", lambda: plt.close("all"))
        patch.chdir(ROOT / "notebooks")
        # The mean of nothing, 0 / 0: a reader would see the warning, and then a nan.
        warnings.simplefilter("error", RuntimeWarning)
        yield
