"""``sightline toybox``: the generated data set in a folder."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Pair = Annotated[tuple[int, int], Parameter(negative=())]


def toybox(
    out: Path,
    *,
    images: int = 1000,
    val: int | None = None,
    seed: int = 0,
    size: Pair = (256, 256),
    things: Pair = (2, 9),
) -> None:
    """Write the generated data set as a COCO data set.

    The same options give the same scenes on every machine; with more images, the first ones stay.

    Parameters
    ----------
    out
        A new or empty folder.
    images
        Scenes to train on.
    val
        Scenes to measure on, none of them among those to train on; a fifth as many, if left out.
    seed
        Another seed, other scenes.
    size
        Height and width of the pictures in pixels.
    things
        The fewest and the most things put into a scene; those that end up hidden are left out.
    """
    from sightline.data.toybox import toybox_splits
    from sightline.data.toybox.folder import write_toybox

    splits = toybox_splits(images, max(1, images // 5) if val is None else val, seed, size, things)
    write_toybox(splits, out)
    print(f"{out}: {len(splits.train)} scenes to train on, {len(splits.val)} to measure on")
