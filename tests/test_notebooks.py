"""Notebooks: one form for all, and outputs that belong to the code above them."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What tells of the machine that a notebook was run on.
MACHINE = re.compile(r"/(?:home|root|Users|tmp|work|mnt|workspace)/[\w.]|[A-Z]:\\\\")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(path):
    return nbformat.read(path, 4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def tagged(path, tag):
    return [cell for cell in read(path).cells if tag in cell.metadata.get("tags", [])]


def test_notebooks_are_numbered_without_gaps():
    assert [int(path.stem[:2]) for path in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))


@every_notebook
def test_a_notebook_is_valid(path):
    book = read(path)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert book.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in book.cells]
    assert len(set(ids)) == len(ids)


@every_notebook
def test_a_notebook_has_one_setup_and_one_parameters_cell(path):
    (setup,), (parameters,) = tagged(path, "setup"), tagged(path, "parameters")
    cells = code_cells(path)
    assert [setup.id, parameters.id] == [cells[0].id, cells[1].id]
    assert re.search(r'^PROFILE = "auto"', parameters.source, re.MULTILINE)


def test_all_notebooks_share_one_setup_and_the_same_parameters():
    assert len({tagged(path, "setup")[0].source for path in NOTEBOOKS}) == 1
    cells = [tagged(path, "parameters")[0].source for path in NOTEBOOKS]
    # Those that can take shipped weights ask besides whether to train.
    assert len({re.sub(r"\nTRAIN = False .*", "", source) for source in cells}) == 1


@every_notebook
def test_a_notebook_begins_with_title_badge_and_aims(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(rf"# {int(path.stem[:2])} · \w", first.source)
    assert f"notebooks/{path.name})" in first.source
    assert "colab-badge.svg" in first.source
    aims = first.source.split("**You will learn**")[1]
    assert 3 <= len(re.findall(r"^- ", aims, re.MULTILINE)) <= 5


@every_notebook
def test_a_notebook_ends_with_recap_outlook_and_sources(path):
    last = read(path).cells[-1]
    assert last.cell_type == "markdown"
    places = [last.source.find(h) for h in ("## What we saw", "**Go on.**", "**Sources.**")]
    assert -1 not in places
    assert places == sorted(places)


@every_notebook
def test_exercises_are_numbered_and_have_solution_and_check(path):
    cells = read(path).cells
    numbers = []
    for i, cell in enumerate(cells):
        found = re.findall(r"\*\*Exercise (\d+\.\d+)\*\*", cell.source)
        if not found:
            assert "### BEGIN SOLUTION" not in cell.source or "**Exercise" in cells[i - 1].source
            continue
        numbers += found
        assert len(found) == 1
        code = cells[i + 1].source
        assert re.search(r"^ *### BEGIN SOLUTION\n(.*\n)+? *### END SOLUTION$", code, re.MULTILINE)
        assert code.count("### BEGIN SOLUTION") == code.count("### END SOLUTION") == 1
        assert re.search(r"^checks\.\w+\(\w+\)$", code.split("### END SOLUTION")[1], re.MULTILINE)
    chapter = int(path.stem[:2])
    assert numbers == [f"{chapter}.{k}" for k in range(1, len(numbers) + 1)]
    assert numbers


@every_notebook
def test_no_code_cell_is_longer_than_30_lines(path):
    assert max(len(cell.source.splitlines()) for cell in code_cells(path)) <= 30


@every_notebook
def test_no_placeholder_is_left(path):
    for cell in read(path).cells:
        assert cell.source.strip()
        assert not re.search(r"\{\{|^[A-Z]{4,}$|TODO|FIXME", cell.source, re.MULTILINE)


@every_notebook
def test_figures_are_named_after_their_notebook(path):
    code = "\n".join(cell.source for cell in code_cells(path))
    names = re.findall(r"figures\.save\(\w+, f?\"([^\"]+)\"\)", code)
    assert len(names) == code.count("figures.save(") > 0
    assert all(name.startswith(f"{path.stem[:2]}_") for name in names)
    assert len(set(names)) == len(names)
    assert f'"{path.stem}"' in code, "results.start must name this notebook"


def inside_f_strings(code):
    """Return the calls of ``results`` within f-strings."""
    strings = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.JoinedStr)]
    inside = [ast.unparse(node) for string in strings for node in ast.walk(string)
              if isinstance(node, ast.Call)]  # fmt: skip
    return [call for call in inside if call.startswith("results.")]


def only_records(code):
    """Say whether code does nothing but record, in loops and under names made for it."""

    def fine(node):
        if isinstance(node, ast.For | ast.If):
            return all(map(fine, node.body + node.orelse))
        if isinstance(node, ast.Assign):
            return True
        call = node.value if isinstance(node, ast.Expr) else None
        return isinstance(call, ast.Call) and ast.unparse(call.func).startswith("results.record")

    return all(map(fine, ast.parse(code).body))


def python(cell):
    """Return the code of a cell without IPython's own commands."""
    return re.sub(r"^( *)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE)


@every_notebook
def test_a_number_is_not_recorded_in_the_middle_of_a_sentence(path):
    for cell in code_cells(path):
        assert not inside_f_strings(python(cell)), cell.id


@every_notebook
def test_cells_tagged_record_record_and_are_folded(path):
    for cell in tagged(path, "record"):
        assert only_records(cell.source), cell.id
        last = ast.parse(cell.source).body[-1]
        assert not isinstance(last, ast.Expr) or cell.source.endswith(";"), f"{cell.id} prints"
        assert "hide-input" in cell.metadata.tags
        assert cell.metadata.jupyter.source_hidden is True
        assert cell.metadata.cellView == "form"


def names(cells, context):
    """Return the names that cells use (``ast.Load``) or make (``ast.Store``)."""
    nodes = [node for cell in cells for node in ast.walk(ast.parse(python(cell)))]
    found = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, context)}
    return found | {n.arg for n in nodes if isinstance(n, ast.arg) and context is ast.Store}


