"""Several models and several views as one model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sightline
from sightline.data.loader import eval_loader
from sightline.ensemble import Ensemble, Pictures, ensemble
from sightline.errors import SightlineError
from sightline.evaluate import evaluate
from sightline.models import Card
from sightline.ops.masks import decode, encode
from sightline.predict import choosing, predict, score_of
from sightline.preprocess import Preprocess
from sightline.types import Classes, Images, Placement, Scene
from sightline.views import View, views
from tests.bright import COLOURS, Bright, picture, save_picture
from tests.test_evaluate import patches

MIXED = picture((2, 3, 12, 9, 0, 51), (20, 10, 25, 15, 1, 255), (0, 0, 4, 4, 2, 102))
RED = picture((2, 3, 12, 9, 0, 204))  # found with score 0.8


def dimmed(gain: float, classes: Classes = COLOURS) -> Bright:
    """Sees everything so much darker, and scores it so much lower."""
    model = Bright()
    model.gain = nn.Parameter(torch.tensor(gain))
    model.card = Card("bright", {}, classes)
    return model


def shifted(pixels: int) -> Bright:
    """Places what it finds so many pixels too far right."""

    class Shifted(Bright):
        def describe(self, selected: Any, placements: Sequence[Placement]) -> list[Scene]:
            scenes = super().describe(selected, placements)
            shift = torch.tensor([pixels, 0, pixels, 0])
            return [
                replace(s, things=replace(s.things, boxes=s.things.boxes + shift)) for s in scenes
            ]

    return Shifted()


def the_same(a: Scene, b: Scene) -> None:
    assert a.size == b.size
    assert torch.equal(a.things.labels, b.things.labels)
    torch.testing.assert_close(a.things.boxes, b.things.boxes)
    torch.testing.assert_close(a.things.scores, b.things.scores)


FUSIONS: Any = ["wbf", "soft-nms", "soft-nms-linear", "nms"]


@pytest.mark.parametrize("fuse", FUSIONS)
def test_one_model_is_that_model(fuse: Any) -> None:
    pictures = [MIXED, picture(), RED[:, :15]]
    for plain, alone in zip(
        predict(Bright(), pictures), predict(ensemble(Bright(), fuse=fuse), pictures), strict=True
    ):
        the_same(plain, alone)


@pytest.mark.parametrize(
    "view", [View(mirrored, turns) for mirrored in (False, True) for turns in range(4)]
)
def test_a_model_to_which_all_views_are_alike_answers_as_in_the_plain_one(view: View) -> None:
    """Pictures of several sizes in one batch: each is turned by itself."""
    pictures = [MIXED, picture((1, 1, 3, 2, 2, 255), size=(9, 4)), picture()]
    seen = Ensemble([Bright()], ["bright"], views=[view])
    for plain, turned in zip(predict(Bright(), pictures), predict(seen, pictures), strict=True):
        the_same(plain, turned)


@pytest.mark.parametrize("fuse", ["wbf", "nms"])
def test_so_do_all_views_together(fuse: Any) -> None:
    model = Bright()
    seen = ensemble(model, flips=["horizontal", "vertical"], turns=True, fuse=fuse)
    (together,) = predict(seen, MIXED)
    assert len(model.batches) == 8
    the_same(predict(model, MIXED)[0], together)


def test_a_scale_is_one_of_the_model_s_own_resize() -> None:
    """Short side 20, then 40: the box is read off an enlarged picture, whose edges are blurred by
    a pixel of it."""
    model = Bright()
    model.preprocess = replace(model.preprocess, short=20, long=None)
    (scene,) = predict(ensemble(model, scales=[2.0], fuse="wbf"), RED)
    assert model.batches == [(1, 3, 20, 30), (1, 3, 40, 60)]
    torch.testing.assert_close(
        scene.things.boxes, torch.tensor([[2.0, 3, 12, 9]]), rtol=0, atol=0.3
    )
    assert scene.things.scores is not None
    assert scene.things.scores.tolist() == pytest.approx([0.8])


def test_what_several_models_find_by_hand() -> None:
    """Scores 0.8 and 0.4: the mean 0.6; with weights 3 and 1 it is 0.7. A third that finds nothing
    lowers the mean to 2/3. The box lies between 0 and 1 as the scores x weights do."""
    models: list[Any] = [Bright(), dimmed(0.5)]
    assert scores(ensemble(models)) == pytest.approx([0.6])
    assert scores(ensemble(models, weights=[3.0, 1.0])) == pytest.approx([0.7])
    assert scores(ensemble([*models, dimmed(0.0)])) == pytest.approx([0.6 * 2 / 3])
    (scene,) = predict(ensemble([Bright(), shifted(1)], weights=[3.0, 1.0]), RED)
    torch.testing.assert_close(scene.things.boxes, torch.tensor([[2.25, 3, 12.25, 9]]))


def scores(model: Any) -> list[float]:
    (scene,) = predict(model, RED)
    assert scene.things.scores is not None
    return scene.things.scores.tolist()


def test_suppression_in_the_place_of_fusion_by_hand() -> None:
    """A shift of 1 in 10 is an IoU of 9 / 11; the heavier model's score stays, that of the other
    is halved by its weight before."""
    models, share = [Bright(), shifted(1)], 9 / 11
    assert scores(ensemble(models, fuse="nms")) == pytest.approx([0.8])
    linear = ensemble(models, fuse="soft-nms-linear")
    assert scores(linear) == pytest.approx([0.8, 0.8 * (1 - share)])
    gaussian = ensemble(models, weights=[2.0, 1.0], fuse="soft-nms")
    low = 0.4 * torch.tensor(-(share**2) / 0.5).exp().item()
    assert scores(gaussian) == pytest.approx([0.8, low])


def test_suppression_asks_for_the_overlap_that_the_model_does() -> None:
    models: list[Any] = [Bright(), shifted(1)]
    models[0].selection = replace(models[0].selection, iou=0.9)
    assert len(scores(ensemble(models, fuse="nms"))) == 2


def test_classes_are_matched_by_name() -> None:
    """The second calls the channels red, green and blue 2, 1 and 0."""

    class Backwards(Bright):
        def describe(self, selected: Any, placements: Sequence[Placement]) -> list[Scene]:
            return super().describe(selected._replace(labels=2 - selected.labels), placements)

    theirs = Backwards()
    theirs.gain = nn.Parameter(torch.tensor(0.5))
    theirs.card = Card("bright", {}, Classes(("Blue", "green", "red")))
    (scene,) = predict([Bright(), theirs], MIXED)
    assert scene.things.labels.tolist() == [1, 2, 0]
    assert scene.things.scores is not None
    assert scene.things.scores.tolist() == pytest.approx([0.75, 0.3, 0.15])


def test_settings_reach_the_members_where_more_is_asked_for_and_are_put_back() -> None:
    first, second = Bright(), dimmed(0.5)
    both, usual = ensemble([first, second]), first.selection
    seen: list[tuple[float, int, str]] = []
    first.register_forward_pre_hook(
        lambda model, _: seen.append(
            (model.selection.score, model.selection.top, model.selection.by)
        )
    )
    with choosing(both, score=0.5, top=1):
        assert scores(both) == pytest.approx([0.6])
    with choosing(both, score=0.01, top=300):
        assert scores(both) == pytest.approx([0.6])
    (nothing,) = predict(both, RED, score=0.61)
    (one,) = predict(both, MIXED, top=1)
    (least,) = predict(both, MIXED, least_background=1)
    assert (len(nothing.things), len(one.things), len(least.things)) == (0, 1, 1)
    own = usual.score, usual.top, "class"
    assert seen == [own, (0.01, 300, "class"), own, own, (0.0, usual.top, "background")]
    assert first.selection == second.selection == usual
    assert both.selection.score == pytest.approx(0.05 / 2)


def strict(gain: float, threshold: float) -> Bright:
    """Sees RED's patch with a score of 0.8 times ``gain``, and says so above the threshold."""
    model = dimmed(gain)
    model.selection = replace(model.selection, score=threshold)
    return model


