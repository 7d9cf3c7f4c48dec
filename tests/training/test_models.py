import pytest
import torch
from renew_counts import counted

from dsstudy.errors import InputError
from dsstudy.spec.model_counts import model_counts
from dsstudy.spec.trial import ARCHITECTURES, Trial
from dsstudy.training.model_check import check_model
from dsstudy.training.models import (
    build_model,
    count_model,
    model_summary,
    parameter_count,
)

# With 1000 classes, as published: torchvision's and timm's documentation. LeNet with 10: 62,006,
# from the layers of the DeepSpeed example.
PUBLISHED = {
    "alexnet": 61_100_840,
    "vgg11_bn": 132_868_840,
    "resnet18": 11_689_512,
    "densenet121": 7_978_856,
    "squeezenet1_0": 1_248_424,
    "vit": 86_567_656,
}
SMALLEST = {"lenet": 16, "alexnet": 63, "vgg11_bn": 32, "resnet18": 8, "densenet121": 29,
            "squeezenet1_0": 21, "vit": 16}  # fmt: skip


def on_meta(model: str, classes: int, **parameters) -> torch.nn.Module:
    with torch.device("meta"):  # shapes without memory
        return build_model(Trial(model=model, **parameters), classes)


@pytest.mark.parametrize(("model", "count"), PUBLISHED.items())
def test_parameter_counts_are_the_published_ones(model, count):
    assert parameter_count(on_meta(model, 1000)) == count


def test_lenet_is_the_examples():
    assert parameter_count(on_meta("lenet", 10)) == 62_006


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_models_take_their_default_and_their_smallest_size(model):
    check_model(Trial(model=model), classes=10)
    check_model(Trial(model=model, image_size=SMALLEST[model]), classes=7)
    if SMALLEST[model] > 8:
        with pytest.raises(InputError, match=f"is not possible for model={model}"):
            check_model(Trial(model=model, image_size=SMALLEST[model] - 1))


@pytest.mark.parametrize(
    "model",
    ["timm/vit_tiny_patch16_224", "timm/convnext_atto", "torchvision/vit_b_16",
     "torchvision/mobilenet_v3_small", "torchvision/googlenet"],
)  # fmt: skip
def test_any_other_classifier_works_at_another_size(model):
    check_model(Trial(model=model, image_size=64), classes=5)


def test_a_model_that_computes_its_sizes_by_tensors_is_inspected_all_the_same():
    """torchvision's RegNet: 4,344,144 parameters with 1000 classes, by its documentation."""
    trial = Trial(model="torchvision/regnet_y_400mf", image_size=32)
    check_model(trial)
    assert count_model(trial, 1000).parameters == 4_344_144
    assert model_summary(trial, 1000)["parameters"].iloc[0] == "4,344,144"


@pytest.mark.parametrize("model", ["timm/resnet_18", "torchvision/fcn_resnet50"])
def test_unknown_models_are_refused(model):
    with pytest.raises(InputError, match="is not among the models of the installed"):
        check_model(Trial(model=model))


def test_weights_are_a_function_of_the_seed():
    def weights(seed: int) -> torch.Tensor:
        return build_model(Trial(seed=seed), 10).conv1.weight

    torch.manual_seed(99)
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_summary_counts_parameters_and_multiplications():
    table = model_summary(Trial())
    assert table["parameters"].iloc[0] == "62,006"
    # 28*28*6*75 + 10*10*16*150, and the biases' additions, as torchinfo counts
    assert table["multiply-adds"].iloc[0] == "658,238"


def test_the_arithmetic_of_a_step_is_counted_forward_and_backward():
    first = 28 * 28 * 6 * 75  # its input, the image, needs no gradient
    forward = first + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10
    assert count_model(Trial()).flops == 2 * (3 * forward - first)


@pytest.mark.parametrize("key", counted(), ids=str)
def test_the_counts_are_those_of_the_models_that_the_study_files_name(key):
    # If this fails, run: python tests/renew_counts.py
    assert model_counts()[key] == count_model(counted()[key])


def test_nothing_else_is_counted():
    assert model_counts().keys() == counted().keys()
