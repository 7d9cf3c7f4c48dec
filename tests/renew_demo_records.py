"""Copy the records of the last ``make demo`` into tests/records/demo, in their published form."""

from pathlib import Path

from dsstudy import batch
from dsstudy.trial import project_root

batch.published_folder = lambda study: Path(__file__).parent / "records" / study
print(batch.publish(project_root() / "runs" / "demo"))