def test_what_one_look_of_many_sees_comes_out() -> None:
    """The one that sees it scores it 0.8, above its threshold of 0.5; six share that: 0.133. With
    weights 1 and 3 it is 0.2, or 0.267 of the heaviest where nothing is averaged."""
    seeing, blind = strict(1.0, 0.5), strict(0.0, 0.5)
    assert scores(ensemble([seeing, *[blind] * 5])) == pytest.approx([0.8 / 6])
    for fuse, score in [("wbf", 0.2), ("nms", 0.8 / 3), ("soft-nms", 0.8 / 3)]:
        for order in (1, -1):
            models, weights = [seeing, blind][::order], [1.0, 3.0][::order]
            both = ensemble(models, weights=weights, fuse=fuse)  # type: ignore[arg-type]
            assert scores(both) == pytest.approx([score])
            assert score_of(both, None) < score


@pytest.mark.parametrize("fuse", FUSIONS)
def test_each_member_sifts_by_its_own_threshold(fuse: Any) -> None:
    """One gives what it scores above 0.7, another above 0.3: 0.8 of the first and 0.4 of the second
    come out, the first's 0.4 would not; whichever of the two is the first."""
    for models in ([strict(0.0, 0.7), strict(0.5, 0.3)], [strict(0.5, 0.3), strict(0.0, 0.7)]):
        assert scores(ensemble(models, fuse=fuse)) == pytest.approx([0.2 if fuse == "wbf" else 0.4])
    assert scores(ensemble([strict(0.5, 0.7), strict(0.0, 0.3)], fuse=fuse)) == []


