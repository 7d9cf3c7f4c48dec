"""The paper's numbers and names, against its text."""

from dsstudy.paper import printed


def value(column: str, *cell: str) -> float:
    return printed.printed_by_cell(column)[cell]


def test_the_tables_hold_the_42_cells():
    for column in ("best_accuracy", "seconds_per_epoch"):
        table = printed.printed_values(column)
        cells = [tuple(row[:3]) for row in table.itertuples(index=False)]
        assert tuple(cells) == printed.CELLS
        assert len(set(cells)) == 42
        assert table["value"].notna().all()


def test_the_tables_agree_with_the_papers_text():
    # Section 3.2.1: "DenseNet with DeepSpeed training is 52.70% accuracy ... 75.61%".
    assert value("best_accuracy", "densenet121", "deepspeed", "SGD") == 52.70
    assert value("best_accuracy", "densenet121", "normal", "SGD") == 75.61
    # "from about 57% accuracy to close to 80% ... from lower 70% accuracy to 80%" (ResNet).
    assert value("best_accuracy", "resnet18", "deepspeed", "Adam+S") == 79.72
    assert value("best_accuracy", "resnet18", "normal", "SGD+S") == 70.43
    # Section 3.2.2: normal training is faster "except DenseNet-121 with Adam optimizer".
    assert value("seconds_per_epoch", "densenet121", "deepspeed", "Adam+S") == 288.87
    assert value("seconds_per_epoch", "densenet121", "normal", "Adam+S") == 318.77


def test_panel_a_is_the_unequal_comparison():
    unequal = [panel for panel, sides in printed.PANELS.items() if len(set(sides.values())) > 1]
    assert unequal == ["a"]
