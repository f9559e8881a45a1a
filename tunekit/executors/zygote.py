"""The server that forks workers: `python -m tunekit.executors.zygote FD MODULE...`.

It imports the modules once, runs nothing of them, and then forks a ready-to-work process in some milliseconds for each
socket that it receives. Why not multiprocessing's forkserver: a process can have only one of that, which must then
either load TensorFlow for families that don't need it or not at all; and its children run the caller's main file again.

Only the conductor talks to it, over a private socket pair: it receives `(request, socket)` and sends ("ready",),
("started", request, pid) and ("ended", pid, wait status).
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
import threading
import time
import traceback
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def main(arguments: list[str]) -> None:
    """Import, then fork on demand until the conductor is gone; its end ends all children."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the conductor's to handle
    control = Connection(int(arguments[0]))
    for module in arguments[1:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # children then neither look through what was imported, nor copy its pages
    control.send(("ready",))
    children: set[int] = set()
    try:
        while True:
            readable, _, _ = select.select([control], [], [], 0.05)
            for pid in list(children):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    children.discard(pid)
                    control.send(("ended", pid, status))
            if readable:
                request, log = control.recv()
                socket = reduction.recv_handle(control)
                pid = _fork(control, socket, log)
                os.close(socket)
                children.add(pid)
                control.send(("started", request, pid))
    except (EOFError, OSError):
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def _fork(control: Connection, socket: int, log: str) -> int:
    server = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        control.close()
        _prefer_as_victim()
        threading.Thread(target=_end_with, args=(server,), daemon=True).start()
        _log_to(log)
        _work(Connection(socket))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _work(channel: Connection) -> None:
    """Run the jobs that come over the channel, one after the other, while they leave the process as good as new."""
    import cloudpickle

    from tunekit.executors.base import Place
    from tunekit.executors.words import JobDone

    reusable = True
    while reusable:
        try:
            search_path, log, data, folder, job = channel.recv()
        except (EOFError, OSError):  # nobody needs this process any more
            return
        _log_to(log)
        sys.path[:] = search_path
        function, arguments = cloudpickle.loads(job)
        reusable = function(Place(channel, data, folder), *arguments)
        del function, arguments
        sys.stdout.flush()
        sys.stderr.flush()
        channel.send(JobDone(reusable))


def _log_to(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _prefer_as_victim() -> None:
    """Where memory runs out, the kernel should end a trial and not the search."""
    score: Any = Path("/proc/self/oom_score_adj")
    if score.exists():
        score.write_text("1000")


def _end_with(server: int) -> None:
    """The server ends its children; this is for the case that it was itself killed."""
    while os.getppid() == server:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