def test_a_score_that_is_asked_for_is_one_of_what_was_fused() -> None:
    """Both see 0.4 and 0.32, and give what is above 0.35: the second is silent. Asked for what
    is above 0.3 both speak, and their mean is 0.36; above 0.36 it is not."""
    both = ensemble([strict(0.5, 0.35), strict(0.4, 0.35)])
    assert scores(both) == pytest.approx([0.2])
    for score, found in [(0.3, [0.36]), (0.37, []), (0.35, [])]:
        (scene,) = predict(both, RED, score=score)
        assert scene.things.scores is not None
        assert scene.things.scores.tolist() == pytest.approx(found)


@pytest.mark.parametrize("looks", [1, 3, 6, 7])
def test_a_threshold_for_another_class_asks_the_members_for_no_more(looks: int) -> None:
    models = [strict(1.0, 0.05) for _ in range(looks)]
    seen: set[float] = set()
    models[0].register_forward_pre_hook(lambda model, _: seen.add(model.selection.score))
    (scene,) = predict(models, RED, per_class_score={"green": 0.9})
    assert len(scene.things) == 1
    assert seen == {0.05}


def test_suppression_still_drops_what_it_lowers_far() -> None:
    """The two lie on one another but for a tenth: the worse is lowered from 0.8 to 0.21 at the
    least look's threshold of 0.3, and is none any more."""
    models: list[Any] = [strict(1.0, 0.3), shifted(1)]
    models[1].selection = replace(models[1].selection, score=0.3)
    assert scores(ensemble(models, fuse="soft-nms")) == pytest.approx([0.8])


class Marked(Bright):
    """Each thing has a mask, which is its box, and two keypoints: left and right upper corner."""

    def describe(self, selected: Any, placements: Sequence[Placement]) -> list[Scene]:
        return [self._marked(scene) for scene in super().describe(selected, placements)]

    def _marked(self, scene: Scene) -> Scene:
        boxes = scene.things.boxes
        maps = torch.zeros(len(boxes), *scene.size, dtype=torch.bool)
        for map, (x1, y1, x2, y2) in zip(maps, boxes.long().tolist(), strict=True):
            map[y1:y2, x1:x2] = True
        sure = torch.full((len(boxes), 1), 2.0)
        corners = [torch.cat([boxes[:, [x, 1]], sure], dim=1) for x in (0, 2)]
        points = torch.stack(corners, dim=1)
        return replace(scene, things=replace(scene.things, masks=encode(maps), keypoints=points))


