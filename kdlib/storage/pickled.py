"""Batches of CIFAR-10 that Python has pickled, read without letting them run anything."""

import io
import pickle

import numpy as np


class Refused(Exception):
    """A source cannot give CIFAR-10; the message says why."""


def read(content: bytes) -> tuple[np.ndarray, np.ndarray | list[int]]:
    """Images (N, 3072), channel by channel, and labels, under names that are text or, saved by Python 3, bytes."""
    batch = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    images, labels = (batch[name if name in batch else name.encode()] for name in ("data", "labels"))
    return images.array(), labels.array() if isinstance(labels, _Call) else labels


class _Call:
    """In place of what a pickle calls: its arguments, and the state that is set afterwards."""

    def __init__(self, *arguments: object) -> None:
        self.arguments, self.state = arguments, None

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """What numpy's ``_reconstruct`` with this state, or ``_frombuffer`` with these arguments, would be."""
        content, kind, shape, *_ = self.arguments if self.state is None else (self.state[i] for i in (4, 2, 1))
        content = content.encode("latin1") if isinstance(content, str) else content  # Python 2 had one type for both
        return np.frombuffer(content, str(kind.arguments[0])).reshape(shape)


def _encode(text: str, encoding: str) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise Refused("it wants to call _codecs.encode for other than Latin-1 text")
    return text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Reads pickled batches without letting them run anything.

    A pickle can name any function and have it called. Batches name those that build an array, and the one by which
    Python 3 writes bytes in an old format; a file that names another one is not CIFAR-10. Even these are not called:
    numpy's would crash on a file that declares its bytes to be objects.
    """

    NUMPY = ("numpy.dtype", "numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy.core.numeric._frombuffer")
    STAND_INS = dict.fromkeys(NUMPY, _Call) | {"_codecs.encode": _encode}

    def find_class(self, module: str, name: str) -> object:
        function = f"{module}.{name}".replace("numpy._core.", "numpy.core.")  # renamed in numpy 2
        if function not in self.STAND_INS:
            raise Refused(f"it wants to call {module}.{name}; it was not read any further")
        return self.STAND_INS[function]
