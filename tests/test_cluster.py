"""A real SLURM: jobs outlive a runner that is killed, and what they have made counts."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import cluster
import pytest
import yaml
from test_runner import Project

from helpers.run.errors import WorkbookError

ROOT = Path(__file__).resolve().parent.parent
PROFILE = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
PROGRAMS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct")
NAMES = ("01_train", "02_filters", "11_text")


def slurm_answers():
    if not shutil.which("sbatch"):
        return False
    done = subprocess.run(["sinfo"], capture_output=True, check=False)
    return done.returncode == 0


needs_slurm = pytest.mark.skipif(not slurm_answers(), reason="no SLURM answers here")


def until(happened, process, seconds=200):
    """Wait for something; fail when the runner ends before, or when it takes too long."""
    end = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.2)


def small(folder, programs):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    project = Project(folder)
    project.prepare(names=NAMES, programs=programs)
    return project


@pytest.fixture
def project(tmp_path):
    programs = [name for name in PROGRAMS if shutil.which(name)]
    project = small(tmp_path / "project", programs)
    yield project
    if left := cluster.left_over("look-inside-quick", project.folder):
        subprocess.run(["scancel", *left], check=False)


@needs_slurm
@pytest.mark.slow
def test_jobs_of_a_runner_that_was_killed_are_waited_for_and_count(project):
    waiting = project.folder / "wait.txt"
    waiting.write_text("01_train")
    runner = project.start("CLUSTER=slurm")
    try:
        # Notebook 11, which needs no network, has run by then, runs too, or waits for a core.
        until(lambda: any(line[:2] == "01" for line in project.started()), runner)
    finally:
        os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
    assert cluster.left_over("look-inside-quick", project.folder), "the job must outlive its runner"
    runner = project.start("CLUSTER=slurm")
    until(lambda: "waited for" in runner.stdout.readline(), runner)
    waiting.write_text("")
    told = runner.communicate(timeout=240)[0]
    assert runner.returncode == 0, told
    assert sorted(line.split()[0] for line in project.started()) == list(NAMES)
    assert [line.split()[0] for line in project.trained()] == ["classifier"]
    for name in NAMES:
        assert (project.folder / f"build/quick/notebooks/{name}.ipynb").exists()
        assert (project.folder / f"figures/quick/results/{name}.json").exists()


# ---- what jobs ask for: a sbatch that notes it, and takes no job ---------------------------------


@pytest.fixture
def asked(tmp_path):
    """Return a function that starts a run, and returns the options of sbatch by notebook."""
    project = small(tmp_path / "project", ())
    for name in ("sbatch", "squeue", "sacct", "sinfo", "scontrol"):
        tool = project.folder / "tools" / name
        note = f'echo "$@" >> {project.folder}/asked.txt; exit 1' if name == "sbatch" else ""
        tool.write_text(f"#!{shutil.which('bash')}\n{note}\n")
        tool.chmod(0o755)

    def start(*arguments):
        told = project("CLUSTER=slurm", *arguments)[1]
        assert (project.folder / "asked.txt").exists(), told
        calls = (project.folder / "asked.txt").read_text().splitlines()
        options = [f"{call.partition(' --wrap=')[0]} " for call in calls]
        found = {name: o for name in NAMES for o in options if f"wildcards_{name} " in o}
        assert found.keys() == {"01_train", "11_text"}, told
        return found

    return start


def test_jobs_ask_for_the_memory_time_and_cores_of_the_profile(asked):
    general, first = PROFILE["default-resources"], PROFILE["set-resources"]["first_notebook"]
    jobs = asked("PROFILE=quick")
    for name, own, cores in (("01_train", first, 2), ("11_text", {}, 1)):
        wanted = general | own
        assert f" --mem {wanted['mem_mb']} " in jobs[name]
        assert f" -t {wanted['runtime']} " in jobs[name]
        assert f" --cpus-per-task={cores} " in jobs[name]
        assert "--gpus" not in jobs[name]
        assert "--job-name look-inside-quick_" in jobs[name]


@pytest.mark.parametrize(("arguments", "card"), [((), True), (("GPU=0",), False)])
def test_jobs_of_profile_full_ask_for_a_card_unless_they_are_told_not_to(asked, arguments, card):
    jobs = asked("PROFILE=full", *arguments)
    assert all((" --gpus=1 " in job) == card for job in jobs.values())


def test_the_profile_names_rules_of_the_snakefile():
    rules = set(
        re.findall(r"^(?:use )?rule (?:\w+ as )?(\w+)", (ROOT / "Snakefile").read_text(), re.M)
    )
    assert {*PROFILE["set-threads"], *PROFILE["set-resources"]} <= rules
    assert PROFILE["slurm-status-command"] == "squeue", "without accounting, sacct knows no job"


# ---- before a run --------------------------------------------------------------------------------


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Return a function that makes a squeue of these lines, and of this exit status."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def lines(*text, status=0):
        for name in ("squeue", "sbatch"):
            tool = tmp_path / name
            tool.write_text("#!/bin/sh\n" + "".join(f"echo '{t}'\n" for t in text))
            tool.write_text(tool.read_text() + f"echo 'no controller' >&2\nexit {status}\n")
            tool.chmod(0o755)

    return lines


def test_only_jobs_of_this_folder_and_run_are_waited_for(queue, tmp_path):
    queue(f"7|a_1|{tmp_path}", f"8|b_1|{tmp_path}", f"9|a_2|{tmp_path}/b", f"10|a_3|{tmp_path}")
    assert cluster.left_over("a", tmp_path) == ["7", "10"]


def test_a_queue_that_does_not_answer_is_one_line(queue, tmp_path, one_line):
    queue(status=1)
    with pytest.raises(WorkbookError) as error:
        cluster.prepare("slurm", "a", tmp_path)
    one_line(error, "squeue", "no controller", "is SLURM running?")


def test_what_is_missing_is_said_with_its_remedy(monkeypatch, tmp_path, one_line):
    with pytest.raises(WorkbookError) as error:
        cluster.prepare("slrum", "a", tmp_path)
    one_line(error, "'slrum'", "did you mean slurm")
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    with pytest.raises(WorkbookError) as error:
        cluster.prepare("slurm", "a", tmp_path)
    one_line(error, "no sbatch", "login node")
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(WorkbookError) as error:
        cluster.prepare("slurm", "a", tmp_path)
    one_line(error, "snakemake_executor_plugin_slurm", 'pip install -e ".[run,slurm]"')
