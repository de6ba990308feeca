"""What each objective trains, what it leaves alone, and what it does not even run."""

import pytest
import torch
from conftest import small_network

from kdlib import models, optimisers
from kdlib.models import GUIDED_STAGE
from kdlib.objectives import Classify, Distill, Hint, Joint
from kdlib.regressors import Regressor
from kdlib.settings import Schedule
from kdlib.training import fit


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.randint(0, 10, (8,), generator=generator)


@pytest.fixture
def networks(batch):
    teacher, student = models.teacher(), models.student()
    return teacher, student, Regressor(student, teacher, batch[0])


def step(objective, batch):
    """Forward and backward of one batch; the losses and the logits."""
    for module in objective.modules.values():
        module.train()
    values, logits = objective.losses(*batch, objective.target(batch[0]))
    values["total"].backward()
    return values, logits


def count_calls(model):
    """How often each stage and the head of a network are run from now on."""
    calls = dict.fromkeys(["1", "2", "3", "4", "head"], 0)

    def count(name):
        def hook(*_):
            calls[name] += 1

        return hook

    for name, module in zip(calls, [*model.stages, model.head], strict=True):
        module.register_forward_hook(count(name))
    return calls


def has_gradient(module):
    return [parameter.grad is not None for parameter in module.parameters()]


def trained(objective):
    """The parameters in the objective's groups."""
    return {parameter for group in objective.groups() for parameter in group["params"]}


def copies(module):
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def test_classify_trains_everything(networks, batch):
    student = networks[1]
    values, logits = step(Classify(student), batch)
    assert set(values) == {"total"} and logits.shape == (8, 10)
    assert all(has_gradient(student))


def test_distill_trains_the_student_and_leaves_the_teacher_alone(networks, batch):
    teacher, student, _ = networks
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    values, _ = step(Distill(teacher, student, temperature=4.0, alpha=0.9), batch)
    assert values["total"].item() == pytest.approx(0.9 * values["soft"].item() + 0.1 * values["hard"].item(), rel=1e-5)
    assert all(has_gradient(student)) and not any(has_gradient(teacher))
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_distill_with_alpha_zero_is_classify(networks, batch):
    teacher, student, _ = networks
    distilled, _ = step(Distill(teacher, student, temperature=4.0, alpha=0.0), batch)
    classified, _ = step(Classify(student), batch)
    torch.testing.assert_close(distilled["total"], classified["total"])


def test_distill_after_freezing_runs_no_backward_through_frozen_layers(networks, batch):
    teacher, student, _ = networks
    models.freeze(student, through=GUIDED_STAGE)
    needs_backward = []
    student.stages[GUIDED_STAGE - 1].register_forward_hook(lambda *args: needs_backward.append(args[-1].requires_grad))
    step(Distill(teacher, student, temperature=4.0, alpha=0.9), batch)
    assert not any(any(has_gradient(stage)) for stage in student.stages[:GUIDED_STAGE])
    assert all(has_gradient(student.stages[GUIDED_STAGE])) and all(has_gradient(student.head))
    assert needs_backward == [False], "autograd must record nothing of the frozen layers"


def test_hint_trains_the_guided_layers_and_the_regressor_only(networks, batch):
    teacher, student, regressor = networks
    objective = Hint(teacher, student, regressor)
    values, logits = step(objective, batch)
    assert logits is None and set(values) == {"total", "power"}
    assert all(has_gradient(regressor)) and all(has_gradient(student.stages[:GUIDED_STAGE]))
    assert not any(has_gradient(student.stages[GUIDED_STAGE:])) and not any(has_gradient(student.head))
    assert not any(has_gradient(teacher))
    assert trained(objective) == {*student.stages[:GUIDED_STAGE].parameters(), *regressor.parameters()}


def test_hint_runs_no_layer_behind_the_guided_one(networks, batch):
    teacher, student, regressor = networks
    calls = {"teacher": count_calls(teacher), "student": count_calls(student)}
    step(Hint(teacher, student, regressor), batch)
    once = {"1": 1, "2": 1, "3": 1, "4": 0, "head": 0}
    assert calls == {"teacher": once, "student": once}


def test_hint_of_a_perfect_regressor_explains_everything_and_of_a_mute_one_nothing(networks, batch):
    teacher, student, regressor = networks
    objective = Hint(teacher, student, regressor)
    target = objective.target(batch[0])
    regressor.forward = lambda guided: target
    values, _ = objective.losses(*batch, target)
    assert values["total"].item() == 0
    regressor.forward = lambda guided: torch.zeros_like(target)
    values, _ = objective.losses(*batch, target)
    assert values["total"].item() == pytest.approx(values["power"].item()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("alpha", [0.75, 0.0])
def test_joint_sums_hint_and_classification_over_all_layers(networks, batch, alpha):
    teacher, student, regressor = networks
    objective = Joint(teacher, student, regressor, weight=3.0, temperature=4.0, alpha=alpha)
    values, logits = step(objective, batch)
    names = {"hint", "hard", "total"} | ({"soft"} if alpha else set())
    assert set(values) == names and logits.shape == (8, 10)
    soft = values["soft"].item() if alpha else 0
    expected = alpha * soft + (1 - alpha) * values["hard"].item() + 3 * values["hint"].item()
    assert values["total"].item() == pytest.approx(expected, rel=1e-5)
    assert all(has_gradient(student)) and all(has_gradient(regressor)) and not any(has_gradient(teacher))
    assert trained(objective) == {*student.parameters(), *regressor.parameters()}


def test_joint_has_the_losses_of_its_parts(networks, batch):
    teacher, student, regressor = networks
    values, _ = step(Joint(teacher, student, regressor, weight=0.0, temperature=4.0, alpha=0.9), batch)
    distilled, _ = step(Distill(teacher, student, temperature=4.0, alpha=0.9), batch)
    hinted, _ = step(Hint(teacher, student, regressor), batch)
    for name in ("soft", "hard", "total"):
        torch.testing.assert_close(values[name], distilled[name])
    torch.testing.assert_close(values["hint"], hinted["total"])


@pytest.mark.parametrize("alpha", [0.75, 0.0])
def test_joint_runs_each_layer_once_and_only_those_that_it_needs(networks, batch, alpha):
    teacher, student, regressor = networks
    calls = {"teacher": count_calls(teacher), "student": count_calls(student)}
    step(Joint(teacher, student, regressor, weight=1.0, temperature=4.0, alpha=alpha), batch)
    once = {"1": 1, "2": 1, "3": 1, "4": 1, "head": 1}
    assert calls == {"teacher": once | ({} if alpha else {"4": 0, "head": 0}), "student": once}


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "1", None])
def test_impossible_weight_is_refused_in_one_sentence(networks, weight):
    with pytest.raises(ValueError, match=r"^weight, of the hint loss, must be a number from 0, not .*\.$"):
        Joint(*networks, weight, 4.0, 0.5)


