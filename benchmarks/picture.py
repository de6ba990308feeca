"""What `bench.py` and `accuracy.py` measured on this machine, as one picture: a part of ``make bench``."""

from pathlib import Path

import numpy as np

from kdlib import hardware
from kdlib.report import figure
from kdlib.report.figure import GREY
from kdlib.storage import files

FOLDER = Path(__file__).parent
# Of the palette of Okabe and Ito, in their order in legends.
COLOURS = {"fit": "#0072B2", "tutorial's loop": "#E69F00", "torchdistill": "#CC79A7"}


def draw(speed: dict, accuracy: dict) -> figure.Figure:
    """Images/s of each training by each contender, and accuracy over minutes of training with the targets."""
    machine = ", ".join(str(speed["machine"][key]) for key in ("device", "precision", "date"))
    picture, (bars, curves) = figure.new("Speed beside other implementations", "cifar10", machine, 1, 2, 4.5)
    trainings = list(speed["images_per_second"])
    for place, (name, colour) in zip((-0.27, 0.0, 0.27), COLOURS.items(), strict=True):
        label = "kdlib" if name == "fit" else name
        rates = [speed["images_per_second"][training].get(name) for training in trainings]
        rows = [row for row, rate in enumerate(rates) if rate]
        drawn = bars.barh(np.array(rows) + place, [rates[row] for row in rows], 0.25, color=colour, label=label)
        bars.bar_label(drawn, fmt="{:,.0f}", padding=2, fontsize="small")
        points = np.array(accuracy["points"].get(name, np.empty((0, 2))))
        curves.plot(points[:, 0], points[:, 1], "o" if name == "fit" else ".-", color=colour, label=label)
    bars.set_yticks(range(len(trainings)), trainings)
    bars.invert_yaxis()
    bars.grid(False, axis="y")
    bars.set(title="training speed", xlabel="images/s")
    bars.margins(x=0.15)
    for target in accuracy["targets"]:
        curves.axhline(target, color=GREY, linestyle=":", linewidth=1)
        curves.annotate(f"{target:g} %", (1, target), (4, 0), xycoords=("axes fraction", "data"),
                        textcoords="offset points", va="center", color=GREY, fontsize="small")  # fmt: skip
    curves.set(title="the distilled student", xlabel="minutes of training", ylabel="test accuracy (%)", xlim=(0, None))
    curves.legend(loc="lower right")
    return picture


def main() -> None:
    """Write the picture beside this file."""
    device = hardware.choose_device()
    name = f"{device.type}-{hardware.choose_precision('auto', device)}"
    speed, accuracy = (files.read_json(FOLDER / f"{name}{kind}.json") for kind in ("", "-accuracy"))
    figure.save(draw(speed, accuracy), FOLDER, name)


if __name__ == "__main__":
    main()
