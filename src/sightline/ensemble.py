"""Several models, or several views of each picture, as one model.

A look is one member at one view. Each look prepares the pictures its own way, its answers are
carried back to the pictures as they are, and the answers of all looks are fused: boxes by weighted
box fusion, Soft-NMS or NMS, label maps by the mean of the probabilities.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sightline.errors import SightlineError
from sightline.models import Card
from sightline.ops.fusion import fuse_boxes, soften
from sightline.ops.suppress import EMPTY, Selection, suppress
from sightline.preprocess import Preprocess
from sightline.runtime import device_of, open_model
from sightline.shapes import Float, Int, UInt8
from sightline.types import Classes, Instances, Placement, Scene
from sightline.views import Flip, View, views
from sightline.weights.native import card_of
from sightline.weights.transfer import matching

Fusion = Literal["wbf", "soft-nms", "soft-nms-linear", "nms"]


def ensemble(
    models: Any,
    *,
    weights: Sequence[float] = (),
    flips: Sequence[Flip] = (),
    turns: bool = False,
    scales: Sequence[float] = (),
    fuse: Fusion = "wbf",
    device: str | torch.device | None = None,
    fast: bool = True,
    bf16: bool = False,
    compile: bool = False,
) -> "Ensemble":
    """One model of one or several, for ``predict`` and ``evaluate``: each looks at every picture,
    and at the views of it that are asked for, in its own preprocessing, one after another.

    Args:
        models: a model or several, of any form that ``predict`` takes, with the same classes.
        weights: how much each model counts, above 0; left out: all alike.
        flips: look at the pictures mirrored as well: "horizontal", "vertical" or both.
        turns: look at them turned by each quarter turn as well.
        scales: look at them so many times as large as well. Each combination of flip, turn and
            scale is one look.
        fuse: how boxes become one; label maps are averaged.
        device, fast, bf16, compile: as in ``open_model``, for each.

    Raises:
        SightlineError: no model, models with different classes, some that find things and some that
            draw label maps, weights that do not fit, a scale of a model that takes pictures of one
            size, or a model that cannot be opened.
    """
    listed = list(models) if isinstance(models, list | tuple) else [models]
    if not listed:
        raise SightlineError("an ensemble needs a model")
    opened = [open_model(model, device, fast, bf16, compile) for model in listed]
    names = [
        str(model) if isinstance(model, str | Path) else f"model {place}"
        for place, model in enumerate(listed, 1)
    ]
    return Ensemble(opened, names, weights, views(flips, turns, scales), fuse)


class Pictures(NamedTuple):
    """What an ensemble takes in the place of ``Images``: every look makes its own of them."""

    pixels: list[UInt8[Tensor, "3 _ _"]]

    def to(self, device: torch.device | str) -> "Pictures":
        return Pictures([picture.to(device) for picture in self.pixels])


@dataclass(frozen=True)
class AsTheyAre:
    """In the place of a ``Preprocess``: leaves the pictures as they are, and says of them which
    the first member would put together."""

    first: Preprocess

    def size(self, height: int, width: int) -> tuple[int, int]:
        return self.first.size(height, width)

    def canvas(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        return self.first.canvas(sizes)

    def __call__(
        self, pictures: Sequence[UInt8[Tensor, "3 _ _"]]
    ) -> tuple[Pictures, list[Placement]]:
        sizes = [(picture.shape[1], picture.shape[2]) for picture in pictures]
        return Pictures(list(pictures)), [Placement(size, size) for size in sizes]


class Answers(NamedTuple):
    """What all looks found, not yet described; of label maps their sum."""

    found: list[tuple[Any, list[Placement]]]
    maps: list[Float[Tensor, "C _ _"]]  # a picture's: probabilities, weighted
    selection: Selection | None  # as the ensemble was set


class Look(NamedTuple):
    """One member at one view."""

    member: Any
    view: View
    preprocess: Preprocess
    labels: Int[Tensor, " C"]  # the ensemble's for each of the member's; stuff follows the things
    weight: float

    def answer(self, pictures: Pictures) -> tuple[Any, list[Placement]]:
        images, placements = self.preprocess([self.view.picture(p) for p in pictures.pixels])
        return self.member(images.to(device_of(self.member))), placements

    def scenes(self, answer: Any, placements: Sequence[Placement]) -> list[Scene]:
        """On the CPU, in the pixels of the pictures, labelled as the ensemble does."""
        mirrored = card_of(self.member).classes.mirrored
        scenes = []
        for scene in self.member.describe(answer, placements):
            back = self.view.scene_back(scene.to("cpu"), mirrored)
            things = replace(back.things, labels=self.labels[back.things.labels])
            scenes.append(replace(back, things=things))
        return scenes

    def maps(
        self, logits: Float[Tensor, "B C H W"], placements: Sequence[Placement]
    ) -> list[Float[Tensor, "C _ _"]]:
        """The probabilities of each picture's labels, times the weight, upright and without the
        padding."""
        maps = []
        for each, place in zip(logits, placements, strict=True):
            (top, left), (height, width) = place.offset, place.size
            inside = each[:, top : top + height, left : left + width]
            upright = self.view.maps_back(inside)[self.labels.argsort()]
            maps.append(self.weight * upright.float().softmax(dim=0))
        return maps


class Ensemble(nn.Module):
    """Behaves as one model does in prediction; it is neither trained, saved nor exported."""

    def __init__(
        self,
        members: Sequence[Any],
        names: Sequence[str],
        weights: Sequence[float] = (),
        views: Sequence[View] = (View(),),
        fuse: Fusion = "wbf",
    ) -> None:
        """``names`` are those of the members, for messages. The first view is the plain one."""
        super().__init__()
        if fuse not in get_args(Fusion):
            raise SightlineError(f"boxes are fused by {', '.join(get_args(Fusion))}, not {fuse}")
        if any(isinstance(member, Ensemble) for member in members):
            raise SightlineError("an ensemble cannot be part of another one")
        self.members = nn.ModuleList(members)
        self.fused = True  # like one that ``sightline.fuse`` made: to predict with, and no more
        self.fuse: Fusion = fuse
        first = card_of(members[0]).classes
        self.card = Card("ensemble", {}, first)
        self.needs = _needs(members, names)
        self.by_background = all(getattr(member, "by_background", False) for member in members)
        self.preprocess = AsTheyAre(members[0].preprocess)
        self.looks: list[Look] = []
        for member, name, weight in zip(members, names, _weights(weights, members), strict=True):
            labels = _labels(card_of(member).classes, first, name, names[0])
            for view in views:
                preprocess = member.preprocess.scaled(view.scale)
                self.looks.append(Look(member, view, preprocess, labels, float(weight)))
        if all(hasattr(member, "selection") for member in members):
            selection: Selection = members[0].selection
            self.selection = self._usual = replace(selection, score=self._least())

    def _least(self) -> float:
        """The score above which whatever a look finds comes out, if it overlaps nothing better: the
        members have sifted by their own thresholds, which are for scores before fusion. In single
        precision, as thresholds of classes are, so that it is known again among them."""
        weights = torch.tensor([look.weight for look in self.looks])
        scores = torch.tensor([look.member.selection.score for look in self.looks])
        whole = weights.sum() if self.fuse == "wbf" else weights.max()
        return float((scores * weights / whole).min())

    def forward(self, pictures: Pictures) -> Answers:
        """One look after another: no more is held than the pictures of one, and what was found."""
        found: list[tuple[Any, list[Placement]]] = []
        maps: list[Tensor] = []
        with self._told():
            for look in self.looks:
                answer, placements = look.answer(pictures)
                if isinstance(answer, Tensor):  # the logits of a label map
                    maps = _added(maps, look.maps(answer, placements))
                else:
                    found.append((answer, placements))
        return Answers(found, maps, getattr(self, "selection", None))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The members set to give whatever the ensemble is set to give; as before afterwards."""
        if not hasattr(self, "selection") or self.selection == self._usual:
            yield
            return
        members: list[Any] = list(self.members)
        before = [member.selection for member in members]
        try:
            for member, own in zip(members, before, strict=True):
                member.selection = _wider(own, self._usual, self.selection)
            yield
        finally:
            for member, own in zip(members, before, strict=True):
                member.selection = own

    def describe(self, answers: Answers, placements: Sequence[Placement]) -> list[Scene]:
        if answers.maps:
            return [self._map(*both) for both in zip(answers.maps, placements, strict=True)]
        by_look = [
            look.scenes(*found) for look, found in zip(self.looks, answers.found, strict=True)
        ]
        by_picture = list(zip(*by_look, strict=True))
        fused = self._fused([self._joined(scenes) for scenes in by_picture], answers.selection)
        return [
            replace(scenes[0], things=things)
            for scenes, things in zip(by_picture, fused, strict=True)
        ]

    def _map(self, probabilities: Float[Tensor, "C h w"], place: Placement) -> Scene:
        """The logarithm of probabilities is what logits are, but for a shift of them all."""
        shares = probabilities / sum(look.weight for look in self.looks)
        logits = shares.clamp(min=torch.finfo(shares.dtype).tiny).log()
        height, width = logits.shape[1:]
        placement = Placement(place.original, (height, width))
        (scene,) = self.looks[0].member.describe(logits[None], [placement])
        return scene

    def _joined(self, scenes: Sequence[Scene]) -> tuple[Instances, Float[Tensor, " N"]]:
        """The things that all looks found in one picture, and the weight of the look of each. Looks
        that found nothing are left out: the fields of nothing say nothing."""
        weights = [
            torch.full((len(scene.things),), look.weight)
            for look, scene in zip(self.looks, scenes, strict=True)
        ]
        things = [scene.things for scene in scenes if len(scene.things)]
        return Instances.join(things or [scenes[0].things]), torch.cat(weights)

    def _fused(
        self,
        found: Sequence[tuple[Instances, Float[Tensor, " _"]]],
        selection: Selection | None,
    ) -> list[Instances]:
        """A fused thing is all that its best one is (its mask, its keypoints), but for box and
        score."""
        boxes = pad_sequence([things.boxes for things, _ in found], True)
        labels = pad_sequence([things.labels for things, _ in found], True)
        scores = pad_sequence([_scores(things) for things, _ in found], True, EMPTY)
        weights = pad_sequence([weights for _, weights in found], True, 1.0)
        if self.fuse == "wbf":
            looks = sum(look.weight for look in self.looks)
            boxes, scores = fuse_boxes(boxes, scores, labels, weights, looks)
        else:
            weights = weights / max(look.weight for look in self.looks)
            scores = torch.where(scores > EMPTY, scores * weights, EMPTY)
            scores = self._lowered(boxes, scores, labels, selection)
        return [
            _best(replace(things, boxes=box[: len(things)], scores=score[: len(things)]), selection)
            for (things, _), box, score in zip(found, boxes, scores, strict=True)
        ]

    def _lowered(
        self,
        boxes: Float[Tensor, "B N 4"],
        scores: Float[Tensor, "B N"],
        labels: Int[Tensor, "B N"],
        selection: Selection | None,
    ) -> Float[Tensor, "B N"]:
        if self.fuse == "nms":
            iou = 0.5 if selection is None else selection.iou
            return suppress(boxes, scores, labels, len(self.card.classes), iou)
        form: Any = "linear" if self.fuse == "soft-nms-linear" else "gaussian"
        return soften(boxes, scores, labels, form)


