"""Copy the records of the last ``make demo`` into tests/records/demo, in their published form."""

from pathlib import Path

from dsstudy.spec.trial import project_root
from dsstudy.studies import batch

batch.published_folder = lambda study: Path(__file__).parent / "records" / study
print(batch.publish(project_root() / "runs" / "demo"))
