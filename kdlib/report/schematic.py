"""What is done, as a picture: the two networks, the hint, the regressor, and what each stage trains."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from kdlib.models import GUIDED_BLOCK
from kdlib.report import plots

PARTS = ("1", "2", "3", "4", "head")  # the blocks, and what is behind them
TEACHER, REGRESSOR, STUDENT = 2.3, 1.05, 0.0  # heights of the rows
TRAINED, FIXED, NOT_RUN = "#F5C26B", "#D9D9D9", "#FFFFFF"
SIZE = 10  # points


def schematic() -> Figure:
    """Three panels: stage one, and stage two of experiments 1 and 2."""
    figure, panels = plots.new("What each stage trains", "", "", 1, 3, 3.1)
    guided, last = GUIDED_BLOCK - 1, len(PARTS) - 1  # places
    for panel, title, trained, run in (
        (panels[0], "Stage one\nlearn the hint", range(GUIDED_BLOCK), GUIDED_BLOCK),
        (panels[1], "Stage two, exp. 1\nguided layers frozen", range(GUIDED_BLOCK, len(PARTS)), len(PARTS)),
        (panels[2], "Stage two, exp. 2\nall layers trained", range(len(PARTS)), len(PARTS)),
    ):
        for place, part in enumerate(PARTS):
            kinds = (FIXED, TRAINED if place in trained else FIXED) if place < run else (NOT_RUN, NOT_RUN)
            for height, kind in zip((TEACHER, STUDENT), kinds, strict=True):
                _box(panel, place, height, part, kind)
        panel.text(-0.4, TEACHER + 0.45, "teacher", fontsize=SIZE)
        panel.text(-0.4, STUDENT - 0.8, "student", fontsize=SIZE)
        panel.set(xlim=(-0.6, last + 0.6), ylim=(-1.1, TEACHER + 0.9))
        panel.set_title(title, fontsize=SIZE)
        panel.set_axis_off()
    _box(panels[0], guided, REGRESSOR, "regressor", TRAINED, width=2.6)
    _arrow(panels[0], guided, STUDENT, REGRESSOR, "guided layer", "->")
    _arrow(panels[0], guided, REGRESSOR, TEACHER, "hint loss", "<->")
    panels[0].text(guided + 0.12, (REGRESSOR + TEACHER) / 2, "hint", fontsize=SIZE, va="center", color=plots.GREY)
    for panel in panels[1:]:
        _arrow(panel, last, STUDENT, TEACHER, "soft loss\n(logits)", "<->")
        panel.text(last + 0.4, STUDENT - 0.8, "hard loss (labels)", fontsize=SIZE, ha="right", color=plots.RED)
    kinds = {"trained": TRAINED, "fixed": FIXED, "not run": NOT_RUN}
    handles = [Patch(facecolor=colour, edgecolor=plots.GREY, label=kind) for kind, colour in kinds.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=SIZE, frameon=False)
    return figure


def _box(panel: Axes, x: float, y: float, text: str, colour: str, width: float = 0.9) -> None:
    shape = FancyBboxPatch(
        (x - width / 2, y - 0.3), width, 0.6, "round,pad=0,rounding_size=0.08", fc=colour, ec=plots.GREY
    )
    panel.add_patch(shape)
    size = SIZE - 2 if text == "head" else SIZE
    panel.text(x, y, text, fontsize=size, ha="center", va="center", color=plots.GREY if colour == NOT_RUN else "black")


def _arrow(panel: Axes, x: float, low: float, high: float, text: str, style: str) -> None:
    """From a box at one height to one at another, with a text beside it."""
    colour = plots.RED if "loss" in text else plots.GREY
    panel.annotate("", (x, high - 0.32), (x, low + 0.32), arrowprops={"arrowstyle": style, "color": colour, "lw": 2})
    panel.text(x + 0.12 if style == "->" else x - 0.12, (low + high) / 2, text, fontsize=SIZE, va="center",
               ha="left" if style == "->" else "right", color=colour, linespacing=1)  # fmt: skip