def _weights(weights: Sequence[float], members: Sequence[Any]) -> Sequence[float]:
    """Raises:
    SightlineError: not one for each, or not above 0.
    """
    if weights and len(weights) != len(members):
        raise SightlineError(f"{len(weights)} weights for {len(members)} models: give one for each")
    if not all(0 < weight < float("inf") for weight in weights):
        raise SightlineError("the weights of models are numbers above 0")
    return weights or [1.0] * len(members)


def _needs(members: Sequence[Any], names: Sequence[str]) -> frozenset[str]:
    """The first member's: from that one tells what a model is measured by.

    Raises:
        SightlineError: some find things, others draw label maps.
    """
    needs: list[frozenset[str]] = [getattr(member, "needs", frozenset()) for member in members]
    drawing = [name for name, need in zip(names, needs, strict=True) if "semantic" in need]
    finding = [name for name, need in zip(names, needs, strict=True) if "semantic" not in need]
    if drawing and finding:
        raise SightlineError(
            f"{finding[0]} finds things, {drawing[0]} draws a label map: "
            "the models of an ensemble answer alike"
        )
    return needs[0]


def _labels(known: Classes, wanted: Classes, name: str, first: str) -> Int[Tensor, " C"]:
    """For each class that a member knows, then for each of its stuff, the ensemble's label.

    Raises:
        SightlineError: they do not know the same classes.
    """
    labels: list[int] = []
    for mine, theirs in ((known.names, wanted.names), (known.stuff, wanted.stuff)):
        where = dict(matching(mine, theirs))
        more = [word for place, word in enumerate(mine) if place not in where]
        less = [word for place, word in enumerate(theirs) if place not in where.values()]
        if more or less:
            knows, other = (name, first) if more else (first, name)
            raise SightlineError(
                f"{knows} knows {', '.join((more or less)[:5])}, which {other} does not: "
                "the models of an ensemble need the same classes"
            )
        labels += [len(labels) + where[place] for place in range(len(mine))]
    return torch.tensor(labels)