def test_masks_and_keypoints_come_back_with_their_things() -> None:
    model = Marked()
    classes = replace(COLOURS, keypoints=("left", "right"), mirrored=(1, 0))
    model.card = Card("marked", {}, classes)
    (plain,) = predict(model, MIXED)
    mirrored = Ensemble([model], ["marked"], views=views(["horizontal"])[1:])
    for other in (ensemble(model, flips=["horizontal"]), mirrored):
        (seen,) = predict(other, MIXED)
        the_same(plain, seen)
        masks: list[Any] = [plain.things.masks, seen.things.masks]
        assert torch.equal(*(decode(rles, (20, 30)) for rles in masks))
        torch.testing.assert_close(plain.things.keypoints, seen.things.keypoints)


def test_a_model_without_masks_leaves_none_and_one_that_finds_nothing_keeps_them() -> None:
    (neither,) = predict([Marked(), Bright()], RED)
    assert neither.things.masks is None
    (kept,) = predict([Marked(), dimmed(0.0)], RED)
    assert kept.things.masks is not None
    assert len(predict([Marked(), Bright()], picture())[0].things) == 0


class Painted(nn.Module):
    """A label map: the logits are the colours, times a factor, in the order of the classes."""

    needs = frozenset({"semantic"})

    def __init__(self, factor: float = 8.0, order: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        self.preprocess = Preprocess(short=20, long=None, mean=(0, 0, 0), std=(1, 1, 1), multiple=8)
        names = [COLOURS.names[channel] for channel in order]
        self.card = Card("painted", {}, Classes((names[0],), stuff=tuple(names[1:])))
        self.factor, self.order = factor, list(order)

    def forward(self, images: Images) -> Tensor:
        return self.factor * images.pixels[:, self.order]

    def describe(self, logits: Tensor, placements: Sequence[Placement]) -> list[Scene]:
        scenes = []
        for each, place in zip(logits, placements, strict=True):
            inside = each[:, : place.size[0], : place.size[1]]
            large = nn.functional.interpolate(inside[None], place.original, mode="bilinear")[0]
            scenes.append(Scene(place.original, semantic=large.argmax(0)))
        return scenes


NOISE = torch.randint(
    0, 256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
)


@pytest.mark.parametrize("size", [(20, 30), (40, 60)])
def test_a_label_map_is_the_same_in_all_views(size: tuple[int, int]) -> None:
    """Also of a picture that the model sees smaller, so that logits are enlarged at the end."""
    coarse = nn.functional.interpolate(NOISE[None].float(), size, mode="nearest")[0].byte()
    (plain,) = predict(Painted(), coarse)
    seen = ensemble(Painted(), flips=["horizontal", "vertical"], turns=True)
    (together,) = predict(seen, coarse)
    assert together.size == size
    assert plain.semantic is not None
    assert together.semantic is not None
    assert (plain.semantic != together.semantic).float().mean() < 0.02  # near ties


def test_probabilities_of_label_maps_are_averaged_by_hand() -> None:
    """One pixel, red 1 and green 0.902. The first model's logits are (1, 0.902, 0), probabilities
    0.440, 0.399, 0.162. The second sees red and blue exchanged, ten times as strongly: (0, 9.02,
    10), probabilities 0.000, 0.273, 0.727. The means are 0.220, 0.336, 0.444: blue. With weights 4
    and 1 they are 0.352, 0.373, 0.275: green."""
    pixel = torch.tensor([255, 230, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 20, 20)

    class Exchanged(Painted):
        def forward(self, images: Images) -> Tensor:
            return super().forward(images)[:, [2, 1, 0]]

    for weights, label in [((1.0, 1.0), 2), ((4.0, 1.0), 1), ((99.0, 1.0), 0)]:
        (scene,) = predict(ensemble([Painted(1.0), Exchanged(10.0)], weights=weights), pixel)
        assert scene.semantic is not None
        assert scene.semantic.unique().tolist() == [label]


def test_label_maps_of_models_on_two_devices() -> None:
    """As of a checkpoint on a GPU and an exported file on the CPU; on "meta" nothing is calculated,
    and PyTorch adds no other tensor to one that is there."""
    there = Painted()
    there.place = nn.Parameter(torch.empty(0, device="meta"))
    with torch.no_grad():
        answers = ensemble([there, Painted()])(Pictures([NOISE]))
    assert [(m.device.type, m.shape) for m in answers.maps] == [("meta", (3, 20, 30))]


def test_label_maps_with_their_stuff_in_another_order() -> None:
    (plain,) = predict(Painted(), NOISE)
    (both,) = predict([Painted(), Painted(order=(0, 2, 1))], NOISE)
    assert plain.semantic is not None
    assert both.semantic is not None
    assert torch.equal(plain.semantic, both.semantic)


def test_a_list_of_models_is_measured() -> None:
    """The second finds nothing: all scores are halved, and the order stays."""
    alone = evaluate(Bright(), patches())
    assert evaluate([Bright(), dimmed(0.0)], patches())["AP"] == pytest.approx(alone["AP"])
    turned = ensemble([Bright()], flips=["horizontal"], turns=True)
    assert evaluate(turned, patches(), batch=2)["AP"] == pytest.approx(alone["AP"])


def test_pictures_travel_from_workers_as_they_are() -> None:
    dataset, model = patches(), ensemble(Bright())
    for workers in (0, 1):
        loader = eval_loader(dataset, model.preprocess, batch=2, workers=workers)
        ((pictures, _, placements, indices),) = loader
        for index, pixels, place in zip(indices, pictures.pixels, placements, strict=True):
            assert torch.equal(pixels, dataset.picture(index))
            assert place == Placement(dataset.size(index), dataset.size(index))


@pytest.mark.parametrize(
    ("models", "options", "told"),
    [
        ([], {}, "an ensemble needs a model"),
        (
            [Bright(), dimmed(1.0, Classes(("red", "green", "pink")))],
            {},
            "model 2 knows pink, which model 1 does not: the models of an ensemble need the same",
        ),
        (
            [Bright(), dimmed(1.0, Classes(("red", "green")))],
            {},
            "model 1 knows blue, which model 2 does not",
        ),
        ([Bright()], {"weights": [1.0, 2.0]}, "2 weights for 1 models: give one for each"),
        ([Bright()], {"weights": [0.0]}, "the weights of models are numbers above 0"),
        ([Bright()], {"fuse": "mean"}, "boxes are fused by wbf, soft-nms, .* not mean"),
        ([Bright()], {"scales": [2.0]}, "takes pictures of the size they have: no other scale"),
        (["nowhere.safetensors"], {}, "nowhere.safetensors: no such file"),
        ([ensemble(Bright())], {}, "an ensemble cannot be part of another one"),
        ([nn.Identity()], {}, "the model has no card"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_what_is_no_ensemble(models: Any, options: Any, told: str) -> None:
    with pytest.raises(SightlineError, match=told):
        ensemble(models, **options)


def test_things_and_maps_are_not_mixed() -> None:
    boxes, map = Bright(), Painted()
    map.card = boxes.card
    with pytest.raises(SightlineError, match="model 1 finds things, model 2 draws a label map: "):
        ensemble([boxes, map])
    with pytest.raises(SightlineError, match="model 2 finds things, model 1 draws a label map: "):
        ensemble([map, boxes])


def test_an_ensemble_is_not_saved_or_exported(tmp_path: Path) -> None:
    save_picture(tmp_path / "a.png", RED)
    with pytest.raises(SightlineError, match="a fused model is no checkpoint"):
        sightline.save(ensemble(Bright()), tmp_path / "a.safetensors")
    with pytest.raises(SightlineError, match="give the one it was made of"):
        sightline.export(ensemble(Bright()), tmp_path / "a.onnx", photos=tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
