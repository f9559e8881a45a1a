"""How many workers pay: trials per minute with one worker up to twice as many as there are cores.

The nets, the space and the data of `trials.py`: small nets of one thread each, with MLflow on, start-up included. Cores
are divided among the workers, so fewer workers have more threads each.

Run: python benchmarks/workers.py --seconds 60 --json workers.json
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from trials import tunekit  # type: ignore[import-not-found]

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", type=int, help="this number of workers, in this process")
    arguments = parser.parse_args()
    if arguments.only:
        print(len(tunekit(arguments.seconds, arguments.only)))
        sys.exit()
    cores = len(os.sched_getaffinity(0))
    found = {}
    print(f"{cores} cores\nworkers  trials a minute")
    for workers in range(1, 2 * cores + 1):
        command = [sys.executable, __file__, "--seconds", str(arguments.seconds), "--only", str(workers)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        found[workers] = int(told.splitlines()[-1]) * 60 / arguments.seconds
        print(f"{workers:7}  {found[workers]:15.1f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"cores": cores, "trials_per_minute": found}, indent=1))
