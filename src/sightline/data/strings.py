"""Strings in tensors, and what pictures have many of in one row."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor

from sightline.shapes import Int, UInt8

_Row = TypeVar("_Row")


@dataclass(frozen=True, eq=False)
class Strings:
    """Strings as bytes, and where each begins and ends. Lone surrogates, which stand for bytes that
    are no text in the name of a file, come back as they were."""

    text: UInt8[Tensor, " T"]
    spans: Int[Tensor, "I 2"]

    @classmethod
    def pack(cls, strings: Iterable[str | bytes]) -> "Strings":
        text, ends = bytearray(), array("q", [0])
        for string in strings:
            text += string if isinstance(string, bytes) else string.encode(errors="surrogatepass")
            ends.append(len(text))
        packed = (
            torch.frombuffer(text, dtype=torch.uint8).clone() if text else torch.zeros(0).byte()
        )
        return cls(packed, spans_between(ends))

    def __len__(self) -> int:
        return len(self.spans)

    def encoded(self, index: int) -> bytes:
        start, end = self.spans[index].tolist()
        return self.text[start:end].numpy().tobytes()

    def __getitem__(self, index: int) -> str:
        return self.encoded(index).decode(errors="surrogatepass")

    def take(self, indices: Int[Tensor, " J"]) -> "Strings":
        return replace(self, spans=self.spans[indices])


@dataclass(frozen=True, eq=False)
class PackedCaptions:
    """The sentences about each picture."""

    texts: Strings
    spans: Int[Tensor, "I 2"]

    def of(self, index: int) -> list[str]:
        first, last = self.spans[index].tolist()
        return [self.texts[place] for place in range(first, last)]

    def take(self, rows: Int[Tensor, " J"]) -> "PackedCaptions":
        return replace(self, spans=self.spans[rows])


def spans_between(offsets: Sequence[int]) -> Int[Tensor, "I 2"]:
    """From I + 1 offsets, the first of which is 0."""
    at = torch.tensor(offsets, dtype=torch.int64)
    return torch.stack([at[:-1], at[1:]], dim=1)


def in_one_row(
    of_picture: Mapping[int, Sequence[_Row]], count: int
) -> tuple[list[_Row], Int[Tensor, "I 2"]]:
    """What the pictures have many of, in one row, and the span of each picture in it."""
    lists = [of_picture.get(index, ()) for index in range(count)]
    offsets = accumulate(map(len, lists), initial=0)
    return [row for rows in lists for row in rows], spans_between(list(offsets))
