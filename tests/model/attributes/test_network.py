"""The networks against METHODS, one attribute and one photo at a time, with a wrong gain and masks below zero too."""

import math

import pytest
import torch
from torch.nn import functional as F

from tests.model.attributes.conftest import EARLY, LATE, WIDTH, Build
from threadmatch.model.attributes.config import Attribute, AttributeConfig
from threadmatch.model.attributes.network import AGMAN, ASENetV2

LEVELS = torch.randn(2, LATE + EARLY, 4, 3, generator=torch.Generator().manual_seed(1))


def test_ag_man_is_the_forward_pass_of_its_code_for_each_photo_and_attribute(build: Build) -> None:
    net = build("ag-man")
    assert isinstance(net, AGMAN)
    embeddings, attention, logits = net(LEVELS)
    assert logits is None  # the classifier is for training
    for photo in range(2):
        b, a = LEVELS[photo : photo + 1, :LATE], LEVELS[photo : photo + 1, LATE:]
        m = b + F.conv2d(a, net.fuse.weight, net.fuse.bias)
        x = F.conv2d(net.gain * torch.cat([b, m], 1), net.reduce.weight, net.reduce.bias)[0]  # (d, h, w)
        norm = net.norm
        keys = F.batch_norm(x[None], norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)[
            0
        ].tanh()
        for c in range(3):
            t = F.linear(net.table[c], net.look.weight, net.look.bias)
            u = t * t.sigmoid()
            att = ((u[:, None, None] * keys).sum(0) / math.sqrt(WIDTH)).flatten().softmax(0).view(4, 3)
            torch.testing.assert_close(attention[photo, c], att)
            x1 = net.look_gain * att * x
            gate = F.conv2d(torch.stack([x1.mean(0), x1.amax(0)])[None], net.gate.weight, padding=3)[0, 0].sigmoid()
            v = (gate * x1).sum((1, 2))
            t = F.linear(net.table[c], net.weigh.weight, net.weigh.bias)
            r = t * t.sigmoid()
            g = net.out(F.relu(net.hidden(torch.cat([v, r])))).sigmoid()
            z = net.out_gain * g * v * net.masks[c].relu()
            torch.testing.assert_close(embeddings[photo, c], z / z.norm())


def test_asenet_v2_is_the_forward_pass_of_its_code_for_each_photo_and_attribute(build: Build) -> None:
    net = build("asenet-v2")
    assert isinstance(net, ASENetV2)
    embeddings, attention, logits = net(LEVELS)
    assert logits is None
    assert embeddings.shape == (2, 3, LATE)  # as wide as the map, not as the attention
    for photo in range(2):
        x = LEVELS[photo, :LATE]
        keys = net.norm(F.conv2d(x[None], net.reduce.weight, net.reduce.bias))[0].tanh()
        for c in range(3):
            guide = F.linear(net.table[c], net.look.weight, net.look.bias).tanh()
            att = ((guide[:, None, None] * keys).sum(0) / math.sqrt(WIDTH)).flatten().softmax(0).view(4, 3)
            torch.testing.assert_close(attention[photo, c], att)
            v = (att * x).sum((1, 2))
            r = F.linear(net.table[c], net.weigh.weight, net.weigh.bias).relu()
            z = net.out(F.relu(net.hidden(torch.cat([v, r])))).sigmoid() * v
            torch.testing.assert_close(embeddings[photo, c], z / z.norm())


def test_a_photo_of_which_nothing_is_left_has_an_embedding_of_zeros_and_not_of_nan(build: Build) -> None:
    net = build("ag-man")
    with torch.no_grad():
        net.get_parameter("masks").fill_(-1)
    assert (net(LEVELS).embeddings == 0).all()


def test_in_training_the_classifier_reads_the_fused_map(build: Build) -> None:
    net = build("ag-man").train()
    assert isinstance(net, AGMAN)
    assert net.classify is not None
    m, _ = net.fused(LEVELS)
    torch.testing.assert_close(net(LEVELS).logits, net.classify(m.mean((2, 3))))


def test_in_the_papers_form_the_classifier_reads_what_the_backbones_rest_makes_of_the_fused_map() -> None:
    config = AttributeConfig(width=WIDTH, classifier="rest", attributes=(Attribute("neckline"), Attribute("fit")))
    rest = torch.nn.Conv2d(LATE, 9, 3, stride=2)
    net = AGMAN(config, (EARLY, LATE), rest=rest, rest_channels=9).train()
    assert net.classify is not None
    torch.testing.assert_close(net(LEVELS).logits, net.classify(rest(net.fused(LEVELS)[0]).mean((2, 3))))


@pytest.mark.parametrize("form", ["ag-man", "asenet-v2"])
def test_every_parameter_learns_the_masks_too(build: Build, form: str) -> None:
    net = build(form).train()
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name == "masks":
                value.clamp_(min=0.1)
    made = net(LEVELS)
    weights = torch.randn(made.embeddings.shape, generator=torch.Generator().manual_seed(2))
    loss = (made.embeddings * weights).sum() + (0 if made.logits is None else made.logits.square().sum())
    loss.backward()
    idle = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert idle == [name for name, _ in net.named_parameters() if name.startswith("values")]  # another loss's
