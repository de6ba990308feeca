"""How a training goes, as its user sees it: a bar in JupyterLab, else one line an epoch."""

import os
from collections.abc import Mapping

from tqdm.auto import tqdm


class Progress:
    """Shows a training while it runs; use it in a ``with`` block.

    Args:
        run: its name.
        done: epochs that an earlier call trained.
        epochs: of the whole training. steps: of an epoch.
    """

    def __init__(self, run: str, done: int, epochs: int, steps: int):
        self.run, self.epochs = run, epochs
        # Jupyter servers set this variable for their kernels; under papermill or nbval nobody watches a bar, and its
        # every movement would be stored as a line.
        interactive = "JPY_SESSION_NAME" in os.environ
        self.bar = None
        if interactive:  # with hyphens at which no line breaks
            name = run.replace("-", "\N{NON-BREAKING HYPHEN}")
            self.bar = tqdm(total=epochs * steps, initial=done * steps, desc=name, unit="step")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self) -> None:
        """Say that one more step is done."""
        if self.bar is not None:
            self.bar.update()

    def epoch(
        self, epoch: int, train: Mapping[str, float], test: Mapping[str, float], timing: Mapping[str, list[float]]
    ) -> None:
        """Say that ``epoch`` (from 1) is done.

        Args:
            train, test: losses and accuracy of it; ``test`` is empty where the test split was not evaluated.
            timing: the seconds of every epoch so far.
        """
        figures = [f"loss {train['total']:.3f}"]
        parts = [part for part in (train, test) if part]
        if "power" in train:
            figures.append("R² " + ", test ".join(f"{1 - part['total'] / part['power']:.3f}" for part in parts))
        if "accuracy" in train:
            figures.append("accuracy " + ", test ".join(f"{part['accuracy']:.1f} %" for part in parts))
        if self.bar is not None:
            self.bar.set_postfix_str("  ".join(figures))
            return
        left = (self.epochs - epoch) * timing["seconds"][-1]
        figures += [f"{timing['images_per_second'][-1]:,.0f} images/s", f"{left / 60:.1f} min left"]
        print(f"{self.run}  epoch {epoch}/{self.epochs}  " + "  ".join(figures), flush=True)
