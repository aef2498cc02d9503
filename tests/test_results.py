"""Results and figures: every number is kept whole, and LaTeX gets what was measured."""

import errno
import json
import multiprocessing
import os

import latex
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from helpers.run import figures, files, profiles, results
from helpers.run.errors import WorkbookError
from helpers.run.results import Estimate


@pytest.fixture
def started(tmp_root, capsys):
    results.start("01_test", profiles.load("quick"), dataset="shapes", model="net", notes=("", "a"))
    capsys.readouterr()
    return tmp_root / "figures" / "quick"


def numbers():
    return latex.load("quick")["numbers"]


# ---- recording ---------------------------------------------------------------------------------


def test_a_number_is_kept_with_all_that_it_depends_on(started):
    text = results.record("test/time", 1.234, ".1f", unit="s", n=7)
    assert text == "1.2 s"
    assert numbers()["test/time"] == {
        "value": 1.234,
        "spec": ".1f",
        "unit": "s",
        "n": 7,
        "notebook": "01_test",
        "dataset": "shapes",
        "model": "net",
        "notes": ["a"],
        "seed": 0,
    }


def test_an_estimate_is_kept_with_its_interval(started):
    text = results.record("test/accuracy", Estimate(0.9, 0.85, 0.95, 100), ".0%")
    assert text == "90% [85%, 95%]"
    entry = numbers()["test/accuracy"]
    assert [entry[k] for k in ("value", "low", "high", "n")] == [0.9, 0.85, 0.95, 100]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(0.5), "0.5"),
        (np.int64(3), "3"),
        (torch.tensor(2.0), "2.0"),
        (torch.tensor(4), "4"),
        ("cat", "cat"),
        (Estimate(np.float32(1), np.float32(0), np.float32(2), 5), "1.0 [0.0, 2.0]"),
    ],
    ids=["float32", "int64", "tensor", "int tensor", "word", "numpy estimate"],
)
def test_scalars_of_all_kinds_are_kept(started, value, text):
    assert results.record("value", value) == text
    assert "value" in numbers()


@pytest.mark.parametrize("name", ["", "two words", "a%b", "a.b", "a\\b", "{a}", "é!"])
def test_a_name_that_latex_cannot_hold_is_refused(started, name, one_line):
    with pytest.raises(WorkbookError) as error:
        results.record(name, 1)
    one_line(error, repr(name), "letters")
    assert numbers() == {}


def test_nothing_can_be_recorded_before_the_start(tmp_root, one_line):
    for attempt in (
        lambda: results.record("a", 1),
        lambda: results.record_table("a", {"b": [1]}),
        lambda: figures.save(plt.figure(), "a"),
    ):
        with pytest.raises(WorkbookError) as error:
            attempt()
        one_line(error, "results.start")
    plt.close("all")


def test_a_new_start_forgets_the_notebook_s_earlier_run_and_nothing_else(started):
    results.record("a", 1)
    results.record_table("table-a", {"x": [1]})
    profile = profiles.load("quick")
    results.start("02_other", profile, dataset="d", model="m")
    results.record("b", 2)
    results.start("01_test", profile, dataset="shapes", model="net")
    results.record("c", 3)
    assert set(numbers()) == {"b", "c"}
    assert latex.load("quick")["tables"] == {}
    assert set(latex.load("quick")["notebooks"]) == {"01_test", "02_other"}


def test_provenance_notes_are_shown_once(tmp_root, capsys):
    notes = ("lossy copies", "", "lossy copies", "folded")
    results.start("01_test", profiles.load("quick"), dataset="d", model="m", notes=notes)
    shown = capsys.readouterr().out
    assert shown.count("Note: lossy copies.") == 1
    assert "Note: folded." in shown
    assert latex.load("quick")["notebooks"]["01_test"]["notes"] == ["lossy copies", "folded"]


def test_profiles_keep_their_results_apart(started):
    results.record("a", 1)
    results.start("01_test", profiles.load("laptop"), dataset="d", model="m")
    results.record("a", 2)
    assert numbers()["a"]["value"] == 1
    assert latex.load("laptop")["numbers"]["a"]["value"] == 2


NAN = float("nan")


