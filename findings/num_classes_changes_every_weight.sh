#!/usr/bin/env bash
# With one seed, a ResNet for 10 classes and one for 100 classes share none of their random weights.
#
# Expected: the classifier is made last, so with the same seed everything before it starts equal; only the last layer's
# shape differs.
# Instead: in torchvision's and timm's ResNet-18 none of the 20 convolutions is equal, nor is any in VGG-11 and
# DenseNet-121 of either, nor in torchvision's SqueezeNet. These nets are built layer by layer first, and then a loop
# over all modules draws the convolutions anew; between the two the classifier has taken its numbers from the generator,
# more of them for more classes. AlexNet, which has no such loop, starts equal everywhere but in the last layer.
# Matters: "the same seed" does not pair a run on CIFAR-10 with one on CIFAR-100, nor a run with and one without an
# extra class; differences taken seed by seed carry the whole spread between seeds. Remedy: build both with one number
# of classes and replace the last layer afterwards (checked below), or share a state dict.
# Source: torchvision/models/resnet.py (ResNet.__init__: the loop after self.fc), timm/models/resnet.py
# (ResNet.__init__: create_classifier, then init_weights), torchvision/models/alexnet.py.
# Versions: torch 2.14.1, torchvision 0.29.2, timm 1.0.31, Python 3.11, CPU.
# Run to its end on 27 November 2026; exit 0, and the program printed:
#   torchvision resnet18        0 of  20 convolutions equal
#   torchvision vgg11_bn        0 of   8 convolutions equal
#   torchvision densenet121     0 of 120 convolutions equal
#   torchvision squeezenet1_0   0 of  25 convolutions equal
#   torchvision alexnet         5 of   5 convolutions equal
#   timm        resnet18        0 of  20 convolutions equal
#   timm        vgg11_bn        0 of  10 convolutions equal
#   timm        densenet121     0 of 120 convolutions equal
#   torchvision resnet18, last layer replaced afterwards: 20 of 20
#   As stated: another number of classes, other weights everywhere, except in AlexNet.
set -euo pipefail

export OMP_NUM_THREADS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
export PATH="$work/venv/bin:$PATH"
pip install -q torch==2.14.1 torchvision==0.29.2 timm==1.0.31 numpy==2.4.6

cat > "$work/program.py" <<'EOF'
import timm, torch
from torchvision import models

def equal(build, replace=False):
    """How many convolutions of a net for 10 and one for 100 classes, made from one seed, are equal; of how many."""
    nets = []
    for classes in (10, 100):
        torch.manual_seed(0)
        nets.append(build(10 if replace else classes))
        if replace:
            nets[-1].fc = torch.nn.Linear(nets[-1].fc.in_features, classes)
    first, second = ([m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d)] for net in nets)
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a.shape == b.shape]
    return sum(torch.equal(a, b) for a, b in pairs), len(pairs)

seen = {}
for name in ("resnet18", "vgg11_bn", "densenet121", "squeezenet1_0", "alexnet"):
    seen["torchvision", name] = equal(lambda classes: models.get_model(name, num_classes=classes))
for name in ("resnet18", "vgg11_bn", "densenet121"):
    seen["timm", name] = equal(lambda classes: timm.create_model(name, num_classes=classes))
for (library, name), (same, of) in seen.items():
    print(f"{library:11} {name:13} {same:3} of {of:3} convolutions equal")
replaced = equal(lambda classes: models.resnet18(num_classes=classes), replace=True)
print(f"torchvision resnet18, last layer replaced afterwards: {replaced[0]} of {replaced[1]}")
plain = seen.pop(("torchvision", "alexnet"))
if not (all(same == 0 and of > 5 for same, of in seen.values()) and plain == (5, 5) and replaced == (20, 20)):
    raise SystemExit("Changed: the number of classes no longer decides over all convolutions' first values.")
print("As stated: another number of classes, other weights everywhere, except in AlexNet.")
EOF
python "$work/program.py"
