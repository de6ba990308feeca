"""What the laboratory note and the FitNets paper report, as data to compare with."""

from typing import Literal, NamedTuple


class Claim(NamedTuple):
    """A conclusion of the note: the arm ``first`` has more (">") of a measure than ``second``, less, or as much."""

    measure: str  # a key of `stats.CLAIMED`
    first: str
    sign: Literal["<", "≈", ">"]
    second: str


# {what: {arm: the note's figure with its own digits}}; all its figures stand in book/note.md.
FIGURES = {
    "parameters": {"teacher": "1.35 M"} | dict.fromkeys(("baseline", "distill", "exp1", "exp2"), "306 k"),
    # Percent. The note calls it validation accuracy, and reports the best over its epochs.
    "test accuracy": {"teacher": "87.09", "baseline": "83.99", "distill": "84.05", "exp1": "80.64", "exp2": "86.36"},
}

CLAIMS = (
    Claim("test accuracy (%)", "teacher", ">", "baseline"),
    Claim("training accuracy (%)", "teacher", ">", "baseline"),
    Claim("training loss", "teacher", "<", "baseline"),
    Claim("convergence epoch", "teacher", ">", "baseline"),
    Claim("test accuracy (%)", "exp2", ">", "exp1"),
    Claim("training accuracy (%)", "exp2", ">", "exp1"),
    Claim("training loss", "exp2", "<", "exp1"),
    Claim("soft loss", "exp2", "<", "exp1"),
    Claim("hard loss", "exp2", "<", "exp1"),
    Claim("step-to-step swing of the loss", "exp2", "<", "exp1"),
    Claim("convergence epoch", "exp2", ">", "exp1"),
    Claim("test accuracy (%)", "distill", ">", "baseline"),
    Claim("test accuracy (%)", "exp2", ">", "distill"),
    Claim("test accuracy (%)", "exp2", ">", "baseline"),
    Claim("training accuracy (%)", "exp2", "≈", "baseline"),
    Claim("training − test accuracy", "exp2", "<", "baseline"),
)
