"""The rule by which the tuning study chooses rates, on made-up records and on the committed ones."""

import pytest
from factories import record, with_curves

from kdlib.report import settings
from kdlib.storage.runs import Results, load_all
from kdlib.study import STUDY
from kdlib.tuning import TUNING

(PROFILE,) = TUNING.profiles


def made(**ends):
    """Results of TUNING: arms with a held-out accuracy (%) and loss after the final epoch, a pair a seed."""
    by_seed = {}
    for name, pairs in ends.items():
        for seed, (accuracy, loss) in enumerate(pairs):
            one = record(name, seed, images=20, epochs=1, profile="tuning")
            curves = {"accuracy": [accuracy]} | {name: [loss] for name in ("total", "hard") if name in one.test}
            by_seed.setdefault(seed, {})[name] = with_curves(one, test=curves)
    return Results(TUNING, by_seed)


def scratch(*ends):
    """A baseline and a distilled student from scratch, at rates from 0.025; ends as of `made`, a list a rate."""
    rates = (250, 500, 1000, 2000)
    both = {name: dict(zip(rates, ends, strict=True)) for name in ("baseline", "distill_long")}
    return made(**{f"{name}_{rate}": got for name, by_rate in both.items() for rate, got in by_rate.items() if got})


@pytest.mark.parametrize(
    ("ends", "rate"),
    [
        # The mean over the seeds decides, not the best seed.
        ([[(88, 0.4)] * 2, [(90, 0.4), (90, 0.4)], [(91, 0.4), (88, 0.4)], [(88, 0.4)] * 2], 0.05),
        # Within 0.1 points the lower loss does, whose own accuracy is lower; a tenth more and it does not.
        ([[(88, 0.4)], [(90, 0.4)], [(89.92, 0.3)], [(88, 0.1)]], 0.1),
        ([[(88, 0.4)], [(90, 0.4)], [(89.88, 0.3)], [(88, 0.1)]], 0.05),
        # A rate that lacks a seed is a neighbour only.
        ([[(95, 0.1)], [(90, 0.4)] * 2, [(89, 0.4)] * 2, [(88, 0.4)] * 2], 0.05),
    ],
)
def test_the_rule_takes_the_best_mean_and_among_close_ones_the_lowest_loss(ends, rate):
    assert settings.chosen(settings.grid(scratch(*ends)), "scratch") == rate


def test_a_seed_of_one_member_alone_does_not_count():
    ends = {"baseline_500": [(90, 0.4)], "distill_long_500": [(90, 0.4)], "baseline_1000": [(95, 0.1)] * 2}
    ends |= {"baseline_250": [(80, 0.4)], "baseline_2000": [(80, 0.4)]}
    assert settings.chosen(settings.grid(made(**ends)), "scratch") == 0.05
    with pytest.raises(ValueError, match=r"^scratch: at no rate were all trained$"):
        settings.chosen(settings.grid(made(baseline_500=[(90, 0.4)], distill_long_1000=[(90, 0.4)])), "scratch")


def test_a_best_rate_at_the_edge_is_refused():
    table = settings.grid(scratch([(88, 0.4)], [(89, 0.4)], [(90, 0.4)], []))
    with pytest.raises(ValueError, match=r"^scratch: the best rate, 0\.1, is at the edge of those that were tried$"):
        settings.chosen(table, "scratch")


def test_the_notes_contrast_is_shown_at_each_rate():
    ends = {"wide_none_frozen_500": [(89, 0.4), (88, 0.4)], "exp1_500": [(88, 0.4), (88.5, 0.4)]}
    ends |= {"exp1_250": [(80, 0.4)], "wide_none_frozen_2000": [(87, 0.4)], "exp1_2000": [(88, 0.4)]}
    shown = settings.protocol(made(**ends, wide_none_tuned_125=[(90, 0.4)], exp2_125=[(89.25, 0.4)]))
    assert shown.columns.tolist() == ["0.0125", "0.05", "0.2"]
    assert shown.loc["frozen"].tolist() == ["–", "+1.00, −0.50", "−1.00"]
    assert shown.loc["fine-tuned"].tolist() == ["+0.75", "–", "–"]


@pytest.fixture(scope="module")
def committed():
    return load_all(PROFILE)


def test_the_rates_of_the_study_are_those_that_the_rule_gives_from_the_records(committed):
    table, full = settings.grid(committed), STUDY.profile("full")
    assert {group: settings.chosen(table, group) for group in settings.GROUPS} == {
        group: getattr(full, group).learning_rate for group in settings.GROUPS
    }
    shown = settings.rates(committed)
    for group, title in settings.GROUPS.items():
        own = table[(table["group"] == group) & (table["rate"] == (best := getattr(full, group).learning_rate))]
        both = own.groupby("seed").filter(lambda rows, own=own: len(rows) == own["member"].nunique())
        mean = both.groupby("seed")["score"].mean().mean()
        assert shown.at[title, f"{best:g}"] == f"{mean:.2f} ({both['seed'].nunique()})"
        assert shown.loc[title, ["the rule", "profile full"]].tolist() == [f"{best:g}"] * 2