@pytest.mark.parametrize(
    "value",
    [NAN, np.float32(NAN), torch.tensor(NAN), float("inf"), Estimate(NAN, NAN, NAN, 0)],
    ids=["nan", "numpy", "torch", "infinity", "estimate"],
)
def test_a_number_that_there_is_not_is_null_and_a_dash(started, tmp_path, value):
    assert results.record("wrong/mean", value, ".2f", unit="s") == "–"
    assert numbers()["wrong/mean"]["value"] is None
    assert definition("wrong/mean", "--") in written(tmp_path / "generated")


def test_a_bound_that_there_is_not_is_null_and_the_number_stays(started, tmp_path):
    results.record("a", Estimate(0.5, NAN, 1.0, 1), ".1f")
    assert [numbers()["a"][key] for key in ("value", "low", "high")] == [0.5, None, 1.0]
    text = written(tmp_path / "generated")
    assert definition("a", "0.5") in text
    assert definition("a/low", "--") in text


def test_a_notebook_that_repeats_a_name_of_another_is_told(started, one_line):
    results.record("a", 1)
    results.start("02_other", profiles.load("quick"), dataset="d", model="m")
    results.record("a", 2)
    with pytest.raises(WorkbookError) as error:
        latex.load("quick")
    one_line(error, "01_test and 02_other", "'a'")


def test_no_notebook_writes_into_the_file_of_another(started):
    results.record("a", 1)
    before = (started / "results" / "01_test.json").read_bytes()
    results.start("02_other", profiles.load("quick"), dataset="d", model="m")
    results.record("b", 2)
    assert (started / "results" / "01_test.json").read_bytes() == before
    assert sorted(p.name for p in (started / "results").iterdir()) == [
        "01_test.json",
        "02_other.json",
    ]


def test_a_run_with_other_parameters_has_a_folder_of_its_own(tmp_root, monkeypatch):
    results.start("01", profiles.load("quick", model="resnet20"), dataset="d", model="m")
    assert results.folder() == tmp_root / "figures" / "quick-model-resnet20"
    monkeypatch.setenv("WORKBOOK_RUN", "another")
    results.start("01", profiles.load("quick", model="resnet20"), dataset="d", model="m")
    assert results.folder() == tmp_root / "figures" / "another", "the runner's name wins"


def write_many(root, notebook, n):
    """What one of two processes does that write at the same time."""
    from pathlib import Path

    files.ROOT = Path(root)
    results.start(notebook, profiles.load("quick"), dataset="d", model="m")
    for i in range(n):
        results.record(f"{notebook}/{i}", i)


def test_two_processes_that_write_at_once_lose_nothing(tmp_root):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=write_many, args=(str(tmp_root), name, 40)) for name in ("01", "02")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert len(numbers()) == 80


def test_a_failed_write_keeps_the_earlier_results(started, monkeypatch, one_line):
    results.record("a", 1)

    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(WorkbookError) as error:
            results.record("b", 2)
    one_line(error, "01_test.json", "No space left", "nothing was changed")
    assert set(numbers()) == {"a"}
    assert [p.name for p in (started / "results").iterdir()] == ["01_test.json"]
    results.record("c", 3)
    assert set(numbers()) == {"a", "c"}, "what was refused must not come back"


