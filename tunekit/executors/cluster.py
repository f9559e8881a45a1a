"""What is asked of Ray: which nodes there are, and an actor on one of them. Nothing else in tunekit imports Ray."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunekit import __version__
from tunekit.executors.node import Node

REACHING = 5.0
"""Seconds for the head of a cluster to answer."""

LAST_CALLS = 5.0
"""Seconds for actors to end what they run, and for Ray to do so."""


@dataclass(frozen=True)
class Machine:
    """A node that lives.

    Args:
        identity: Ray's.
        name: of its host.
        cpus: so many has Ray been told of.
        free: so many of them are not reserved.
        memory: bytes, by Ray's count.
    """

    identity: str
    name: str
    cpus: int
    free: int
    memory: int


class Cluster:
    """A Ray cluster, with this process as its driver: what it has there ends with it.

    Args:
        address: of the head; None for the cluster that Ray finds on this machine or in RAY_ADDRESS, or else a new one,
            which ends with this object.
        cpus: of a new one; None for as many as this machine has.
        patience: seconds to wait until something answers there.
        data: a folder whose files each actor gets.

    Raises:
        Exception: of many kinds, Ray's: there is no such cluster.
    """

    def __init__(self, address: str | None, cpus: int | None, patience: float, data: Path) -> None:
        import ray

        self._ray: Any = ray
        options: dict[str, Any] = {
            "namespace": f"tunekit-{uuid.uuid4()}",
            "log_to_driver": False,
            "logging_level": "ERROR",
        }
        found = self._ray._private.services.canonicalize_bootstrap_address(address)
        if found is None:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **options)
        else:
            _wait_for(found, patience)  # Ray itself would try for a quarter of an hour
            ray.init(address=found, **options)
        self.home = ray.get_runtime_context().get_node_id()
        self.host = str(self._ray.util.get_node_ip_address())
        self._make: Any = ray.remote(Node)
        files = sorted(data.iterdir())
        self._names = [file.name for file in files]
        self._rows = [ray.put(np.fromfile(file, dtype=np.uint8)) for file in files]  # each node fetches them once

    def machines(self) -> list[Machine]:
        """The nodes that live. Waits, and in the end kills this process, where the head is gone."""
        free = self._ray._private.state.available_resources_per_node()
        return [
            Machine(
                node["NodeID"],
                node["NodeManagerHostname"],
                int(node["Resources"].get("CPU", 0)),
                int(free.get(node["NodeID"], {}).get("CPU", 0)),
                int(node["Resources"].get("memory", 0)),
            )
            for node in self._ray.nodes()
            if node["Alive"]
        ]

    def hire(self, machine: Machine, cpus: int, *facts: Any) -> Actor:
        """An actor on a node, made as `Node(*facts, names, *rows)`. Ray is to try nothing twice."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        make = self._make.options(
            num_cpus=cpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine.identity, soft=False),
        )
        return Actor(self._ray, make.remote(*facts, self._names, *self._rows))

    def close(self, actors: Sequence[Actor]) -> None:
        """Wait for actors that were told to end, and leave the cluster."""
        services = [actor.service for actor in actors if actor.service is not None]
        if services:
            self._ray.wait(services, num_returns=len(services), timeout=LAST_CALLS)
        last = threading.Thread(target=self._ray.shutdown, daemon=True)  # waits long where the cluster is gone
        last.start()
        last.join(LAST_CALLS)


class Actor:
    """A `Node` on a node.

    Args:
        ray: the library.
        handle: Ray's.
    """

    def __init__(self, ray: Any, handle: Any) -> None:
        self._ray = ray
        self._handle = handle
        self.service: Any = None

    def serve(self, ended: Callable[[str], Any], *facts: Any) -> None:
        """Have it `serve(*facts)`; `ended` is called when it does no more, with the reason in words."""
        self.service = self._handle.serve.remote(*facts)
        self.service.future().add_done_callback(lambda future: ended(_reason(future.exception())))

    def kill(self) -> None:
        """End it; in a thread, for the call waits where the head is gone."""
        threading.Thread(target=self._ray.kill, args=(self._handle,), daemon=True).start()


def _wait_for(address: str, patience: float) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + patience
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACHING).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConnectionError(
                    f"nothing answers at {address} ({error}); expected the head of a cluster there, such as one that "
                    "was started by `ray start --head`"
                ) from error
        time.sleep(1.0)


def _reason(error: BaseException | None) -> str:
    """The cause in an error of Ray's, which is in its last line."""
    if error is None:
        return "it ended by itself"
    if "No module named 'tunekit" in str(error):
        return f"tunekit is not installed there; expected version {__version__}, as here"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:400] if lines else type(error).__name__
