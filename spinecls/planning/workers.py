"""Share work among worker processes, survive their death, and leave none behind."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


KILLED = (
    "its worker process was killed, twice; usually the system ran out of memory. Use fewer processes (-np 1), or give "
    "it more memory."
)
"""What to tell of an item that came with `WorkerDied`."""


class WorkerDied:
    """Result of an item whose worker process was killed, also when it did nothing else."""


def run_each(
    function: Callable[[Item], Result], items: Sequence[Item], num_processes: int
) -> Iterator[tuple[Item, Result | WorkerDied]]:
    """Yield every item with its result, as they finish.

    When a worker dies, nothing tells which item killed it. So only as many items as workers are out at a time, and
    each of those then runs again alone; one that kills its worker again comes with `WorkerDied` as its result.

    Parameters
    ----------
    function : importable function of one item; what it raises is raised here
    num_processes : with one, or one item, the work is done in this process
    """
    workers = min(num_processes, len(items))
    if workers <= 1:
        for item in items:
            yield item, function(item)
        return
    waiting = list(items)
    while waiting:
        suspects: list[Item] = []
        yield from _until_a_worker_dies(function, waiting, workers, suspects)
        for item in suspects:
            yield item, _alone(function, item)


def _until_a_worker_dies(
    function: Callable[[Item], Result], waiting: list[Item], workers: int, suspects: list[Item]
) -> Iterator[tuple[Item, Result]]:
    """Take items from `waiting`; those that were out when a worker died go to `suspects`."""
    with _pool(workers) as pool:
        running: dict[Future[Result], Item] = {}
        while (waiting and not suspects) or running:
            while waiting and not suspects and len(running) < workers:
                item = waiting.pop(0)
                try:
                    running[pool.submit(function, item)] = item
                except BrokenProcessPool:
                    suspects.append(item)
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                item = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    suspects.append(item)
                    continue
                yield item, result


def _alone(function: Callable[[Item], Result], item: Item) -> Result | WorkerDied:
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return WorkerDied()


def _pool(workers: int) -> ProcessPoolExecutor:
    # Spawned workers inherit no locks of a threaded parent.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let a worker end when the main process is killed, instead of waiting for work for ever."""
    parent = multiprocessing.parent_process()

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, args=(parent,), daemon=True).start()