def test_an_interrupted_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), files.atomic(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_fault_of_the_writer_is_not_mistaken_for_a_full_disk(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"), files.atomic(tmp_path / "file.txt"):
        raise RuntimeError("a bug")


# ---- LaTeX -------------------------------------------------------------------------------------


def written(target, name="results.tex"):
    latex.write("quick", target)
    return (target / name).read_text()


def definition(name, text):
    return rf"\expandafter\gdef\csname result:{name}\endcsname{{{text}}}" + "\n"


def test_numbers_become_macros(started, tmp_path):
    results.record("test/accuracy", Estimate(0.9012, 0.8951, 0.9071, 10_000), ".1%")
    results.record("class/worst-name", "cats & dogs_#1")
    results.record("cell/stride", 4.0, ".0f", unit="pixels")
    results.record("data/train", 47500, ",")
    text = written(tmp_path / "generated")
    for expected in (
        definition("test/accuracy", r"90.1\%"),
        definition("test/accuracy/low", r"89.5\%"),
        definition("test/accuracy/high", r"90.7\%"),
        definition("test/accuracy/n", r"10\,000"),
        definition("class/worst-name", r"cats \& dogs\_\#1"),
        definition("cell/stride", r"4\,pixels"),
        definition("data/train", "47,500"),
        definition("profile", "quick"),
        definition("run", "quick"),
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1.5", r"\ensuremath{-}1.5"),
        ("1e-05", r"1e-05"),
        ("[-0.1, -0.2]", r"[\ensuremath{-}0.1, \ensuremath{-}0.2]"),
        ("half-heat area", "half-heat area"),
        ("8 × 8", r"8 \ensuremath{\times} 8"),
        ("a~b $x$ {y}", r"a\textasciitilde{}b \$x\$ \{y\}"),
        ("100%_#&", r"100\%\_\#\&"),
        ("a\\b", r"a\textbackslash{}b"),
        ("x^2", r"x\textasciicircum{}2"),
        ("3–5", "3--5"),
    ],
)
def test_special_characters_are_escaped(text, expected):
    assert latex.escape(text) == expected


def test_notes_become_items(started, tmp_path):
    results.record("a", 1)
    assert definition("notes", r"\item a.") in written(tmp_path / "generated")


def test_tables_are_set_with_booktabs(started, tmp_path):
    columns = {"measure": ["a_b", "c"], "right - wrong [95 %]": [0.123, -0.5]}
    results.record_table("01_gap", columns, {"right - wrong [95 %]": ".2f"})
    results.record("a", 1)
    assert written(tmp_path / "generated", "01_gap.tex").splitlines() == [
        r"\begin{tabular}{@{}lr@{}}",
        r"\toprule",
        r"measure & right - wrong [95 \%] \\",
        r"\midrule",
        r"a\_b & 0.12 \\",
        r"c & \ensuremath{-}0.50 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_frame_is_set_as_its_columns_are(started, tmp_path):
    estimates = [Estimate(0.5, 0.4, 0.6, 9), Estimate(NAN, NAN, NAN, 0)]
    columns = {"method": ["a_b", "c"], "n": [3, None], "IoU": estimates}
    frame, specs = pd.DataFrame(columns).set_index("method"), {"IoU": ".1f"}
    frame["n"] = frame["n"].astype("Int64")
    results.record_table("as-columns", columns, specs)
    results.record_table("as-frame", frame.astype(object).where(frame.notna(), None), specs)
    results.record("a", 1)
    assert written(tmp_path / "generated", "as-frame.tex").splitlines()[2:6] == [
        r"method & n & IoU \\",
        r"\midrule",
        r"a\_b & 3 & 0.5 [0.4, 0.6] \\",
        r"c & -- & -- \\",
    ]
    assert written(tmp_path / "generated", "as-columns.tex") == written(
        tmp_path / "generated", "as-frame.tex"
    )


def test_one_call_records_a_table_and_every_number_in_it(started):
    frame = pd.DataFrame(
        {
            "method": ["Grad-CAM++", "sampled Shapley"],
            "mean IoU [95 %]": [Estimate(0.5, 0.4, 0.6, 9), Estimate(0.25, 0.0, 0.5, 9)],
            "images": [9, 9],
            "best on": ["cat", "dog"],
            "seconds": [1.0, NAN],
        }
    )
    specs = {"mean IoU [95 %]": ".2f", "seconds": ".1f"}
    shown = results.table("09_scores", frame, specs, prefix="scores")
    assert {name: entry["value"] for name, entry in numbers().items()} == {
        "scores/Grad-CAMpp/mean-IoU-95": 0.5,
        "scores/Grad-CAMpp/images": 9,
        "scores/Grad-CAMpp/seconds": 1.0,
        "scores/sampled-Shapley/mean-IoU-95": 0.25,
        "scores/sampled-Shapley/images": 9,
        "scores/sampled-Shapley/seconds": None,
    }
    entry = numbers()["scores/Grad-CAMpp/mean-IoU-95"]
    assert [entry[key] for key in ("low", "high", "n", "spec")] == [0.4, 0.6, 9, ".2f"]
    table = latex.load("quick")["tables"]["09_scores"]
    assert table["header"] == list(frame.columns)
    assert table["rows"][1] == ["sampled Shapley", "0.25 [0.00, 0.50]", "9", "dog", "–"]
    assert list(shown.index) == ["Grad-CAM++", "sampled Shapley"]
    assert shown.loc["Grad-CAM++"].to_list() == ["0.50 [0.40, 0.60]", "9", "cat", "1.0"]
    assert shown.columns.name == "method"


def test_the_rows_of_a_table_are_named_by_its_index_or_by_the_key(started, one_line):
    frame = pd.DataFrame({"x": [1, 2], "who": ["a", "b"]}, index=["r", "s"])
    results.table("t", frame)
    assert set(numbers()) == {"t/r/x", "t/s/x"}
    results.table("u", frame, key="who")
    assert {"u/a/x", "u/b/x"} <= set(numbers())
    with pytest.raises(WorkbookError) as error:
        results.table("v", frame, key="whom")
    one_line(error, "'whom'", "who")


def test_a_profile_without_results_has_no_report(tmp_root, one_line):
    with pytest.raises(WorkbookError) as error:
        latex.write("full", tmp_root / "generated")
    one_line(error, "run full has no results", "make run")
    assert not (tmp_root / "generated").exists()


# ---- figures -----------------------------------------------------------------------------------


def draw():
    figure = figures.show_images(torch.linspace(0, 1, 4 * 3 * 64).view(4, 3, 8, 8), list("abcd"))
    figures.heat_bar(figure, figure.axes)
    return figure


def test_a_figure_is_saved_as_png_and_pdf_and_is_the_same_file_again(started):
    figures.save(draw(), "01_test")
    first = {p.name: p.read_bytes() for p in started.glob("01_test.*")}
    assert set(first) == {"01_test.png", "01_test.pdf"}
    assert first["01_test.png"].startswith(b"\x89PNG")
    assert first["01_test.pdf"].startswith(b"%PDF")
    # Files made within one second would be equal even with a date in them.
    assert not any(b"Date" in data or b"tIME" in data for data in first.values())
    figures.save(draw(), "01_test")
    assert {p.name: p.read_bytes() for p in started.glob("01_test.*")} == first
    plt.close("all")


def test_a_figure_that_cannot_be_written_keeps_the_earlier_one(started, monkeypatch, one_line):
    figures.save(draw(), "01_test")
    before = (started / "01_test.png").read_bytes()

    def full(_self, path, **_options):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(plt.Figure, "savefig", full)
    with pytest.raises(WorkbookError) as error:
        figures.save(draw(), "01_test")
    one_line(error, "01_test.png")
    assert (started / "01_test.png").read_bytes() == before
    assert sorted(p.name for p in started.iterdir() if "test" in p.name) == [
        "01_test.pdf",
        "01_test.png",
    ]
    plt.close("all")


@pytest.mark.parametrize(("heat", "labels"), [(0.0, ["no heat"]), (0.5, [])])
def test_a_map_without_heat_says_so(heat, labels):
    _, axes = figures.grid(1, 1)
    figures.show_heatmap(axes[0, 0], torch.rand(3, 8, 8), torch.full((8, 8), heat))
    assert [text.get_text() for text in axes[0, 0].texts] == labels
    plt.close("all")


def test_heatmaps_share_one_scale_and_images_keep_their_pixels():
    _, axes = figures.grid(1, 2)
    figures.show_heatmap(axes[0, 0], torch.rand(3, 32, 32), torch.rand(32, 32) / 3)
    figures.show_image(axes[0, 1], torch.rand(3, 32, 32), "title")
    grey, heat = axes[0, 0].images
    assert heat.get_clim() == grey.get_clim() == (0, 1)
    assert (grey.get_interpolation(), heat.get_interpolation()) == ("nearest", "bilinear")
    assert axes[0, 1].images[0].get_interpolation() == "nearest"
    assert grey.get_extent() == heat.get_extent()
    plt.close("all")


def test_intervals_are_drawn_where_they_are():
    _, ax = plt.subplots()
    figures.show_intervals(ax, ["a", "b"], [Estimate(0.5, 0.3, 0.6, 9), Estimate(0.1, 0, 0.4, 9)])
    (bars,) = ax.containers
    segments = bars.lines[2][0].get_segments()
    np.testing.assert_allclose([s[:, 0] for s in segments], [[0.3, 0.6], [0, 0.4]])
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first must be on top"
    plt.close("all")


def test_results_are_plain_json(started):
    results.record("a", np.float64(0.25), ".2f")
    book = json.loads((started / "results" / "01_test.json").read_text())
    assert book["numbers"]["a"]["value"] == 0.25
