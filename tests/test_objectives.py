"""The losses against plain loops; what each objective trains, what it leaves alone, and what it does not even run."""

import math

import pytest
import torch
from conftest import small_network

from kdlib.errors import SettingError
from kdlib.models import GUIDED_BLOCK
from kdlib.objectives import Classify, Distill, Hint, Joint, hard_loss, hint_loss, soft_loss, total_loss
from kdlib.regressors import Regressor

STUDENT = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, -1.0]])
TEACHER = torch.tensor([[4.0, 1.0, -2.0], [1.0, 2.0, 0.0]])


def softmax(row, temperature=1.0):
    exponentials = [math.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def test_hard_loss_is_the_mean_negative_log_probability_of_the_label():
    expected = -(math.log(softmax([2, 1, 0])[0]) + math.log(softmax([0, 3, -1])[2])) / 2
    assert hard_loss(STUDENT, torch.tensor([0, 2])).item() == pytest.approx(expected, rel=1e-5)


def test_soft_loss_is_squared_temperature_times_divergence_from_teacher_to_student():
    divergence = 0.0
    for teacher_row, student_row in zip(TEACHER.tolist(), STUDENT.tolist(), strict=True):
        p, q = softmax(teacher_row, 4.0), softmax(student_row, 4.0)
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    for dtype in (torch.float32, torch.bfloat16):  # computed in float32; these logits are exact in both
        assert soft_loss(STUDENT.to(dtype), TEACHER.to(dtype), 4.0).item() == pytest.approx(16 * divergence, rel=1e-5)


def test_total_loss_weighs_the_soft_loss_by_alpha_and_hint_loss_is_the_mean_squared_error_over_all_elements():
    assert total_loss(torch.tensor(2.0), torch.tensor(10.0), 0.75).item() == pytest.approx(0.75 * 2 + 0.25 * 10)
    prediction, target = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]), torch.tensor([[[[1.0, 0.0]], [[0.0, 4.0]]]])
    assert hint_loss(prediction, target).item() == pytest.approx((0 + 4 + 9 + 0) / 4)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.randint(0, 10, (8,), generator=generator)


@pytest.fixture
def networks(batch):
    """Teacher, student, regressor; the teacher was just trained, and is in training mode."""
    teacher, student = small_network(1), small_network()
    regressor = Regressor(student, teacher, batch[0])
    return teacher.train(), student, regressor


def step(objective, batch):
    """Forward and backward of one batch as `fit` does it; the losses and the logits."""
    for module in objective.modules.values():
        module.train()
    values, logits = objective.losses(*batch, objective.target(batch[0]))
    values["total"].backward()
    return values, logits


def count_calls(model):
    """How often each block and the head of a network are run from now on."""
    calls = [0] * 5
    for number, module in enumerate([*model.blocks, model.head]):
        module.register_forward_hook(lambda *_, number=number: calls.__setitem__(number, calls[number] + 1))
    return calls


def with_gradient(module):
    return {parameter for parameter in module.parameters() if parameter.grad is not None}


def trained(objective):
    """The parameters in the objective's groups."""
    return {parameter for group in objective.groups() for parameter in group["params"]}


def test_classify_trains_everything_on_the_labels_alone(networks, batch):
    student = networks[1]
    objective = Classify(student)
    values, logits = step(objective, batch)
    assert values == {"total": hard_loss(logits, batch[1])} and logits.shape == (8, 10)
    assert with_gradient(student) == trained(objective) == set(student.parameters())


def test_distill_trains_the_student_and_leaves_the_teacher_alone(networks, batch):
    teacher, student, _ = networks
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    objective = Distill(teacher, student, temperature=4.0, alpha=0.9)
    values, logits = step(objective, batch)
    soft, hard = soft_loss(logits, teacher(batch[0]), 4.0), hard_loss(logits, batch[1])
    torch.testing.assert_close(values, {"soft": soft, "hard": hard, "total": 0.9 * soft + 0.1 * hard})
    assert with_gradient(student) == trained(objective) == set(student.parameters())
    assert not with_gradient(teacher)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_hint_trains_the_guided_layers_and_the_regressor_and_runs_no_layer_behind_them(networks, batch):
    teacher, student, regressor = networks
    calls = count_calls(teacher), count_calls(student)
    objective = Hint(teacher, student, regressor)
    values, logits = step(objective, batch)
    assert logits is None and values["power"].item() == pytest.approx(1, abs=0.01)  # of a standardised hint
    front = {*student.blocks[:GUIDED_BLOCK].parameters(), *regressor.parameters()}
    assert with_gradient(student) | with_gradient(regressor) == trained(objective) == front
    assert not with_gradient(teacher) and not teacher.training and calls == ([1, 1, 1, 0, 0],) * 2


def test_joint_sums_the_losses_of_its_parts_and_trains_all_layers(networks, batch):
    teacher, student, regressor = networks
    distilled, logits = step(Distill(teacher, student, temperature=4.0, alpha=0.75), batch)
    hinted, _ = step(Hint(teacher, student, regressor), batch)
    for module in (student, regressor):
        module.zero_grad()
    calls = count_calls(teacher), count_calls(student)
    objective = Joint(teacher, student, regressor, weight=3.0, temperature=4.0, alpha=0.75)
    values, joint_logits = step(objective, batch)
    assert calls == ([1] * 5,) * 2, "each layer runs once"
    expected = {"hint": hinted["total"], "soft": distilled["soft"], "hard": distilled["hard"]}
    expected["total"] = distilled["total"] + 3 * hinted["total"]
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(joint_logits, logits)
    assert trained(objective) == {*student.parameters(), *regressor.parameters()}
    assert with_gradient(student) | with_gradient(regressor) == trained(objective) and not with_gradient(teacher)


def test_impossible_settings_are_refused(networks):
    for temperature in (0, math.nan, math.inf):
        with pytest.raises(SettingError, match=rf"^temperature must be a number above 0, not {temperature}\.$"):
            Distill(*networks[:2], temperature, 0.5)
    with pytest.raises(SettingError, match=r"^alpha, .*, must be a number from 0 to 1, not 2\.$"):
        Joint(*networks, 1.0, 4.0, 2)
    with pytest.raises(SettingError, match=r"^weight, of the hint loss, must be a number from 0, not -1\.$"):
        Joint(*networks, -1, 4.0, 0.5)
