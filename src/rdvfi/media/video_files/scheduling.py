"""Prevents encoders from giving their threads real-time priority.

SVT-AV1 gives its threads, and the one that opens it, the policy ``SCHED_FIFO`` where it runs as root, as in
most containers: the process then takes the machine from everything else, and keeps doing so after the
encoder is closed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def preserve_scheduling() -> Iterator[None]:
    """Threads have the policy of the calling one at the beginning, whatever is opened inside."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before, rank = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != before:
            for thread in os.listdir("/proc/self/task"):
                with suppress(ProcessLookupError, PermissionError):
                    os.sched_setscheduler(int(thread), before, rank)
