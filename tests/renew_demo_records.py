"""Copy the records of the last ``make demo`` into tests/records/demo, in their published form."""

from pathlib import Path

from dsstudy import paths
from dsstudy.records.published_copy import publish_study

paths.results_folder = lambda: Path(__file__).parent / "records"
print(publish_study(paths.project_root() / "runs" / "demo"))
