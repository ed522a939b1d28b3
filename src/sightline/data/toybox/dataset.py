"""Toybox as a data set: scenes by number, drawn when asked for."""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sightline.data.packed import Splits
from sightline.data.toybox.camera import pixels
from sightline.data.toybox.compose import compose
from sightline.data.toybox.description import Description
from sightline.data.toybox.labels import CLASSES, label
from sightline.data.toybox.outline import Outline, outlines
from sightline.data.toybox.render import render
from sightline.data.toybox.visible import Seen, look
from sightline.errors import SightlineError
from sightline.shapes import UInt8
from sightline.types import Scene

LEAST_PIXELS = 16  # a thing that shows in fewer is left out of its scene
FIRST_UNSEEN = 10**9  # validation scenes are numbered from here: none is ever trained on


class Toybox:
    """``images`` generated scenes of solids on some ground under some sky.

    Scene ``index`` of ``seed`` is the same on every machine: its labels exactly, its pixels within
    one step of 255. ``size`` is height and width in pixels, ``things`` the least and the most
    solids put into a scene; those that would hide behind others are left out. ``first`` is the
    number of the first scene.

    Raises:
        SightlineError: fewer than no scenes, a picture without pixels, a negative seed.
    """

    classes = CLASSES

    def __init__(
        self,
        images: int,
        seed: int = 0,
        size: tuple[int, int] = (256, 256),
        things: tuple[int, int] = (2, 9),
        first: int = 0,
    ) -> None:
        if images < 0 or seed < 0 or first < 0:
            raise SightlineError(
                f"Toybox needs numbers from 0 on: not {images} images, seed {seed}, first {first}"
            )
        if min(size) < 1 or not 0 <= things[0] <= things[1]:
            raise SightlineError(f"Toybox cannot draw {things} things in a picture of size {size}")
        self.images, self.seed, self.things, self.first = images, seed, things, first
        self._size = size

    def __repr__(self) -> str:
        return (
            f"Toybox({self.images}, seed={self.seed}, size={self._size}, things={self.things}, "
            f"first={self.first})"
        )

    def __len__(self) -> int:
        return self.images

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, the same for all."""
        self._number(index)
        return self._size

    def description(self, index: int) -> Description:
        """What the scene is in plain values, camera, poses and all; its things are in the order of
        ``scene(index).things``."""
        return self._staged(index).description

    def scene(self, index: int) -> Scene:
        """Boxes, masks (RLE) and maps of what is visible, keypoints, and in ``extra`` the colour,
        material, size and pose of each thing in a word."""
        staged = self._staged(index)
        scene = label(staged.description, staged.outlines, staged.seen)
        return replace(scene, path=f"toybox seed {self.seed} scene {self._number(index)}")

    def picture(self, index: int) -> UInt8[Tensor, "3 H W"]:
        """RGB."""
        staged = self._staged(index)
        return torch.from_numpy(render(staged.description, staged.outlines, staged.seen))

    def _staged(self, index: int) -> "Staged":
        return stage(self.seed, self._number(index), self._size, self.things)

    def _number(self, index: int) -> int:
        if not 0 <= index < self.images:
            raise IndexError(f"scene {index} of {self.images}")
        return self.first + index


class Staged(NamedTuple):
    """A scene whose every thing shows, before it is labelled or painted."""

    description: Description
    outlines: list[Outline]
    seen: Seen


@lru_cache(maxsize=4)  # a scene is mostly asked for its labels and its picture in turn
def stage(seed: int, index: int, size: tuple[int, int], things: tuple[int, int]) -> Staged:
    description = compose(seed, index, size, things)
    camera = description.camera
    edges = outlines(camera, description.things)
    seen = look(camera, description.things, edges, pixels(size))
    shown = np.bincount(seen.what + 2, minlength=len(edges) + 2)[2:]
    if (shown >= LEAST_PIXELS).all():
        return Staged(description, edges, seen)
    # Without the others, what is left shows in as many pixels or more.
    kept = np.flatnonzero(shown >= LEAST_PIXELS).tolist()
    description = replace(description, things=tuple(description.things[row] for row in kept))
    edges = [edges[row] for row in kept]
    return Staged(description, edges, look(camera, description.things, edges, pixels(size)))


def toybox_splits(
    images: int,
    val: int,
    seed: int = 0,
    size: tuple[int, int] = (256, 256),
    things: tuple[int, int] = (2, 9),
) -> Splits:
    """``images`` scenes to train on and ``val`` others to measure on."""
    return Splits(
        train=Toybox(images, seed, size, things),
        val=Toybox(val, seed, size, things, first=FIRST_UNSEEN),
    )
