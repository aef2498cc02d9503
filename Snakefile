# Runs the workbook: one rule runs one notebook, then the report is made from their results.
#
#   snakemake --cores 2                          profile quick
#   snakemake --cores 2 --config profile=laptop
#   snakemake --cores 2 --config params="MODEL=resnet20"
#   snakemake --workflow-profile profiles/slurm  on a cluster
#
# `make run` calls it. What is done and unchanged is not run again. Each run, that is each profile
# with its parameters, has folders of its own: build/<run> and figures/<run>.

import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

sys.path[:0] = [workflow.basedir, f"{workflow.basedir}/scripts"]

# Read again for every job: nothing that takes long to import.
import parameters

from helpers.run import profiles
from helpers.run.errors import WorkbookError, message

BOOKS = {path.stem: path for path in sorted(Path("notebooks").glob("[0-9]*.ipynb"))}
try:
    PROFILE = profiles.load(config.get("profile") or "quick").name
    # `make` writes spaces and quotes as in an address, %20 and %27.
    PARAMETERS = parameters.read(unquote(str(config.get("params") or "")))
    if PARAMETERS:
        parameters.check(PARAMETERS, BOOKS.values())
        for path in BOOKS.values():
            parameters.taken(PARAMETERS, path)
except WorkbookError as error:
    raise WorkflowError(message(error))

RUN = profiles.run_name(PROFILE, PARAMETERS)
FIRST = next(iter(BOOKS))  # trains the classifier that the others look into
TEXTS = [name for name in BOOKS if name[:2] == "11"]  # needs no network of images
LONG = [name for name in BOOKS if name[:2] in {"05", "06", "07", "12"}]  # minutes, each
LABORATORY = {  # the networks that a notebook needs beside the classifier
    "03": ["shapes_lab"],
    "05": ["shapes_lab", "shapes_heart"],
    "06": ["shapes_lab"],
    "07": ["shapes_lab"],
    "08": ["shapes_lab"],
    "09": ["shapes_lab"],
    "10": ["shapes_lab", "shapes_vit"],
    "12": ["shapes_lab", "memoriser"],
}
TRAIN = PARAMETERS.get("TRAIN", "").lower() == "true"  # here and now, not our shipped weights
CORES = workflow.resource_settings.cores or 1  # on a cluster its profile says how many
EXECUTED = f"build/{RUN}/notebooks/{{name}}.ipynb"
RESULTS = f"figures/{RUN}/results/{{name}}.json"
NETWORK = f"build/{RUN}/networks/{{network}}.pt"
REPORT = f"build/{RUN}/report.pdf"
HELPERS = sorted(str(path) for path in Path("helpers").rglob("*") if path.suffix in {".py", ".toml"})
# --resources gpu=1: one card serves one job at a time. A cluster's login node has none, so there
# the caller says whether jobs ask for one.
GPU = int(config.get("gpu", 1 if shutil.which("nvidia-smi") else 0))


def one_of(names):
    return "|".join(names) or "-"


def networks(wildcards):
    if wildcards.name in (FIRST, *TEXTS):
        return []
    return expand(NETWORK, network=["classifier", *LABORATORY.get(wildcards.name[:2], [])])


def options(wildcards):
    # Only those that the notebook declares: it would be refused with others.
    book = BOOKS.get(wildcards.get("name"))
    given = parameters.taken(PARAMETERS, book) if book and PARAMETERS else PARAMETERS
    pairs = (f"-p {name} {shlex.quote(PARAMETERS[name])}" for name in given)
    return " ".join([f"--profile {PROFILE}", *pairs])


localrules:
    report,


rule all:
    input:
        expand(EXECUTED, name=BOOKS),
        expand(RESULTS, name=BOOKS),
        [REPORT] if shutil.which("latexmk") else [],


# With one thread each, notebooks side by side do not wait for one another, which is faster than two
# that share two cores.
rule notebook:
    input:
        notebook="notebooks/{name}.ipynb",
        networks=networks,
        helpers=HELPERS,
    output:
        executed=EXECUTED,
        results=RESULTS,
    wildcard_constraints:
        name=one_of(name for name in BOOKS if name not in [FIRST, *LONG]),
    params:
        options=options,
    threads: 1
    resources:
        gpu=GPU,
    shell:
        "OMP_NUM_THREADS={threads} {sys.executable} scripts/run_notebook.py {input.notebook} "
        "{output.executed} --run {RUN} {params.options}"


# Start the long ones first, so that at the end no core is idle while another has minutes to go.
use rule notebook as long_notebook with:
    wildcard_constraints:
        name=one_of(LONG),
    priority: 1


# Training uses all cores.
use rule notebook as first_notebook with:
    wildcard_constraints:
        name=FIRST,
    threads: CORES
    priority: 2


# Whatever notebooks share is trained, or loaded, before them: none trains it beside another one.
rule network:
    input:
        lambda wildcards: EXECUTED.format(name=FIRST)
        if wildcards.network == "classifier"
        else NETWORK.format(network="classifier"),
        helpers=HELPERS,
    output:
        NETWORK,
    params:
        options=options,
    threads: CORES if TRAIN else 1
    priority: 2
    resources:
        gpu=GPU,
    shell:
        "OMP_NUM_THREADS={threads} {sys.executable} scripts/train.py {wildcards.network} {output} "
        "{params.options}"


rule report:
    input:
        expand(RESULTS, name=BOOKS),
        "report/report.tex",
        "report/references.bib",
    output:
        REPORT,
    shell:
        "{sys.executable} scripts/build_report.py {RUN} {output}"


onsuccess:
    print(f"notebooks: build/{RUN}/notebooks   figures: figures/{RUN}")
    if not shutil.which("latexmk"):
        shell("{sys.executable} scripts/build_report.py {RUN} - || true")


onerror:
    failures = sorted(Path(f"build/{RUN}").rglob("*.failed.txt"))
    print("", f"{len(failures)} failed:", file=sys.stderr, sep="\n")
    for told in failures:
        print(f"  {told.read_text().strip()}", file=sys.stderr)