def _wider(own: Selection, usual: Selection, wanted: Selection) -> Selection:
    """A member's settings where the ensemble is asked for more than the member gives: lower scores,
    more things, another kind of choice. It fuses first, so that less is left for the end."""
    score = min(own.score, wanted.score) if wanted.score != usual.score else own.score
    top = max(own.top, wanted.top) if wanted.top > usual.top else own.top
    by = wanted.by if wanted.by != usual.by else own.by
    return replace(own, score=score, top=top, by=by)


def _scores(things: Instances) -> Float[Tensor, " N"]:
    assert things.scores is not None
    return things.scores


def _best(things: Instances, selection: Selection | None) -> Instances:
    """What is left of fused things, best first."""
    scores = _scores(things)
    order = scores.argsort(descending=True, stable=True)
    least, top = (EMPTY, None) if selection is None else (selection.score, selection.top)
    return things[order[scores[order] > least][:top]]


def _added(sums: list[Tensor], maps: list[Tensor]) -> list[Tensor]:
    """Maps of each picture, added to those of the first look, at their size and on their device:
    members may be on several."""
    if not sums:
        return maps
    return [
        total + F.interpolate(map[None].to(total.device), total.shape[1:], mode="bilinear")[0]
        for total, map in zip(sums, maps, strict=True)
    ]


def open_models(models: Any, device: str | torch.device | None, fast: bool) -> Any:
    """A model as ``open_model`` does, or of a list of them the ensemble."""
    if isinstance(models, list | tuple):
        return ensemble(models, device=device, fast=fast)
    return open_model(models, device, fast)
