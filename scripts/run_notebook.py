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
from papermill.exceptions import PapermillExecutionError

from helpers.run import profiles
from helpers.run.errors import WorkbookError, unknown


def run(notebook: Path, output: Path, profile: str, parameters: dict[str, str]) -> None:
    """Execute ``notebook`` into ``output``; a failed run is kept as ``<output>.failed.ipynb``.

    Raises:
        WorkbookError: unknown profile or parameter, or a cell that failed.
    """
    profile = profiles.load(profile).name
    if not notebook.is_file():
        raise WorkbookError(f"there is no notebook {notebook}: see notebooks/")
    known = [name for name in papermill.inspect_notebook(str(notebook)) if name != "PROFILE"]
    for name in parameters:
        if name not in known:
            raise unknown(f"parameter of {notebook.name}", name, known)
    # The kernel inherits the profile. It is not a papermill parameter, so that the executed
    # notebook has the cells of the original one.
    os.environ["WORKBOOK_PROFILE"] = profile
    output.parent.mkdir(parents=True, exist_ok=True)
    failed = output.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / notebook.name
        try:
            papermill.execute_notebook(
                str(notebook), str(partial), parameters or None, cwd=str(notebook.parent),
                progress_bar={"desc": f"{notebook.stem} ({profile})", "mininterval": 1},
                extra_arguments=["--log-level=CRITICAL"],  # the kernel's own log is not for readers
            )  # fmt: skip
        except PapermillExecutionError as error:
            failed.write_bytes(partial.read_bytes())
            raise WorkbookError(
                f"{notebook.name} failed in cell {error.exec_count}: {error.ename}: "
                f"{error.evalue.splitlines()[0] if error.evalue else ''} (see {failed})"
            ) from error
        output.write_bytes(partial.read_bytes())


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--profile", default="auto")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="a notebook parameter; may be repeated")  # fmt: skip
    arguments = parser.parse_args()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        run(arguments.notebook, arguments.output, arguments.profile, dict(arguments.p))
    except WorkbookError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