@every_notebook
def test_no_visible_cell_needs_what_a_folded_one_has_made(path):
    folded = tagged(path, "record")
    visible = [cell for cell in code_cells(path) if cell not in folded]
    made = names(folded, ast.Store) - names(visible, ast.Store)
    assert not made & names(visible, ast.Load)


def test_what_does_more_than_record_is_noticed():
    assert inside_f_strings("""f"{results.record('a', 1)}" """)
    assert inside_f_strings("""print(f"A {results.record('a', f'{x}'):>5} b")""")
    assert not inside_f_strings("results.record(f'{name}/a', 1)")
    assert only_records("for n in names:\n    results.record(n, 1)\nresults.record('b', 2);")
    for more in ("print(1)", "for n in x:\n    n += 1", "figures.save(fig)", "import torch"):
        assert not only_records(more)


@every_notebook
def test_a_notebook_keeps_to_the_scale_of_its_run(path):
    code = "\n".join(cell.source for cell in code_cells(path))
    assert not re.search(r"profiles\.load\([\"']", code), "ask for profiles.shapes_lab()"


@every_notebook
def test_no_number_is_recorded_twice(path):
    code = "\n".join(cell.source for cell in code_cells(path))
    names = re.findall(r"results\.record\(f?[\"']([^\"']+)[\"']", code)
    assert len(set(names)) == len(names)


def test_the_code_of_all_notebooks_is_clean():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", *map(str, NOTEBOOKS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# ---- outputs -----------------------------------------------------------------------------------


@every_notebook
def test_a_notebook_is_rendered_and_its_outputs_belong_to_its_code(path):
    book = read(path)
    assert "look_inside" in book.metadata, "not rendered: make render"
    expected = script("render").code_hash(book)
    assert book.metadata.look_inside.code_hash == expected, "the code has changed: make render"
    assert book.metadata.look_inside.profile == "laptop"


