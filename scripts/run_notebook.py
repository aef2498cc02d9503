"""Run one notebook from top to bottom with papermill, as the Snakefile does for each.

python scripts/run_notebook.py notebooks/01_train_evaluate.ipynb out.ipynb --profile quick
python scripts/run_notebook.py notebooks/01_train_evaluate.ipynb out.ipynb -p MODEL resnet20
"""

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

import papermill
import parameters
from papermill.exceptions import PapermillExecutionError

from helpers.run import files, profiles
from helpers.run.errors import WorkbookError, message


def run(notebook: Path, output: Path, profile: str, given: dict[str, str], name: str = "") -> None:
    """Execute ``notebook`` into ``output``; a failed run is kept as ``<output>.failed.ipynb``.

    Args:
        notebook: what to run; its folder is the working directory.
        output: where to write the executed notebook.
        profile: the scale.
        given: notebook parameters.
        name: of the run, that is of the folder in ``figures``; by default as in a notebook that
            is run by hand with these parameters.

    Raises:
        WorkbookError: unknown profile or parameter, or a cell that failed.
    """
    profile = profiles.load(profile).name
    if not notebook.is_file():
        raise WorkbookError(f"there is no notebook {notebook}: see notebooks/")
    parameters.check(given, [notebook])
    values = parameters.taken(given, notebook)
    # The kernel inherits both. The profile is not a papermill parameter, so that the executed
    # notebook has the cells of the original one.
    os.environ["WORKBOOK_PROFILE"] = profile
    os.environ["WORKBOOK_RUN"] = name or profiles.run_name(profile, given)
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = output.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / notebook.name
        try:
            papermill.execute_notebook(
                str(notebook), str(partial), values or None, cwd=str(notebook.parent),
                progress_bar={"desc": f"{notebook.stem} ({profile})", "mininterval": 1},
                extra_arguments=["--log-level=CRITICAL"],  # the kernel's own log is not for readers
            )  # fmt: skip
        except PapermillExecutionError as error:
            failed.write_bytes(partial.read_bytes())
            raise WorkbookError(
                f"{notebook.name} failed in cell {error.exec_count}: {error.ename}: "
                f"{error.evalue.splitlines()[0] if error.evalue else ''} (see {failed})"
            ) from error
        with files.atomic(output) as whole:
            whole.write_bytes(partial.read_bytes())


def run_and_tell(notebook: Path, output: Path, *options) -> str:
    """Run a notebook; return why it failed, or nothing.

    ``<output>.failed.txt`` says it too, for the end of a run of many notebooks. It is there from
    the start, because a program that the system kills has no time to write.
    """
    told = output.with_suffix(".failed.txt")
    told.parent.mkdir(parents=True, exist_ok=True)
    told.write_text(f"{notebook.name} was stopped or killed (out of memory?) before its end\n")
    try:
        run(notebook, output, *options)
    except WorkbookError as error:
        told.write_text(f"{error}\n")
        return message(error)
    except Exception as error:
        told.write_text(f"{notebook.name} failed: {type(error).__name__}: {error}\n")
        raise
    told.unlink()
    return ""


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--profile", default="auto")
    parser.add_argument("--run", default="", help="the run's name, that of its folder in figures")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="a notebook parameter; may be repeated")  # fmt: skip
    given = parser.parse_args()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    fault = run_and_tell(given.notebook, given.output, given.profile, dict(given.p), given.run)
    if fault:
        print(fault, file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
