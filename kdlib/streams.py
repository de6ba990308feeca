"""Independent random numbers for each purpose of a seed.

First weights are drawn for (seed, role) and batches for (seed, training, epoch), so that no two purposes share
numbers by accident: the student's first filters are not the teacher's, and each training has its own augmentation.
"""

import zlib

import numpy as np


def stream(seed: int, purpose: str, *counters: int) -> np.random.SeedSequence:
    """The stream of a purpose, e.g. "student", statistically independent of every other; ``counters`` tell its parts
    (epochs, say) apart. All numbers are whole, from 0."""
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), *counters))


def torch_seed(seed: int, purpose: str) -> int:
    """The seed for torch's generator that belongs to a stream: a whole number below 2⁶³."""
    return int(stream(seed, purpose).generate_state(1, np.uint64)[0] >> 1)
