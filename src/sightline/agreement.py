"""Whether two forms of one model give the same answers."""

import math
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils import _pytree as pytree

from sightline.ops.suppress import EMPTY

PIXELS, SCORE = 0.05, 1e-3  # how far boxes and scores may be from the model's
_UNMATCHED = 0.03  # share of detections: near ties that flip in the suppression
_RELATIVE = 1e-4  # of the largest value, for whatever else is answered
_RELABELLED = 1e-3  # share of the pixels of label maps: near ties


class Agreement(NamedTuple):
    """How the answers of two forms of one model compare."""

    matched: int  # detections with a partner of their class within the tolerances
    unmatched: int  # those without, on either side
    pixels: float  # largest distance of a coordinate
    score: float  # largest distance of a score
    relative: float  # of all other answers, to their largest value
    labelled: int = 0  # pixels of label maps that have one label in both
    relabelled: int = 0  # those that have not

    def __add__(self, other: "Agreement") -> "Agreement":  # type: ignore[override]
        return Agreement(
            self.matched + other.matched,
            self.unmatched + other.unmatched,
            max(self.pixels, other.pixels),  # none of these is NaN
            max(self.score, other.score),
            max(self.relative, other.relative),
            self.labelled + other.labelled,
            self.relabelled + other.relabelled,
        )

    @property
    def holds(self) -> bool:
        few = self.unmatched <= _UNMATCHED * (2 * self.matched + self.unmatched)
        alike = self.relabelled <= _RELABELLED * (self.labelled + self.relabelled)
        return few and alike and self.relative <= _RELATIVE

    def __str__(self) -> str:
        if self.labelled:
            return (
                f"{self.labelled} pixels labelled alike, {self.relabelled} otherwise; logits to "
                f"{self.relative:.1e} of the largest"
            )
        return (
            f"{self.matched} detections equal ({self.pixels:.1e} px, {self.score:.1e} in score), "
            f"{self.unmatched} without a partner; other answers to {self.relative:.1e}"
        )


NOTHING = Agreement(0, 0, 0.0, 0.0, 0.0)


def agree(ours: Any, theirs: Any) -> Agreement:
    """Detections are paired; whatever else is answered about them is compared pair by pair. A
    tensor is the logits of label maps."""
    if isinstance(ours, Tensor):
        alike = int((ours.argmax(1) == theirs.argmax(1)).sum())
        pixels = ours[:, 0].numel()
        return Agreement(0, 0, 0.0, 0.0, _relative(ours, theirs), alike, pixels - alike)
    if not hasattr(ours, "scores"):
        pairs = zip(pytree.tree_leaves(ours), pytree.tree_leaves(theirs), strict=True)
        return Agreement(0, 0, 0.0, 0.0, max(_relative(a, b) for a, b in pairs))
    total = NOTHING
    for row in range(len(ours.scores)):
        one, two = (pytree.tree_map(lambda v: v[row], given) for given in (ours, theirs))  # noqa: B023
        total += _agree_on_one(one, two)
    return total


def _agree_on_one(ours: Any, theirs: Any) -> Agreement:
    mine, partner = pairs(ours, theirs)
    filled = int((ours.scores > EMPTY).sum() + (theirs.scores > EMPTY).sum())
    if len(mine) == 0:
        return Agreement(0, filled, 0.0, 0.0, 0.0)
    skip = ("boxes", "scores", "labels")
    rest = [
        _relative(a[mine], b[partner])
        for name in ours._fields
        if name not in skip
        for a, b in zip(
            pytree.tree_leaves(getattr(ours, name)),
            pytree.tree_leaves(getattr(theirs, name)),
            strict=True,
        )
    ]
    return Agreement(
        len(mine),
        filled - 2 * len(mine),
        (ours.boxes[mine] - theirs.boxes[partner]).abs().max().item(),
        (ours.scores[mine] - theirs.scores[partner]).abs().max().item(),
        max(rest, default=0.0),
    )


def pairs(ours: Any, theirs: Any) -> tuple[list[int], list[int]]:
    """Slots of the one and of the other that say the same, each used once, best first."""
    near = (ours.boxes[:, None] - theirs.boxes).abs().amax(-1) <= PIXELS
    near &= (ours.scores[:, None] - theirs.scores).abs() <= SCORE
    near &= ours.labels[:, None] == theirs.labels
    near &= (ours.scores > EMPTY)[:, None] & (theirs.scores > EMPTY)
    mine, partner = [], []
    for slot in range(len(near)):
        candidates = near[slot].nonzero().flatten().tolist()
        free = next((c for c in candidates if c not in partner), None)
        if free is not None:
            mine.append(slot)
            partner.append(free)
    return mine, partner


def _relative(ours: Tensor, theirs: Tensor) -> float:
    """Infinite where either is not finite."""
    if ours.numel() == 0:
        return 0.0
    share = (ours - theirs).abs().max().item() / max(ours.abs().max().item(), 1e-6)
    return share if math.isfinite(share) else math.inf
