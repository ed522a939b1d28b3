"""``sightline demo``: the whole path in a few minutes, on scenes the package generates."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from sightline.data.packed import Dataset
    from sightline.evaluate import Answered

SCENES, UNSEEN = 320, 60  # to train on, to measure on
SIDE = 192  # of a scene in pixels
DRAWN = 6  # scenes on the contact sheet
SCORE = 0.5  # answers scored higher are drawn


def demo(*, out: Path = Path("runs/demo"), seed: int = 0) -> None:
    """Train a small Faster R-CNN on generated scenes, measure it on unseen ones, and draw both.

    Takes a few minutes on two cores. Stopped and started again, it goes on where it was.

    Args:
        out: Folder for the scenes, the run and the contact sheet.
        seed: Another seed, other scenes and other first weights.
    """
    from sightline import weights
    from sightline.console import Console
    from sightline.data.folder import open_dataset
    from sightline.data.toybox import toybox_splits
    from sightline.data.toybox.folder import write_toybox
    from sightline.evaluate import answer, measure
    from sightline.files import check_target
    from sightline.recipes.faster_rcnn import faster_rcnn_toybox
    from sightline.recipes.recipe import Settings
    from sightline.train import train

    check_target(out / "contact_sheet.png")
    began = time.monotonic()
    scenes = out / "scenes"
    if not (scenes / "annotations" / "instances_val.json").exists():  # written last
        print(f"writing {SCENES} scenes to train on and {UNSEEN} unseen ones to {scenes}")
        write_toybox(toybox_splits(SCENES, UNSEEN, seed=seed, size=(SIDE, SIDE)), scenes)
    result = train(
        faster_rcnn_toybox(scenes, settings=Settings(out=out / "run", seed=seed, evaluate_every=4))
    )
    unseen = open_dataset(scenes).val
    answered = answer(weights.load(result.weights), unseen)
    numbers = measure(answered)
    Console().print(numbers.table(["AP", "AP50", "AP75", "AR100"]))
    sheet = out / "contact_sheet.png"
    compare(unseen, answered).save(sheet)
    minutes = (time.monotonic() - began) / 60
    print(
        f"AP50 {numbers['AP50']:.3f} on {UNSEEN} unseen scenes, after {minutes:.1f} minutes\n"
        f"truth beside answer: {sheet}\n"
        f"the model: {result.weights}; try: sightline predict {result.weights} {scenes / 'val'}"
    )


def compare(dataset: "Dataset", answered: "Answered") -> "Image":
    """A contact sheet of the first scenes, each twice: with the truth, with what was found."""
    from dataclasses import replace

    from sightline.draw import contact_sheet, draw
    from sightline.types import Scene

    drawn = []
    for index in range(min(DRAWN, len(dataset))):
        truth, answer = answered.truths[index].things, answered.answers[index].things
        assert answer.scores is not None
        for things in (replace(truth, masks=None, keypoints=None), answer[answer.scores >= SCORE]):
            scene = Scene(answered.truths[index].size, things)
            drawn.append(draw(dataset.picture(index), scene, answered.classes, zoom=2))
    return contact_sheet(drawn, columns=4, captions=["truth", "found"] * (len(drawn) // 2))
