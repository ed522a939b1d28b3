"""Random numbers that are the same on every machine and in every later version of numpy.

numpy promises that for the raw output of a bit generator and for ``SeedSequence``, not for the
methods of ``Generator``; so the few distributions needed here are made from the raw bits.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


class Draws:
    """The stream of random choices that belongs to a key of non-negative integers."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """In [low, high), from 53 random bits."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def integer(self, low: int, high: int) -> int:
        """In low..high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def choice(self, values: Sequence[Choice]) -> Choice:
        return values[self.integer(0, len(values) - 1)]

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def direction(self) -> tuple[float, float]:
        """A unit vector of the plane: a point of the disc, by rejection, brought to the circle."""
        while True:
            x, y = self.uniform(-1, 1), self.uniform(-1, 1)
            squared = x * x + y * y
            if 1e-4 < squared <= 1:
                length = float(np.sqrt(squared))
                return x / length, y / length

    def array(self, *shape: int) -> np.ndarray:
        """Uniform in [0, 1)."""
        count = int(np.prod(shape))
        raw = self._bits.random_raw(count)
        return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)
