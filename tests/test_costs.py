"""What a call costs: the memory that it takes is seen, and nothing is left running."""

import threading
import time

import numpy as np
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
