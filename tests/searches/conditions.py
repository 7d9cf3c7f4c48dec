"""Search for conditions of study files that select trials of which they are not true.

    .venv/bin/python tests/searches/conditions.py [RUNS]

A run is the property test on conditions with hypothesis's profile "search": 2000 new examples.
"""

import json
import os
import re
import sys
from collections import Counter
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest

from dsstudy.paths import project_root

TEST = "tests/behaviour/test_properties.py::test_a_condition_selects_the_trials_of_which_it_is_true"
RESULT = Path(__file__).parent / "results" / "conditions.json"


class Examples:
    """A plugin of pytest that counts a property test's examples and keeps its errors."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        for number, kind in re.findall(r"(\d+) (passing|failing)", item.hypothesis_statistics):
            self.counts[kind] += int(number)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.errors.append(report.longreprtext)


def main() -> None:
    """Run the test several times, each with examples of its own."""
    os.environ["HYPOTHESIS_PROFILE"] = "search"
    os.chdir(project_root())
    examples = Examples()
    for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        pytest.main([TEST, "-p", "no:cacheprovider"], plugins=[examples])
    record = {
        "date": date.today().isoformat(),
        **{name: version(name) for name in ("hypothesis", "pydantic", "pyyaml")},
        "tried": examples.counts.total(),
        "failed": examples.errors,
    }
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{record['tried']} tried, {len(record['failed'])} failed: {RESULT}")
    sys.exit(bool(record["failed"]))


if __name__ == "__main__":
    main()
