from pathlib import Path

import pytest

from dsstudy.errors import InputError
from dsstudy.spec.trial import Trial


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"epoch": 3}, "epoch is not a parameter of a trial: did you mean epochs?"),
        ({"epochs": 0}, "epochs=0 is not allowed: set epochs to a whole number, 1 or more"),
        ({"epochs": 2.5}, "epochs=2.5 is not allowed"),
        ({"epochs": True}, "epochs=True is not allowed"),
        ({"epochs": None}, "epochs=no value is not allowed"),
        ({"engine": "deepsped"}, "set engine to normal, ddp or deepspeed"),
        ({"model": "resnet19"}, "set model to lenet, alexnet"),
        ({"learning_rate": float("nan")}, "set learning_rate to a number above 0"),
        ({"gradient_clipping": -1}, "set gradient_clipping to none or a number above 0"),
        ({"train_images": "some"}, "set train_images to all or a whole number"),
        ({"train_images": 8}, "does not fill one batch"),
        ({"processes": 2}, "not possible with engine=normal"),
        ({"zero_stage": 2}, "has no ZeRO"),
        ({"engine": "deepspeed", "bucket_size": 1000}, "not possible with zero_stage=0"),
        ({"engine": "deepspeed", "processes": 3}, "cannot be split evenly"),
        ({"dataset": "imagefolder"}, "set data_dir to a folder"),
        ({"optimizer": ["sgd"]}, "set optimizer to sgd or adam"),
        ({"architecture": "../../etc"}, "architecture=../../etc is not allowed"),
        ({"epochs": 10**5000}, "epochs=a number too long to show is not allowed"),
        ({"model": b"lenet"}, "model=b'lenet' is not allowed"),
        ({"model": "timm/" + 90 * "x"}, "is not allowed: set model to"),
        ({"model": "../nets:small"}, "model=../nets:small is not allowed"),
        ({"model": ".nets:small"}, "or module:callable of your own"),
        ({"model": "nets:" + 96 * "x"}, "is not allowed: set model to"),
        ({"data_dir": True}, "data_dir=True is not allowed"),
        ({"data_dir": 2026}, "set data_dir to a folder, or none (as text: in quotes"),
        ({"data_dir": "a\0b"}, r"data_dir='a\x00b' is not allowed"),
        ({"output_dir": ""}, "output_dir='' is not allowed"),
        ({"self": 1}, "self is not a parameter of a trial"),
        ({"a\nb": 1}, r"'a\nb' is not a parameter of a trial"),
    ],
)
def test_bad_input_gets_one_sentence(parameters, sentence):
    with pytest.raises(InputError) as error:
        Trial(**parameters)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_auto_is_replaced_by_what_it_stands_for():
    assert Trial().image_size == 32
    assert Trial(model="vit").image_size == 224
    assert Trial(model="timm/vit_tiny_patch16_224").architecture == "timm/vit_tiny_patch16_224"
    assert Trial(optimizer="sgd").cycle_momentum is True
    assert Trial(optimizer="adam").cycle_momentum is False


def test_numbers_may_be_written_as_text():
    # PyYAML reads 1e-3 as a string.
    assert Trial(learning_rate="1e-3") == Trial(learning_rate=0.001)


def test_name_changes_with_science_and_with_nothing_else():
    base = Trial()
    assert Trial(output_dir="/x", overwrite=True, device="cpu", data_dir="y").name == base.name
    assert Trial(momentum=-0.0).name == Trial(momentum=0.0).name
    for changed in ({"seed": 1}, {"momentum": 0.0}, {"image_size": 28}, {"train_images": 100}):
        assert Trial(**changed).name != base.name
    # Spelling out a default, or what auto stands for, changes nothing: nor would a parameter
    # that a later version adds.
    assert Trial(image_size=32, architecture="lenet", epochs=3).name == base.name
    # Pinned: published records are found by their names.
    assert base.name == "lenet-normal-sgd-seed0-c7443eb2"


def test_name_is_a_plain_folder_name():
    name = Trial(model="timm/vit_tiny_patch16_224", architecture="vit").name
    assert "/" not in name
    assert not name.startswith(".")


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "setting"),
    [("sgd", "none", "SGD"), ("sgd", "warmup", "SGD+S"), ("adam", "cyclic", "Adam+S")],
)
def test_setting_is_the_papers(optimizer, scheduler, setting):
    assert Trial(optimizer=optimizer, scheduler=scheduler).setting == setting


def test_namespace_of_a_notebook():
    def function():
        pass

    namespace = {"epochs": 2, "_private": 1, "In": [""], "Out": {}, "os": pytest, "f": function}
    assert Trial.from_namespace(namespace).epochs == 2
    with pytest.raises(InputError, match="did you mean epochs"):
        Trial.from_namespace({**namespace, "epoch": 5})


def test_data_folder_is_relative_to_the_data_root(monkeypatch, tmp_path):
    monkeypatch.setenv("DSSTUDY_DATA", str(tmp_path))
    assert Trial(data_dir="a/b").data_folder == tmp_path / "a/b"
    assert Trial().data_folder == tmp_path
    assert str(Trial(data_dir="/elsewhere").data_folder) == "/elsewhere"
    assert Trial(data_dir="~/data").data_folder == Path.home() / "data"
    for name, folder in (("data_dir", "data_folder"), ("output_dir", "folder")):
        with pytest.raises(InputError, match=f"{name}=~nobody0 names no user"):
            getattr(Trial(**{name: "~nobody0"}), folder)
