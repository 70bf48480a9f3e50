"""Prevents encoders from giving their threads real-time priority.

SVT-AV1 gives its threads, and the thread that opens it, the policy ``SCHED_FIFO`` when it runs as root, as in most
containers. The process then takes the machine from all others, even after the encoder is closed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def preserve_scheduling() -> Iterator[None]:
    """Restore the scheduling policy of the process on exit, for all of its threads."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in os.listdir("/proc/self/task"):
                with suppress(ProcessLookupError, PermissionError):
                    os.sched_setscheduler(int(thread), policy, parameters)
