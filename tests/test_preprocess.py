"""Preprocess: sizes by hand, padding, channel order, torchvision's transform as twin, JSON."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from sightline.errors import SightlineError
from sightline.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

sides = st.integers(1, 900)
UNSCALED = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 640 x 800 / 480 = 1066.7
        ((400, 1000), (533, 1333)),  # 1000 x 800 / 400 would be 2000: 400 x 1333 / 1000 = 533.2
        ((1000, 400), (1333, 533)),
        ((1, 1), (800, 800)),
        ((1, 4000), (1, 1333)),  # 0.33 rows become one
    ],
)
def test_short_side_reaches_800_unless_the_long_one_passes_1333(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert Preprocess().size(*size) == expected


def test_torchvision_rounds_down() -> None:
    assert Preprocess(resize="torchvision").size(480, 640) == (800, 1066)


def test_fixed_size_stretches_and_no_rule_keeps_the_size() -> None:
    assert Preprocess(fixed=(448, 224)).size(17, 900) == (448, 224)
    assert Preprocess(short=None).size(17, 900) == (17, 900)


def test_long_side_without_limit() -> None:
    assert Preprocess(short=100, long=None).size(10, 500) == (100, 5000)


@given(sides, sides, st.sampled_from(["bytes", "torchvision"]))
def test_a_size_is_positive_and_within_the_rule(height: int, width: int, resize: str) -> None:
    scaled = Preprocess(short=80, long=133, resize=resize).size(height, width)  # type: ignore[arg-type]
    assert min(scaled) >= 1
    assert min(scaled) <= 80
    assert max(scaled) <= 133


def test_a_batch_is_padded_at_the_right_and_the_bottom_with_zeros() -> None:
    preprocess = Preprocess(short=None, multiple=8, **UNSCALED)
    pictures = [picture(5, 9), picture(7, 3)]
    images, placements = preprocess(pictures)
    assert images.pixels.shape == (2, 3, 8, 16)  # 7 rows and 9 columns, rounded up to eights
    assert images.sizes.tolist() == [[5, 9], [7, 3]]
    assert [p.size for p in placements] == [(5, 9), (7, 3)] == [p.original for p in placements]
    for row, original in zip(images.pixels, pictures, strict=True):
        height, width = original.shape[1:]
        assert torch.equal(row[:, :height, :width], original / 255)
        assert row[:, height:].count_nonzero() == row[:, :, width:].count_nonzero() == 0


def test_bgr_takes_mean_and_std_in_its_own_order() -> None:
    preprocess = Preprocess(
        short=None, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25), channels="bgr", multiple=1
    )
    red = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]
    images, _ = preprocess([red])
    # Blue first: (0 - 0.1) / 0.5, (0 - 0.2) / 0.5, (1 - 0.3) / 0.25.
    assert images.pixels.flatten().tolist() == pytest.approx([-0.2, -0.4, 2.8])


def test_one_pixel_is_a_picture() -> None:
    grey = torch.full((3, 1, 1), 51, dtype=torch.uint8)
    images, (placement,) = Preprocess(short=4, multiple=1, **UNSCALED)([grey])
    assert torch.allclose(images.pixels, torch.full((1, 3, 4, 4), 0.2))
    assert placement.boxes(torch.tensor([[0.0, 0, 1, 1]])).tolist() == [[0, 0, 4, 4]]


def test_a_batch_equals_its_pictures_one_by_one() -> None:
    preprocess = Preprocess(short=40, long=60)
    pictures = [picture(30, 50), picture(64, 33, seed=1)]
    together, placed_together = preprocess(pictures)
    for i, single in enumerate(pictures):
        alone, placed_alone = preprocess([single])
        height, width = alone.pixels.shape[-2:]
        assert torch.equal(together.pixels[i, :, :height, :width], alone.pixels[0])
        assert placed_together[i] == placed_alone[0]


@pytest.mark.parametrize("short_long", [(80, 133), (320, 640)])
def test_torchvision_style_equals_torchvision(short_long: tuple[int, int]) -> None:
    short, long = short_long
    theirs = GeneralizedRCNNTransform(short, long, IMAGENET_MEAN, IMAGENET_STD).eval()
    ours = Preprocess(short=short, long=long, resize="torchvision", antialias=False)
    pictures = [picture(48, 64), picture(146, 645, seed=1), picture(97, 37, seed=2)]
    expected, _ = theirs([p / 255 for p in pictures])
    images, placements = ours(pictures)
    assert [p.size for p in placements] == [tuple(size) for size in expected.image_sizes]
    torch.testing.assert_close(images.pixels, expected.tensors, atol=1e-6, rtol=0)


def test_bytes_style_is_torchvision_within_one_byte() -> None:
    """Where both give the same size. Bytes are rounded after the rows and after the columns, half
    a byte each time; the difference is then divided by the deviation."""
    theirs = GeneralizedRCNNTransform(96, 400, IMAGENET_MEAN, IMAGENET_STD).eval()
    original = picture(48, 64)
    expected, _ = theirs([original / 255])
    images, _ = Preprocess(short=96, long=400)([original])
    assert images.pixels.shape == expected.tensors.shape
    assert (images.pixels - expected.tensors).abs().max() <= 1.01 / 255 / min(IMAGENET_STD)


@given(sides, sides)
def test_torchvision_sizes(height: int, width: int) -> None:
    """Their interpolation takes floor(side x scale), in Python's floats."""
    scale = min(800 / min(height, width), 1333 / max(height, width))
    expected = tuple(max(1, int(side * scale)) for side in (height, width))
    assert Preprocess(resize="torchvision").size(height, width) == expected


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(),
        Preprocess(fixed=(448, 448), channels="bgr", resize="torchvision", antialias=False),
        Preprocess(short=None, long=None, multiple=1),
    ],
)
def test_json_round_trip(preprocess: Preprocess) -> None:
    through_json = json.loads(json.dumps(preprocess.to_json()))
    assert Preprocess.from_json(through_json) == preprocess
    assert Preprocess.from_json(preprocess.to_json()) == preprocess


