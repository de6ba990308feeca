"""What a user can get wrong in a setting or a name: one clear sentence each."""

import difflib
import math
from collections.abc import Iterable
from numbers import Real


def check_distillation(temperature: float, alpha: float) -> None:
    """Raise ``ValueError`` with one sentence unless temperature > 0 and 0 ≤ alpha ≤ 1."""
    if not is_number(temperature) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a number above 0, not {temperature!r}.")
    if not is_number(alpha) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha, the weight of the soft loss, must be a number from 0 to 1, not {alpha!r}.")


def whole_number(name: str, value: object, least: int = 0, most: float = math.inf) -> int:
    """``value`` as an int; 3.0 is taken as 3. Raises ``ValueError`` with one sentence if it is none or out of range."""
    if is_number(value) and float(value).is_integer() and least <= value <= most:
        return int(value)
    limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    raise ValueError(f"{name} must be a whole number {limits}, not {value!r}.")


def is_number(value: object) -> bool:
    """Whether a setting is a real number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def nearest(name: str, known: Iterable[str]) -> str:
    """How a sentence about an unknown name ends: with the most similar known one, else with all of them."""
    similar = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {similar[0]}?" if similar else f": choose one of {', '.join(known)}."
