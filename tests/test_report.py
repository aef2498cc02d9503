"""The report: it is built from results alone, and what it says is what was measured."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import latex
import nbformat
import pytest

from helpers.run import files, results
from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]
CODE = "\n".join(
    cell.source
    for name in NOTEBOOKS
    for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
    if cell.cell_type == "code"
)
TEX = (ROOT / "report" / "report.tex").read_text()


def copied(folder, profile):
    """Copy the report, and a profile's figures and results, to a folder."""
    shutil.copytree(ROOT / "report", folder / "report")
    shutil.copytree(ROOT / "figures" / profile, folder / "figures" / profile)
    return folder


def script():
    """Return scripts/build_report.py as a module."""
    spec = importlib.util.spec_from_file_location("build_report", ROOT / "scripts/build_report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(folder, profile):
    """Build the report in a folder; return the PDF, and the log of LaTeX."""
    module = script()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "ROOT", folder)
        patch.setattr(module, "ROOT", folder)
        module.build(profile, folder / "out" / "report.pdf")
    log = (folder / "build" / profile / "report" / "report.log").read_text(errors="replace")
    return folder / "out" / "report.pdf", log


def ready(profile):
    """Skip, saying why, unless the report of a profile can be built here."""
    for program in ("latexmk", "pdftotext"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    book = latex.load(profile)
    there = {entry["notebook"] for entry in book["numbers"].values()}
    if lacking := sorted(set(NOTEBOOKS) - there):
        pytest.skip(f"profile {profile} has no results of {lacking[0]}: make run PROFILE={profile}")
    return book


@pytest.fixture(scope="module", params=["quick", "laptop"])
def report(request, tmp_path_factory):
    book = ready(request.param)
    folder = copied(tmp_path_factory.mktemp("report"), request.param)
    pdf, log = built(folder, request.param)
    return book, log, text_of(pdf), folder


def text_of(pdf):
    return subprocess.run(
        ["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True
    ).stdout


def test_nothing_is_undefined_missing_or_overfull(report):
    _, log, text, _ = report
    assert not re.search(r"undefined (references|citations)|(Reference|Citation) .* undefined", log)
    assert not re.search(r"File .* not found|multiply.defined", log)
    overfull = [float(pt) for pt in re.findall(r"Overfull \\[hv]box \(([\d.]+)pt too", log)]
    assert max(overfull, default=0) <= 5
    assert "??" not in text
    assert "[?]" not in text


@pytest.mark.parametrize("report", ["laptop"], indirect=True)
def test_the_committed_report_is_that_of_the_committed_results(report):
    _, _, text, _ = report
    numbers = r"-?\d[\d.,]*\d"
    committed = text_of(ROOT / "report" / "report.pdf")
    assert set(re.findall(numbers, text)) == set(re.findall(numbers, committed)), "make report"


def test_the_committed_report_can_be_made_again_from_a_clone():
    done = subprocess.run(
        ["git", "ls-files", "figures/laptop"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    tracked = {Path(line).name for line in done.stdout.splitlines()}
    if not tracked:
        pytest.skip("this is no clone")
    for name in re.findall(r"\\includegraphics(?:\[[^\]]*\])?\{([^}]+)\}", TEX):
        picture = ROOT / "figures" / "laptop" / f"{name}.png"
        if picture.exists() and picture.stat().st_size <= script().PHOTOGRAPHS:
            assert f"{name}.pdf" in tracked, f"git add -f figures/laptop/{name}.pdf"


@pytest.mark.parametrize(
    ("argument", "what"),
    [
        ("", "laptop report/report.pdf"),
        ("PROFILE=laptop", "laptop report/report.pdf"),
        ("PROFILE=quick", "quick build/quick/report.pdf"),
    ],
)
def test_make_report_without_a_profile_makes_the_committed_one(argument, what):
    plain = {name: value for name, value in os.environ.items() if name[:4] not in ("PROF", "MAKE")}
    done = subprocess.run(
        ["make", "-n", "report", "PYTHON=python", *argument.split()],
        cwd=ROOT, env=plain, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[-2:] == what.split()


def test_the_core_has_three_pages_and_each_topic_one(report):
    _, _, text, _ = report
    pages = text.split("\f")
    assert any(re.match(r"\d+ +Insights$", line) for line in pages[2].splitlines())
    topics = re.findall(r"\\topic\{([^}]+)\}", TEX)
    headings = [page.lstrip().splitlines()[0] for page in pages[3 : 3 + len(topics)]]
    assert [re.sub(r"^\d+ +", "", heading) for heading in headings] == topics


def printed(entry):
    unit = f" {entry['unit']}" if entry["unit"] else ""
    return results.as_text(entry["value"], entry["spec"]) + unit


@pytest.mark.parametrize(
    "name",
    ["test/accuracy", "test/ece", "gradcam/difference", "class/worst-name", "auc/half-heat-area"],
)
def test_numbers_of_the_results_stand_in_the_text(report, name):
    book, _, text, _ = report
    flat = " ".join(text.replace("−", "-").split())
    assert printed(book["numbers"][name]) in flat


def test_the_interval_of_the_accuracy_stands_in_the_text(report):
    book, _, text, _ = report
    entry = book["numbers"]["test/accuracy"]
    value, low, high = (format(entry[k], entry["spec"]) for k in ("value", "low", "high"))
    assert f"{value} [{low}, {high}]" in " ".join(text.split())


def test_provenance_notes_stand_in_the_report(report):
    book, _, text, _ = report
    notes = {note for context in book["notebooks"].values() for note in context["notes"]}
    words = set(re.findall(r"\w+", text))
    for note in notes:
        assert len(set(re.findall(r"\w{4,}", note)) - words) <= 2, "hyphenation may split two words"


def test_a_name_without_a_result_stops_the_build_and_keeps_the_earlier_pdf(report, tmp_path):
    _, _, _, folder = report
    profile = next(folder.joinpath("figures").iterdir()).name
    copied(tmp_path, profile)
    source = tmp_path / "report" / "report.tex"
    source.write_text(TEX.replace(r"\end{document}", "\\result{no/such}\n\\end{document}"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.pdf").write_bytes(b"earlier")
    with pytest.raises(WorkbookError) as error:
        built(tmp_path, profile)
    assert "no result named 'no/such'" in str(error.value)
    assert "\n" not in str(error.value)
    assert (tmp_path / "out" / "report.pdf").read_bytes() == b"earlier"


def test_no_result_is_typed_by_hand():
    body = re.sub(r"(?<!\\)%.*", "", TEX.split(r"\begin{document}")[1])
    names = "result|interval|ifresult|cite|ref|label|includegraphics|input|vspace"
    body = re.sub(rf"\\(?:{names})(?:\[[^\]]*\])?\{{[^}}]*\}}", "", body)
    body = re.sub(r"[\d.]+\\linewidth", "", body)
    typed = re.findall(r"\d+(?:\.\d+)?(?:(?:\\,)?\\%)?", body)
    # A single digit is no result. What remains are settings of methods: the confidence level, the
    # AUC of a coin, NetDissect's top 0.5 % and its least IoU, the length of a list.
    settings = {r"95\,\%", "0.5", r"0.5\,\%", "0.04", "20"}
    assert {text for text in typed if len(text) > 1} <= settings


def pattern(name):
    """Return a pattern for a name in an f-string: {…} stands for anything."""
    return "".join(
        r"[\w-]+" if part.startswith("{") else re.escape(part)
        for part in re.split(r"(\{[^}]*\})", name)
    )


def test_every_figure_of_the_report_is_drawn_by_a_notebook():
    made = [pattern(n) for n in re.findall(r"figures\.save\(\w+, f?\"([^\"]+)\"\)", CODE)]
    for name in re.findall(r"\\includegraphics(?:\[[^\]]*\])?\{([^}]+)\}", TEX):
        assert any(re.fullmatch(m, name) for m in made), name


def test_every_number_of_the_report_is_recorded_by_a_notebook():
    # Most are in the committed results; some are recorded on Shapes only.
    recorded = latex.load("laptop")["numbers"]
    made = [pattern(n) for n in re.findall(r"results\.record\(\s*f?[\"']([^\"']+)[\"']", CODE)]
    made += [f"{re.escape(n)}/.+" for n in re.findall(r"\bprefix=\"([^\"]+)\"", CODE)]  # tables
    for name in re.findall(r"\\(?:result|interval)\{([^}#]+)\}", TEX):
        name = re.sub(r"/(low|high|n)$", "", name)
        if name not in ("profile", "run", "notes", *recorded):
            assert any(re.fullmatch(m, name) for m in made), name


def test_every_table_of_the_report_is_recorded_by_a_notebook():
    made = set(re.findall(r"results\.(?:record_)?table\(\s*\"([^\"]+)\"", CODE))
    read = re.findall(r"\\input\{generated/([^}]+)\.tex\}", TEX)
    assert set(read) - {"results"} <= made


def test_without_latex_the_command_that_installs_it_is_printed(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(WorkbookError) as error:
        built(tmp_path, "quick")
    assert "sudo apt-get install -y latexmk" in str(error.value)
    assert list(tmp_path.iterdir()) == []
