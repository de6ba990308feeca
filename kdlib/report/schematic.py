"""What is done, as a picture: the two networks, the hint, the regressor, and what each stage trains."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from kdlib.models import GUIDED_BLOCK
from kdlib.report import plots

PARTS = ("1", "2", "3", "4", "head")  # the blocks, and what is behind them
GUIDED, HEAD = GUIDED_BLOCK - 1, len(PARTS) - 1  # their places
TEACHER, REGRESSOR, STUDENT = 2.8, 1.3, 0.0  # heights of the rows
TRAINED, FIXED, NOT_RUN = "#F5C26B", "#D9D9D9", "#FFFFFF"
SIZE = 10  # points


def schematic() -> Figure:
    """Four panels: stage one with the regressor and without, and stage two of experiments 1 and 2."""
    figure, panels = plots.new("Either stage one, then either stage two", "", "", 2, 2, 5.3)
    with_it, without, *second = panels.flat
    for panel, title, trained, run in (
        (with_it, "Stage one with the matrix: S or S′", range(GUIDED_BLOCK), GUIDED_BLOCK),
        (without, "Stage one without the matrix: S′", range(GUIDED_BLOCK), GUIDED_BLOCK),
        (second[0], "Stage two, exp. 1: guided layers frozen", range(GUIDED_BLOCK, len(PARTS)), len(PARTS)),
        (second[1], "Stage two, exp. 2: all layers trained", range(len(PARTS)), len(PARTS)),
    ):
        for place, part in enumerate(PARTS):
            kinds = (FIXED, TRAINED if place in trained else FIXED) if place < run else (NOT_RUN, NOT_RUN)
            for height, kind in zip((TEACHER, STUDENT), kinds, strict=True):
                _box(panel, place, height, part, kind)
        _text(panel, -0.45, TEACHER + 0.6, "teacher")
        _text(panel, -0.45, STUDENT - 0.6, "student")
        panel.set(xlim=(-0.6, HEAD + 0.6), ylim=(-0.9, TEACHER + 0.9))
        panel.set_title(title, fontsize=SIZE)
        panel.set_axis_off()
    _box(with_it, GUIDED, REGRESSOR, "regressor", TRAINED, width=2.3)
    _arrow(with_it, GUIDED, STUDENT, REGRESSOR, "")
    _arrow(with_it, GUIDED, REGRESSOR, TEACHER, "hint loss")
    _arrow(without, GUIDED, STUDENT, TEACHER, "hint loss")
    _text(without, GUIDED + 0.2, 0.6, "as wide as the hint", plots.GREY)
    for panel in (with_it, without):
        _text(panel, GUIDED, TEACHER + 0.6, "hint", plots.GREY, "center")
        _text(panel, GUIDED, STUDENT - 0.6, "guided layers: 1 to 3", plots.GREY, "center")
    for panel in second:
        _arrow(panel, HEAD, STUDENT, TEACHER, "soft loss (logits)")
        _text(panel, HEAD + 0.4, STUDENT - 0.6, "hard loss (labels)", plots.RED, "right")
    kinds = {"trained": TRAINED, "fixed": FIXED, "not run": NOT_RUN}
    handles = [Patch(facecolor=colour, edgecolor=plots.GREY, label=kind) for kind, colour in kinds.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SIZE, frameon=False)
    return figure


def _text(panel: Axes, x: float, y: float, text: str, colour: str = "black", align: str = "left") -> None:
    panel.text(x, y, text, fontsize=SIZE, color=colour, ha=align, va="center")


def _box(panel: Axes, x: float, y: float, text: str, colour: str, width: float = 0.9) -> None:
    corner = x - width / 2, y - 0.3
    panel.add_patch(FancyBboxPatch(corner, width, 0.6, "round,pad=0,rounding_size=0.08", fc=colour, ec=plots.GREY))
    _text(panel, x, y, text, plots.GREY if colour == NOT_RUN else "black", "center")


def _arrow(panel: Axes, x: float, low: float, high: float, text: str) -> None:
    """Between boxes of two heights: a loss, with its name on the left, or, without one, the way upwards."""
    style = {"arrowstyle": "<->" if text else "->", "color": plots.RED if text else plots.GREY, "lw": 2}
    panel.annotate("", (x, high - 0.3), (x, low + 0.3), arrowprops=style)
    _text(panel, x - 0.2, (low + high) / 2, text, plots.RED, "right")
