"""What the laboratory note and the FitNets paper report, as data to compare with."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Claim:
    """One conclusion of the note: ``first`` has more of a measure than ``second`` (">"), less ("<"), or as much ("≈").

    ``measure`` is a key of `report.measures.CLAIMED`; first and second are names of arms.
    """

    measure: str
    first: str
    sign: str
    second: str


@dataclass(frozen=True)
class Note:
    """Attributes:
    figures: {row of the summary table: {arm: the note's figure with its own digits}}.
    ordering: arms by validation accuracy, the highest first.
    claims: its conclusions.
    paper: {network of about this size in the paper: (parameters, its test accuracy on CIFAR-10 in percent)}.
    """

    figures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ordering: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    paper: Mapping[str, tuple[str, str]] = field(default_factory=dict)


_STUDENTS = ("baseline", "distill", "exp1", "exp2")

NOTE = Note(
    figures={
        "loss": {"teacher": "0.222", "baseline": "0.339", "distill": "0.85", "exp1": "1.38", "exp2": "0.73"},
        "training accuracy": {
            "teacher": "92.7", "baseline": "88.42", "distill": "87.38", "exp1": "81.24", "exp2": "88.4",
        },
        # The note's accuracies are the best over its epochs.
        "validation accuracy, best epoch": {
            "teacher": "87.09", "baseline": "83.99", "distill": "84.05", "exp1": "80.64", "exp2": "86.36",
        },
        "fit (hint) loss": {"exp1": "0.23", "exp2": "0.23"},
        "soft loss": {"distill": "1.05", "exp1": "0.97", "exp2": "0.40"},
        "hard loss": {"distill": "1.96", "exp1": "2.66", "exp2": "1.49"},
        "parameters": {"teacher": "1.35 M"} | dict.fromkeys(_STUDENTS, "306 k"),
    },
    ordering=("exp2", "distill", "baseline", "exp1"),
    # Romero et al., "FitNets: Hints for Thin Deep Nets" (2015), section 4.
    paper={"FitNet 1": ("250 k", "89.01"), "FitNet 2": ("862 k", "91.06")},
    claims=(
        Claim("validation accuracy (%)", "teacher", ">", "baseline"),
        Claim("training accuracy (%)", "teacher", ">", "baseline"),
        Claim("training loss", "teacher", "<", "baseline"),
        Claim("convergence epoch", "teacher", ">", "baseline"),
        Claim("validation accuracy (%)", "exp2", ">", "exp1"),
        Claim("training accuracy (%)", "exp2", ">", "exp1"),
        Claim("training loss", "exp2", "<", "exp1"),
        Claim("soft loss", "exp2", "<", "exp1"),
        Claim("hard loss", "exp2", "<", "exp1"),
        Claim("step-to-step swing of the loss", "exp2", "<", "exp1"),
        Claim("convergence epoch", "exp2", ">", "exp1"),
        Claim("validation accuracy (%)", "distill", ">", "baseline"),
        Claim("validation accuracy (%)", "exp2", ">", "distill"),
        Claim("validation accuracy (%)", "exp2", ">", "baseline"),
        Claim("training accuracy (%)", "exp2", "≈", "baseline"),
        Claim("training − validation accuracy", "exp2", "<", "baseline"),
    ),
)  # fmt: skip
