"""What the benchmarks share: pairwise ratios, and results saved with their machine."""

import json
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

from dsstudy.launching.machine import Machine, describe_environment

RESULTS = Path(__file__).parent / "results"


def ratio_table(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Return median, smallest and largest of the ratios, round by round."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "median": round(statistics.median(ratios), 3),
        "min": round(min(ratios), 3),
        "max": round(max(ratios), 3),
    }


def save(name: str, results: dict) -> None:
    """Print results and keep them as results/<name>.json, with hardware, versions and date."""
    file = RESULTS / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    content = results | {
        "command": " ".join(["python", *[Path(word).name for word in sys.argv]]),
        "date": datetime.now(UTC).date().isoformat(),
        "environment": describe_environment(Machine.here()),
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(results, indent=1))
