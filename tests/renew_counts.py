"""Count what the study files' models consist of: spec/model_counts.csv."""

from dsstudy.paths import project_root
from dsstudy.spec.model_counts import Counts
from dsstudy.spec.study import load_study
from dsstudy.spec.trial import ARCHITECTURES, Trial
from dsstudy.training.models import count_model


def counted() -> dict[tuple[str, int], Trial]:
    """Return a trial of each model and image size: the paper's, then the study files'."""
    trials = [Trial(model=name) for name in ARCHITECTURES]
    for file in sorted((project_root() / "parameters").glob("*.yaml")):
        trials += load_study(file).trials
    return {(trial.model, trial.image_size): trial for trial in reversed(trials)}


if __name__ == "__main__":
    lines = [",".join(["model", "image_size", *Counts._fields])]
    for (model, size), trial in sorted(counted().items()):
        lines.append(",".join(map(str, [model, size, *count_model(trial)])))
    (project_root() / "dsstudy" / "spec" / "model_counts.csv").write_text("\n".join(lines) + "\n")
