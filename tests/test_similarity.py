"""Linear CKA against its definition, and what it is blind to."""

import numpy as np
import pytest
import torch
from conftest import small_network

from kdlib import similarity
from kdlib.models import ConvNet
from kdlib.objectives import Classify, Distill
from kdlib.similarity import linear_cka
from kdlib.training import fit


def layer(channels, seed=0):
    return torch.randn(20, channels, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_linear_cka_is_the_normalised_hsic_of_the_kernels():
    """By the definition with the kernel matrices of all pixels: Kornblith et al. (2019), equations 2 and 3."""
    first, second = layer(5), layer(3, seed=1)
    second[:, :2] += first[:, :2]
    x, y = (value.permute(0, 2, 3, 1).reshape(-1, value.shape[1]).double().numpy() for value in (first, second))
    centring = np.eye(len(x)) - 1 / len(x)
    kernels = [centring @ values @ values.T @ centring for values in (x, y)]
    products = [[np.trace(one @ other) for other in kernels] for one in kernels]
    expected = products[0][1] / np.sqrt(products[0][0] * products[1][1])
    assert 0.2 < expected < 0.9 and linear_cka(first, second) == pytest.approx(expected)


def test_linear_cka_is_blind_to_rotation_scale_and_offset_alone():
    first = layer(6) * torch.arange(1, 7)[:, None, None]
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(2)))[0]
    turned = 3 * torch.einsum("nchw,cd->ndhw", first, rotation) + 5
    assert linear_cka(first, turned) == pytest.approx(1)
    assert linear_cka(first, first / torch.arange(1, 7)[:, None, None] ** 2) < 0.8
    assert linear_cka(first, layer(6, seed=3)) < 0.1


def test_stages_are_compared_in_turn():
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model, other = small_network(), small_network(1)
    assert similarity.by_stage(model, model, images) == pytest.approx([1] * 4)
    found = similarity.by_stage(model.train(), other.train(), images)
    layers = [[net.eval().features(images, through=stage) for net in (model, other)] for stage in (1, 2, 3, 4)]
    assert found == pytest.approx([linear_cka(*pair) for pair in layers])
    assert len(similarity.by_stage(model, ConvNet(((8,), (8,))), images)) == 2


def test_a_record_tells_how_alike_student_and_teacher_are(small_data, small_profile, replicate):
    teacher, student = small_network(1), small_network()
    alone = fit(Classify(teacher), small_data, small_profile.teacher, replicate.run("teacher"))
    record = fit(Distill(teacher, student, 4.0, 0.75), small_data, small_profile.student, replicate.run("distill"))
    images = small_data.normalise(small_data.test_images)
    assert record.similarity == pytest.approx(similarity.by_stage(student, teacher, images), abs=1e-4)
    assert alone.similarity == [] and replicate.run("distill").record() == record
