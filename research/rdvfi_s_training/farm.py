"""Processes for what stays on the CPU: plans of scenes, and OpenCV's part of the coarse flow.

Start a `Farm` BEFORE the first use of CUDA and before torch computes anything: its processes are
forked. They never touch CUDA. Pictures and flows go through anonymous shared memory (no /dev/shm,
no semaphores), words through pipes.
"""

import multiprocessing as mp
import os
import time
from multiprocessing.connection import wait

AHEAD = 3
"""Jobs that a process has at most."""


def _serve(pipe, slots, niceness: int) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.nice(niceness)
    import torch

    torch.set_num_threads(1)
    from scenes_gpu import prepare

    parent = os.getppid()
    while True:
        try:
            while not pipe.poll(5.0):
                if os.getppid() != parent:  # it was killed: siblings still hold its end of the pipe
                    return
            job = pipe.recv()
        except (EOFError, OSError):
            return
        if job is None:
            return
        number, kind, given = job
        try:
            pipe.send((number, True, prepare(given)))
        except (BrokenPipeError, OSError):
            return
        except Exception as error:  # the trainer decides
            pipe.send((number, False, f"{kind}: {type(error).__name__}: {error}"))


class Farm:
    """Some processes, and the jobs that they have."""

    def __init__(self, count: int, slots=None, *, niceness: int = 0) -> None:
        context = mp.get_context("fork")
        self._pipes, self._processes, self._load = [], [], []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, slots, niceness), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
            self._load.append(0)
        self._number, self._done = 0, {}
        self._waiting: dict[int, object] = {}
        self.failures: list[str] = []

    @property
    def free(self) -> int:
        """Jobs that it would take now."""
        return sum(AHEAD - load for load in self._load)

    @property
    def busy(self) -> int:
        return sum(self._load)

    def give(self, kind: str, given, tag) -> None:
        """Hand a job to the least busy process; ``tag`` comes back with its result."""
        index = min(range(len(self._load)), key=lambda i: self._load[i])
        self._number += 1
        self._waiting[self._number] = tag
        self._load[index] += 1
        self._pipes[index].send((self._number, kind, given))

    def take(self, timeout: float = 0.0):
        """Finished jobs: (tag, result); those that failed have the result None."""
        found = []
        for pipe in wait(self._pipes, timeout):
            index = self._pipes.index(pipe)
            while pipe.poll():
                try:
                    number, good, result = pipe.recv()
                except (EOFError, OSError):
                    raise RuntimeError("a worker process died") from None
                self._load[index] -= 1
                if not good:
                    self.failures.append(result)
                    if len(self.failures) > 50:
                        raise RuntimeError(f"too many failures: {self.failures[-3:]}")
                    result = None
                found.append((self._waiting.pop(number), good, result))
        return found

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            try:
                pipe.send(None)
            except OSError:
                pass
        end = time.monotonic() + 1.0
        for process in self._processes:
            process.join(max(0.0, end - time.monotonic()))
            if process.is_alive():
                process.terminate()
