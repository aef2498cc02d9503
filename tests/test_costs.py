"""What a call costs: its memory and other programs' work are seen, and no thread is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from helpers.run import costs


def test_memory_and_time_of_a_call_are_seen():
    def call():
        block = np.ones(40 * 2**20, np.uint8)
        time.sleep(0.05)
        return int(block[-1])

    result, cost = costs.measure(call)
    assert result == 1
    assert 35 <= cost.peak <= 80
    assert cost.seconds >= 0.05


def test_a_larger_call_costs_more():
    def call(mib):
        np.ones(mib * 2**20, np.uint8)
        time.sleep(0.02)

    small, large = (costs.measure(lambda mib=mib: call(mib))[1] for mib in (1, 120))
    assert large.peak > small.peak + 60


def test_a_failing_call_leaves_no_thread():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        costs.measure(lambda: 1 / 0)
    assert threading.active_count() == before


# ---- other programs ----------------------------------------------------------------------------

BUSY = [sys.executable, "-c", "print(flush=True)\nwhile True: sum(range(1000))"]


def busy(seconds):
    """Compute, and do nothing else."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        sum(range(1000))


@pytest.fixture
def machine(monkeypatch):
    """A machine where nothing computes but this process, ``children``, and ``others`` seconds."""
    machine, counted = SimpleNamespace(others=0.0, children=[]), psutil.cpu_times()

    def cpu_times():
        ours = [psutil.Process(), *machine.children]
        used = sum(sum(process.cpu_times()[:2]) for process in ours) + machine.others
        return counted._replace(**dict.fromkeys(counted._fields, 0.0) | {"user": used})

    monkeypatch.setattr(costs.psutil, "cpu_times", cpu_times)
    return machine


def test_a_call_that_computes_alone_does_not_disturb_itself(machine):
    cost = costs.measure(lambda: busy(0.5))[1]
    assert cost.others == 0
    assert cost.note == ""


def test_what_children_compute_belongs_to_the_call(machine):
    with subprocess.Popen(BUSY, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        machine.children = [psutil.Process(child.pid)]
        cost = costs.measure(lambda: time.sleep(1))[1]
        machine.children = []
        child.kill()
    assert cost.note == ""


@pytest.mark.parametrize(
    ("seconds", "others", "told"),
    [(0.5, 0.4, True), (0.5, 0.05, False), (0.01, 0.02, False)],
    ids=["another program", "a quiet system", "rounding"],
)
def test_what_other_programs_compute_meanwhile_is_told(machine, seconds, others, told):
    def call():
        machine.others += others
        time.sleep(seconds)

    assert bool(costs.measure(call)[1].note) == told


def test_a_program_that_computes_is_seen():
    # It is nobody's child here, as another notebook is not.
    start = f"import subprocess; print(subprocess.Popen({BUSY!r}, stdout=2).pid)"
    done = subprocess.run(
        [sys.executable, "-c", start], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    )
    pid = int(done.stdout)
    try:
        cost = costs.measure(lambda: time.sleep(1))[1]
    finally:
        os.kill(pid, signal.SIGKILL)
    assert cost.note == "measured while other work ran"
