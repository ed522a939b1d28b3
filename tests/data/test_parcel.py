import torch

from sightline.data.loader import Batch
from sightline.data.parcel import Parcel
from sightline.types import Images, Instances, Panoptic, Placement, Scene, Segment


def test_a_batch_comes_out_as_it_went_in() -> None:
    things = Instances(
        boxes=torch.rand(2, 4),
        labels=torch.tensor([1, 0]),
        masks=torch.rand(2, 300, 200).permute(0, 2, 1) > 0.5,
        extra={"word": ["a", "b"], "flag": torch.tensor([True, False])},
    )
    panoptic = Panoptic(torch.ones(300, 300, dtype=torch.long), [Segment(1, 0, True)])
    scenes = [Scene((300, 200), things, panoptic=panoptic, path="a", seed=5), Scene((1, 1))]
    images = Images(torch.rand(2, 3, 200, 200), torch.tensor([[1, 2], [3, 4]]))
    batch = Batch(images, scenes, [Placement((1, 2), (3, 4))] * 2, [7, 8])
    parcel = Parcel.pack(batch)
    # the pixels, the masks and the panoptic map; all the rest is bytes
    assert [tensor.ndim for tensor in parcel.tensors] == [4, 3, 2]
    assert len(parcel.rest) < 5000
    again = parcel.unpack()
    assert again.images.pixels is images.pixels
    assert again.images.sizes.equal(images.sizes)
    assert again.placements == batch.placements
    assert again.indices == [7, 8]
    first, empty = again.targets
    assert first.things.boxes.equal(things.boxes)
    assert first.things.ignore.equal(things.ignore)
    assert first.things.masks.equal(things.masks)
    assert first.things.extra["flag"].equal(things.extra["flag"])
    assert first.things.extra["word"] == ["a", "b"]
    assert (first.panoptic.segments, first.seed) == (panoptic.segments, 5)
    assert empty.things.boxes.shape == (0, 4)
    first.things.boxes.zero_()  # its own memory, and it may be written to


def test_anything_else_too() -> None:
    assert Parcel.pack(ValueError("no")).unpack().args == ("no",)