def assert_run_in_order_and_without_errors(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert all(output.output_type != "error" for output in outputs)
    for cell in cells:
        if "checks." in cell.source and "SOLUTION" in cell.source:
            assert "correct." in "".join(o.get("text", "") for o in cell.outputs)
        if re.search(r"^figures\.save\(", cell.source, re.MULTILINE):  # not within a condition
            kinds = {kind for o in cell.outputs for kind in o.get("data", {})}
            assert kinds & {"image/png", "image/jpeg"}


@every_notebook
def test_a_rendered_notebook_was_run_in_order_and_without_errors(path):
    assert_run_in_order_and_without_errors(path)


@every_notebook
def test_a_notebook_tells_nothing_of_the_machine(path):
    book = read(path)
    for cell in book.cells:
        assert "papermill" not in cell.metadata
        for output in cell.get("outputs", []):
            texts = [output.get("text", "")]
            texts += [v for k, v in output.get("data", {}).items() if not k.startswith("image/png")]
            for text in texts:
                assert not MACHINE.search(json.dumps(text)), MACHINE.search(json.dumps(text))
    assert "papermill" not in book.metadata


@every_notebook
def test_a_notebook_stays_under_3_mb(path):
    assert path.stat().st_size < 3_000_000


# ---- the run at profile quick: `make run` makes it, here one looks at it -------------------------


@pytest.fixture(scope="session")
def quick():
    """Return the folder of the notebooks that `make run` has executed, all of today's code."""
    folder = ROOT / "build" / "quick" / "notebooks"
    asked = [folder / path.name for path in NOTEBOOKS]
    plan = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--nolock",
         "--rerun-incomplete", "--config", "profile=quick", "--",
         *(str(path.relative_to(ROOT)) for path in asked)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Nothing to be done" not in plan.stdout + plan.stderr:
        missing = [path.stem for path in asked if not path.exists()]
        state = f"lacks {len(missing)} notebooks" if missing else "is older than the code"
        pytest.fail(f"build/quick {state}: make run, then these tests look at it", pytrace=False)
    return folder


@every_notebook
def test_a_notebook_runs_at_profile_quick(quick, path):
    executed = quick / path.name
    assert script("render").code_hash(read(executed)) == script("render").code_hash(read(path))
    assert_run_in_order_and_without_errors(executed)
    results = json.loads((ROOT / "figures" / "quick" / "results" / f"{path.stem}.json").read_text())
    assert results


# ---- the script that renders -------------------------------------------------------------------


def small(code, outputs=(), count=None):
    cell = nbformat.v4.new_code_cell(code, outputs=list(outputs), execution_count=count)
    cell.id = "one"
    book = nbformat.v4.new_notebook(cells=[cell])
    book.metadata["papermill"] = {"input_path": "x"}
    return book


def test_rendering_scrubs_outputs_and_keeps_the_hash(tmp_path):
    render = script("render")
    out = nbformat.v4.new_output
    outputs = [
        out("stream", name="stdout", text=f"saved in {ROOT}/figures and {Path.home()}/x\n"),
        out("stream", name="stderr", text="100%|####| 3/3\n"),
        out("stream", name="stderr", text="/tmp/ipykernel_12/345.py:7: UserWarning: cold maps\n"),
        out("display_data", {render.WIDGET: {"model_id": "1"}, "text/plain": "  0%"}),
        out("execute_result", {"text/plain": f"'{ROOT}/a'"}, execution_count=9),
    ]
    executed, target = tmp_path / "executed.ipynb", tmp_path / "target.ipynb"
    nbformat.write(small("1 + 1", outputs, 7), executed)
    clean = small("1 + 1")
    del clean.metadata["papermill"]
    nbformat.write(clean, target)
    render.render(executed, target, "laptop")
    page = read(target)
    texts = [o.get("text") or o.data["text/plain"] for o in page.cells[0].outputs]
    assert texts == ["saved in ./figures and ~/x\n", "UserWarning: cold maps\n", "'./a'"]
    assert page.cells[0].execution_count == page.cells[0].outputs[-1].execution_count == 1
    assert page.metadata.look_inside == {"profile": "laptop", "code_hash": render.code_hash(page)}
    assert "papermill" not in page.metadata


@pytest.mark.parametrize("fault", ["other code", "an error"])
def test_stale_or_failed_runs_are_not_rendered(tmp_path, fault):
    render = script("render")
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    executed, target = tmp_path / "executed.ipynb", tmp_path / "target.ipynb"
    code, outputs = ("2 + 2", []) if fault == "other code" else ("1 + 1", [error])
    nbformat.write(small(code, outputs, 1), executed)
    nbformat.write(small("1 + 1"), target)
    before = target.read_bytes()
    with pytest.raises(SystemExit) as exit_:
        render.render(executed, target, "laptop")
    assert "target.ipynb" in str(exit_.value)
    assert target.read_bytes() == before
