"""Process many items in worker processes, with a progress bar. The workers end when the main process ends."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import connection, get_context, parent_process
from typing import TypeVar

import cv2
from tqdm import tqdm

from han_arch.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


# The fast way to start a process, where the system can do it. macOS crashes forked processes.
_FORK = "fork" if hasattr(os, "fork") and sys.platform != "darwin" else "spawn"


class WorkerDied(UserError):
    """A worker process ended without a Python exception: it was killed, or a library crashed."""


def default_workers() -> int:
    """Return the default number of workers: the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_through(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, label: str
) -> Iterator[tuple[Item, Result]]:
    """Apply a picklable function to all items; yield (item, result) as soon as an item is finished, in no fixed order.

    With 0 or 1 workers, the calling process does the work itself. `label` is the text in front of the progress bar.

    Raises:
        WorkerDied: a worker process ended without an exception, most likely because memory ran out.
    """
    if not items:
        return
    with tqdm(total=len(items), desc=label, unit="img", dynamic_ncols=True) as progress:
        inline = ((item, function(item)) for item in items)
        for done in inline if workers < 2 else _in_processes(function, items, workers):
            yield done
            progress.update()


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, label: str, delay: float = 2
) -> Iterator[Result]:
    """Apply a function to all items in threads; yield the results in the order of the items.

    `label` is the text in front of the progress bar, which is shown after `delay` seconds.
    """
    executor = ThreadPoolExecutor(workers)
    try:
        results = executor.map(function, items)
        yield from tqdm(results, total=len(items), desc=label, unit="img", dynamic_ncols=True, delay=delay)
    finally:
        executor.shutdown(cancel_futures=True)


def run_apart(function: Callable[[Item], Result], item: Item) -> Result:
    """Return `function(item)`, computed in a separate process; raise WorkerDied if that process crashes.

    The process is forked, so the function must not use OpenCV, PyTorch or locks. Ctrl-C ends both processes at once.
    """
    (done,) = _in_processes(function, [item], 1, _FORK)
    return done[1]


def _in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, method: str = "spawn"
) -> Iterator[tuple[Item, Result]]:
    waiting = iter(items)  # at most 2 * workers items are in progress at a time, which limits the memory for results
    # By default, spawn the workers, because the threads of OpenCV and tqdm do not survive a fork.
    start = _start_worker if method == "spawn" else _start_forked
    executor = ProcessPoolExecutor(workers, mp_context=get_context(method), initializer=start)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks of a process with threads
            running: dict[Future[Result], Item] = {
                executor.submit(function, item): item for item in islice(waiting, 2 * workers)
            }
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
                running.update((executor.submit(function, item), item) for item in islice(waiting, 1))
    except BrokenProcessPool:
        raise WorkerDied(
            "a worker process was killed or crashed, most likely because memory ran out; run the command again with "
            "fewer --workers (finished images are kept)"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def _start_worker() -> None:
    # Ctrl-C interrupts the parent and all workers. The workers ignore it, because the parent stops them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _start_forked() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent waits for the end of the item, which may be long
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # A killed parent cannot stop its workers. So this thread waits for the end of the parent, then ends the worker.
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
