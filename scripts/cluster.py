"""See to it that a run can go on the cluster: what it needs is there, and it is alone.

    python scripts/cluster.py slurm look-inside-quick

A runner that was killed has left its jobs in the queue, where they go on. They are waited for, so
that none runs twice at the same time and what they make counts.
"""

import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path

from helpers.run.errors import WorkbookError, message, unknown

PAUSE = 5  # seconds between two looks at the queue


def left_over(prefix: str, folder: Path) -> list[str]:
    """Return the ids of the jobs that earlier runners of this folder have in the queue.

    Raises:
        WorkbookError: the queue can't be read.
    """
    done = subprocess.run(
        ["squeue", "--me", "--noheader", "--format=%i|%j|%Z"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise WorkbookError(f"squeue does not answer ({done.stderr.strip()}): is SLURM running?")
    jobs = (line.split("|", 2) for line in done.stdout.splitlines())
    return [i for i, name, where in jobs if name.startswith(f"{prefix}_") and Path(where) == folder]


def prepare(executor: str, prefix: str, folder: Path) -> None:
    """Check what an executor needs, then wait until no job of an earlier runner is left.

    Raises:
        WorkbookError: no profile is of that cluster, or its plugin or SLURM is not there.
    """
    known = sorted(path.parent.name for path in Path("profiles").glob("*/config.yaml"))
    if executor not in known:
        raise unknown("cluster", executor, known)
    plugin = f"snakemake_executor_plugin_{executor}"
    if not importlib.util.find_spec(plugin):
        raise WorkbookError(f'{plugin} is not installed: pip install -e ".[run,{executor}]"')
    if not shutil.which("sbatch"):
        raise WorkbookError("there is no sbatch here: run this on the cluster's login node")
    told = []
    while jobs := left_over(prefix, folder):
        if jobs != told:
            print(f"an earlier run has {len(jobs)} jobs in the queue, which are waited for; "
                  f"to end them: scancel {' '.join(jobs)}", flush=True)  # fmt: skip
        told = jobs
        time.sleep(PAUSE)


def main() -> int:
    """Read the command line; return the exit status."""
    executor, prefix = sys.argv[1:]
    try:
        prepare(executor, prefix, Path.cwd().resolve())
    except WorkbookError as error:
        print(message(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
