"""Real Ray clusters on this machine: `python tests/clusters.py CPUS...` starts one, which ends with its standard input.

Each number is a raylet with so many CPUs, which Ray takes for a node; the first is the head. They are in a process of
their own: that of a test then needs no Ray, and nothing outlives it. All listen on 127.0.0.1 only.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

STORE = 100 * 2**20
"""Bytes of each node's object store."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs.

    Args:
        address: of its head.
        gcs: the head's process that knows of all nodes.
        raylets: the process of each node, the head's first.
    """

    address: str
    gcs: psutil.Process
    raylets: list[psutil.Process]

    def actors(self, node: int | None = None) -> list[psutil.Process]:
        """The processes of tunekit's actors, on one node or all."""
        raylets = self.raylets if node is None else [self.raylets[node]]
        workers = [worker for raylet in raylets if raylet.is_running() for worker in raylet.children()]
        return [worker for worker in workers if worker.name().startswith("ray::Node")]


@contextmanager
def cluster(*cpus: int) -> Iterator[Cluster]:
    """A cluster with a node for each number of CPUs."""
    with tempfile.TemporaryDirectory(
        prefix="tk-ray-", ignore_cleanup_errors=True
    ) as folder:  # short: sockets are in it
        environment = {
            **os.environ,
            "RAY_TMPDIR": folder,  # or other searches on this machine would find it
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        with (Path(folder) / "printed.txt").open("w+") as printed:
            process = subprocess.Popen(
                [sys.executable, __file__, *map(str, cpus)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed,
                text=True,
                start_new_session=True,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            told = process.stdout.readline()
            if not told:
                process.wait()
                printed.seek(0)
                words = f"exit code {process.returncode}: {printed.read().strip()[-300:]}"
                pytest.skip(f"a Ray cluster can't be started here; {words}")
            facts = json.loads(told)
            yield Cluster(
                facts["address"], psutil.Process(facts["gcs"]), [psutil.Process(pid) for pid in facts["raylets"]]
            )
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _serve(cpus: list[int]) -> None:
    from ray.cluster_utils import Cluster as RaysCluster

    made = RaysCluster()
    nodes = [made.add_node(num_cpus=one, object_store_memory=STORE, include_dashboard=False) for one in cpus]
    pids = [node.all_processes["raylet"][0].process.pid for node in nodes]
    gcs = nodes[0].all_processes["gcs_server"][0].process.pid
    sys.stdout.write(json.dumps({"address": made.address, "gcs": gcs, "raylets": pids}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    made.shutdown()


if __name__ == "__main__":
    _serve([int(one) for one in sys.argv[1:]])