def test_a_single_stage_is_trained_like_any_other(small_data, small_profile, replicate):
    teacher, student = small_network(1), small_network()
    fit(Classify(teacher), small_data, small_profile.teacher, replicate.run("teacher"))
    objective = Joint(teacher, student, Regressor(student, teacher, small_data.sample()), 1.0, 4.0, 0.75)
    record = fit(objective, small_data, small_profile.student, replicate.run("exp2-joint"))
    assert record.train["hint"][-1] < record.train["hint"][0] and record.train["hard"][-1] < record.train["hard"][0]
    assert record.identity.objective["weight"] == 1 and record.identity.objective["regressor_rate"] == 16
    assert len(record.predictions) == 100


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_one_forward_pass_gives_a_hidden_layer_and_the_logits(batch, stage):
    model = small_network().eval()
    expected_features, expected_logits = model.features(batch[0], through=stage), model(batch[0])
    calls = count_calls(model)
    features = model.features(batch[0], through=stage)
    logits = model.classify(features, after=stage)
    assert calls == dict.fromkeys(calls, 1), "each stage once"
    assert torch.equal(features, expected_features) and torch.equal(logits, expected_logits)


def test_scale_1_trains_every_layer_like_no_scale(batch):
    plain, scaled = small_network(), small_network()
    models.scale_rate(scaled, through=GUIDED_STAGE, scale=1.0)
    for model in (plain, scaled):
        move(Classify(model), batch)
    assert all(torch.equal(value, copies(scaled)[name]) for name, value in copies(plain).items())


def test_scale_0_gives_no_group_to_frozen_layers(batch):
    model = small_network()
    models.freeze(model, through=GUIDED_STAGE)
    assert trained(Classify(model)) == {*model.stages[GUIDED_STAGE].parameters(), *model.head.parameters()}
    before = copies(model)
    move(Classify(model), batch)
    moved = {name for name, value in copies(model).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith(("stages.3.", "head."))}


@pytest.mark.parametrize("make", [Classify, lambda model: Distill(small_network(1), model, 4.0, 0.5)])
def test_scale_a_tenth_gives_a_tenth_of_the_step_to_the_guided_layers_alone(batch, make):
    plain, scaled = small_network(), small_network()
    models.scale_rate(scaled, through=GUIDED_STAGE, scale=0.1)
    before = copies(plain)
    for model in (plain, scaled):
        move(make(model), batch)
    for name, value in copies(plain).items():
        guided = name.startswith(("stages.0.", "stages.1.", "stages.2."))
        expected = before[name] + (value - before[name]) * (0.1 if guided else 1.0)
        assert not torch.equal(value, before[name]), name
        torch.testing.assert_close(copies(scaled)[name], expected, rtol=0, atol=1e-6, msg=name)


def test_scale_reaches_the_guided_layers_of_stage_one(batch):
    teacher, student = small_network(1), small_network()
    objective = Hint(teacher, student, Regressor(student, teacher, batch[0]))
    models.scale_rate(student, through=2, scale=0.5)
    assert [group["scale"] for group in objective.groups()] == [0.5, 0.5, 0.5, 1.0, 1.0, 16.0]
    models.freeze(student, through=1)
    assert trained(objective) == {*student.stages[1:3].parameters(), *objective.regressor.parameters()}


def move(objective, batch, rate=0.5):
    """One step of plain gradient descent."""
    schedule = Schedule(epochs=1, momentum=0.0, weight_decay=0.0, optimiser="SGD")
    optimizer = optimisers.optimiser(objective.groups(), schedule)
    optimisers.set_rate(optimizer, rate)
    step(objective, batch)
    optimizer.step()


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "4"])
def test_impossible_temperature_is_refused_in_one_sentence(networks, temperature):
    with pytest.raises(ValueError, match=r"^temperature must be a number above 0, not .*\.$"):
        Distill(networks[0], networks[1], temperature, 0.5)


@pytest.mark.parametrize("alpha", [2, -0.1, float("nan"), None])
def test_impossible_alpha_is_refused_in_one_sentence(networks, alpha):
    sentence = r"^alpha, the weight of the soft loss, must be a number from 0 to 1, not .*\.$"
    with pytest.raises(ValueError, match=sentence):
        Distill(networks[0], networks[1], 4.0, alpha)
