"""What two ranks cost on two machines instead of one: until they start, and per step.

Usage: python benchmarks/hosts.py [--rounds 3], as root

The machines are namespaces of this one, with one core each (`machines.py`); on one machine the two
ranks have one core each too. So two things differ: the ranks are started by ssh, and they exchange
data over a virtual network instead of the machine's memory. A real network is slower.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import save
from machines import ADDRESSES, two_machines

from dsstudy.records.record import Record

TRAIN = "import dsstudy, json, sys; dsstudy.run_trial(dsstudy.Trial(**json.loads(sys.argv[1])))"
TRIAL = {"processes": 2, "train_images": 3200, "test_images": 100, "keep_checkpoint": False}
STEPS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as name, two_machines(Path(name)) as machines:
        folder = Path(name)
        (folder / "hostfile").write_text("".join(f"{host} slots=1\n" for host in ADDRESSES))
        places = {
            "one machine": ([], "none"),
            "two machines": (machines["dsstudy-one"], f"{folder}/hostfile"),
        }
        for number in range(options.rounds):
            for engine in ("deepspeed", "ddp"):
                for place, (into, hostfile) in places.items():
                    own = {"engine": engine, "hostfile": hostfile}
                    output = {"output_dir": f"{folder}/{engine}-{place}-{number}"}
                    measured = train(into, TRIAL | own | output)
                    results.setdefault(f"{engine}, {place}", []).append(measured)
                    print(f"{engine:10} {place:13}", measured)
    save("hosts", {"trial": TRIAL, "seconds": results})


def train(into: list[str], parameters: dict[str, Any]) -> dict[str, float]:
    """Run a trial on a machine; return the seconds until its first step, and per step."""
    command = [*into, sys.executable, "-c", TRAIN, json.dumps(parameters)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    record = Record(parameters["output_dir"])
    result = record.result()
    assert result is not None
    step = statistics.median(e["train_seconds"] for e in record.epochs()) / STEPS
    return {"start": round(result["startup_seconds"], 3), "step": round(step, 6)}


if __name__ == "__main__":
    main()
