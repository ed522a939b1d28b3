"""Scenes made by hand and by chance, for the tests of the metrics."""

import torch

from sightline.types import Classes, Instances, Scene

TWO = Classes(("cat", "dog"))


def scene(*things: tuple[float, ...], scores: list[float] | None = None, **fields: object) -> Scene:
    """Each thing is x1, y1, x2, y2 and its label."""
    rows = torch.tensor(things, dtype=torch.float64).reshape(-1, 5)
    return Scene(
        size=(100, 100),
        things=Instances(
            boxes=rows[:, :4],
            labels=rows[:, 4].long(),
            scores=None if scores is None else torch.tensor(scores, dtype=torch.float64),
            **fields,  # type: ignore[arg-type]
        ),
    )


def random_pairs(
    seed: int, pictures: int = 12, classes: int = 3
) -> tuple[list[Scene], list[Scene], Classes]:
    """Truths, and answers of which many nearly hit one; scores repeat, some truths are ignored (of
    those some as difficult things, some as regions), some pictures and classes are empty."""
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    truths, answers = [], []
    for index in range(pictures):
        corner = torch.randint(0, 50, (number(0, 6), 2), generator=generator).double()
        size = torch.randint(2, 50, corner.shape, generator=generator)
        boxes = torch.cat([corner, corner + size], dim=1)
        count = len(boxes)
        true = Instances(
            boxes=boxes,
            labels=torch.randint(0, classes, (count,), generator=generator),
            ignore=torch.rand(count, generator=generator) < 0.2,
        )
        true.extra["difficult"] = torch.rand(count, generator=generator) < 0.5
        copies = torch.randint(
            0, max(count, 1), (number(0, 9) if count else 0,), generator=generator
        )
        near = boxes[copies] + torch.randint(-4, 5, (len(copies), 4), generator=generator)
        far = torch.tensor([[60.0, 60, 90, 90]] * number(0, 3), dtype=torch.float64).reshape(-1, 4)
        found = torch.cat([near, far])
        found = torch.cat([found[:, :2], torch.maximum(found[:, :2] + 1, found[:, 2:])], dim=1)
        labels = torch.cat(
            [true.labels[copies], torch.randint(0, classes, (len(far),), generator=generator)]
        )
        scores = torch.randint(1, 11, (len(found),), generator=generator).double() / 10
        truths.append(Scene((100, 100), true, image_id=index))
        answers.append(Scene((100, 100), Instances(found, labels, scores), image_id=index))
    return truths, answers, Classes(tuple("abcdefgh"[: classes + 1]))  # the last has no truth
