# Runs the workbook: one rule runs one notebook, then the report is made from their results.
#
#   snakemake --cores 2                          profile quick
#   snakemake --cores 2 --config profile=laptop
#   snakemake --cores 2 --config params="MODEL=resnet20"
#   snakemake --executor slurm --jobs 12         on a cluster
#
# `make run` calls it. What is done and unchanged is not run again.

import shutil
import sys
from pathlib import Path

PROFILE = config.get("profile", "quick")
PARAMETERS = " ".join(
    f"-p {name} '{value}'"
    for name, _, value in (pair.partition("=") for pair in str(config.get("params") or "").split())
)
NAMES = sorted(path.stem for path in Path("notebooks").glob("[0-9]*.ipynb"))
TRAINING = NAMES[0]  # the first notebook trains the classifier that the others look into
LONG = [name for name in NAMES if name[:2] in {"05", "06", "10", "12"}]  # minutes, each
EXECUTED = f"build/{PROFILE}/notebooks/{{name}}.ipynb"
REPORT = f"build/{PROFILE}/report.pdf"
HELPERS = sorted(str(path) for path in Path("helpers").rglob("*") if path.suffix in {".py", ".toml"})


def cores(wildcards):
    # Training uses all cores. The others run side by side: with one thread each they do not wait
    # for one another, which is faster than two notebooks that share two cores.
    return workflow.cores if wildcards.name == TRAINING else 1


def trained_before(wildcards):
    return [] if wildcards.name == TRAINING else EXECUTED.format(name=TRAINING)


rule all:
    input:
        expand(EXECUTED, name=NAMES),
        [REPORT] if shutil.which("latexmk") else [],


rule notebook:
    input:
        notebook="notebooks/{name}.ipynb",
        trained=trained_before,
        helpers=HELPERS,
    output:
        EXECUTED,
    wildcard_constraints:
        name="|".join(name for name in NAMES if name not in LONG),
    threads: cores
    shell:
        "OMP_NUM_THREADS={threads} {sys.executable} scripts/run_notebook.py {input.notebook} {output} "
        "--profile {PROFILE} {PARAMETERS}"


# Start the long ones first, so that at the end no core is idle while another has minutes to go.
use rule notebook as long_notebook with:
    wildcard_constraints:
        name="|".join(LONG),
    priority: 1


rule report:
    input:
        expand(EXECUTED, name=NAMES),
        "report/report.tex",
        "report/references.bib",
    output:
        REPORT,
    shell:
        "{sys.executable} scripts/build_report.py {PROFILE} {output}"
