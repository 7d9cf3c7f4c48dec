"""Networks of a user's own, each with something that users' networks have."""

import torch
from torch import nn


def plain(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                         nn.Flatten(), nn.Linear(16, num_classes))  # fmt: skip


def twelve(num_classes):
    return plain(12)


def lazy(num_classes):
    return nn.Sequential(nn.LazyConv2d(4, 3, stride=4), nn.LazyBatchNorm2d(), nn.ReLU(),
                         nn.Flatten(), nn.LazyLinear(num_classes))  # fmt: skip


def channels_last(num_classes):
    return plain(num_classes).to(memory_format=torch.channels_last)


def transposed(num_classes):
    net = plain(num_classes)
    net[4].weight = nn.Parameter(net[4].weight.detach().t().contiguous().t())
    return net


class Scaled(nn.Module):
    """A network whose scores are multiplied by a parameter of a given shape."""

    def __init__(self, num_classes, shape=()):
        super().__init__()
        self.net, self.scale = plain(num_classes), nn.Parameter(torch.ones(shape))

    def forward(self, images):
        return self.net(images) * self.scale


def one_number(num_classes):
    return Scaled(num_classes, (1,))


class Wandering(Scaled):
    """A network that changes its weights beside the optimizer, on every rank in its own way."""

    def forward(self, images):
        if self.training:
            with torch.no_grad():
                self.scale += 0.01 * torch.rand(())
        return super().forward(images)


def wandering(num_classes):
    return Wandering(num_classes, (1,))


def double(num_classes):
    return plain(num_classes).double()


class Pair(nn.Module):
    """A network that returns two results in train mode, as those with auxiliary heads do."""

    def __init__(self, num_classes):
        super().__init__()
        self.net = plain(num_classes)
        self.eval()

    def forward(self, images):
        scores = self.net(images)
        return (scores, scores) if self.training else scores


def normalised(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.AdaptiveAvgPool2d(1),
                         nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, num_classes))  # fmt: skip


def frozen(num_classes):
    return plain(num_classes).requires_grad_(False)


def half_frozen(num_classes):
    net = plain(num_classes)
    net[0].requires_grad_(False)
    return net


class Shared(nn.Module):
    """A network with two layers that share a weight."""

    def __init__(self, num_classes):
        super().__init__()
        self.net, self.inner, self.outer = plain(8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.outer.weight = self.inner.weight
        self.last = nn.Linear(8, num_classes)

    def forward(self, images):
        return self.last(self.outer(self.inner(self.net(images)).relu()))


class Unused(nn.Module):
    """A network with two layers that take no part in its scores."""

    def __init__(self, num_classes):
        super().__init__()
        self.net, self.extra, self.head = plain(num_classes), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, images):
        return self.net(images)


def parsing(num_classes):
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--width", required=True)
    parser.parse_args(["--height", "3"])


def raising(num_classes):
    class Raising(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = plain(num_classes)

        def forward(self, images):
            raise KeyError("no such layer")

    return Raising()


class UnspeakableError(Exception):
    """An error that fails to write its own message."""

    def __str__(self):
        raise ValueError("no words")


class Unspeakable(nn.Module):
    """A network that raises such an error."""

    def __init__(self, num_classes):
        super().__init__()
        self.net = plain(num_classes)

    def forward(self, images):
        raise UnspeakableError