def test_a_field_of_a_later_version_is_refused_by_name() -> None:
    with pytest.raises(SightlineError, match="unknown fields: letterbox"):
        Preprocess.from_json({"short": 800, "letterbox": True})


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"short": -5}, "short -5"),
        ({"long": 0}, "long 0"),
        ({"fixed": (0, 0)}, "height 0"),
        ({"fixed": (8, -1)}, "width -1"),
        ({"multiple": 0}, "multiple 0"),
    ],
)
def test_sizes_below_one_pixel_are_refused(sizes: dict[str, Any], told: str) -> None:
    with pytest.raises(SightlineError, match=f"cannot be resized to {told}"):
        Preprocess(**sizes)
    with pytest.raises(SightlineError, match=told):
        Preprocess.from_json(sizes)


def test_bytes_elsewhere_than_on_a_cpu_are_resized_as_numbers() -> None:
    """The meta device has shapes alone; the number of roundings differs, so a byte may too."""
    preprocess = Preprocess(short=96, multiple=1)
    seen = []

    class Seen(Preprocess):
        def _interpolate(self, picture: Tensor, size: tuple[int, int]) -> Tensor:
            seen.append(picture.dtype)
            return super()._interpolate(picture, size)

    images, _ = Seen(short=96, multiple=1)([picture(48, 64).to("meta")])
    assert images.pixels.shape == (1, 3, 96, 128)
    assert seen == [torch.float32]
    if torch.cuda.is_available():
        there, _ = preprocess([picture(48, 64).to("cuda")])
        here, _ = preprocess([picture(48, 64)])
        assert (there.pixels.cpu() - here.pixels).abs().max() <= 1.01 / 255 / min(IMAGENET_STD)


@pytest.mark.usefixtures("unchecked_shapes")  # the kinds of values are checked here
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mean": (0.1, float("nan"), 0.1)}, "three finite means"),
        ({"std": (0.1, 0.0, 0.1)}, "three deviations above 0"),
        ({"std": (0.1, 0.1)}, "three deviations above 0"),
        ({"channels": "grb"}, "unknown channels grb"),
        ({"short": 1 << 20}, "short 1048576: 1 to 65536"),
    ],
)
def test_what_would_give_no_pictures_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(SightlineError, match=told):
        Preprocess.from_json(Preprocess().to_json() | change)
