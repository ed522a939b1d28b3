import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features
from torch import Tensor

from benchmarks.bad_material import bomb
from sightline.data import images
from sightline.data.images import decode_image, from_pillow, image_size, read_image
from sightline.errors import SightlineError
from tests.data.samples import gradient

PICTURE = gradient(38, 57)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_both(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor]:
    """As torchcodec decodes it, and as Pillow does."""
    pytest.importorskip("torchcodec.decoders")
    assert images._try_torchcodec(images.torchcodec_decoder(), data) is not None
    first = decode_image(data)
    with monkeypatch.context() as patch:
        patch.setattr(images, "torchcodec_decoder", lambda: None)
        second = decode_image(data)
    assert first.dtype == second.dtype == torch.uint8
    assert first.shape == second.shape
    return first, second


def distance(a: Tensor, b: Tensor | np.ndarray) -> int:
    return int((a.int() - torch.as_tensor(b).int()).abs().max())


def rows_first(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] as [3, H, W]."""
    return pixels.transpose(2, 0, 1)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


# What each EXIF orientation says was done to the upright picture; the reader must undo it. From
# the Exif 2.3 table: where the 0th row and the 0th column of the stored picture lie when upright.
UPRIGHT = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: p.transpose(1, 0, 2)[:, ::-1],  # stored row 0 is the right side: turn clockwise
    7: lambda p: p.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda p: p.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation(
    orientation: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = encoded(Image.fromarray(PICTURE), kind, exif=oriented(orientation), **options)
    expected = rows_first(UPRIGHT[orientation](PICTURE)).copy()
    file = tmp_path / f"picture.{kind.lower()}"
    file.write_bytes(data)
    assert image_size(file) == expected.shape[1:]
    decoded = [read_image(file)] if kind == "TIFF" else by_both(data, monkeypatch)
    for picture in decoded:
        assert picture.shape == expected.shape
        assert distance(picture, expected) <= (4 if kind == "JPEG" else 0)
    assert distance(decoded[0], decoded[-1]) <= 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_grey_becomes_three_equal_channels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = PICTURE[..., 1]
    for picture in by_both(encoded(Image.fromarray(grey), kind), monkeypatch):
        assert distance(picture, np.stack([grey] * 3)) <= 2


@pytest.mark.parametrize("options", [{}, {"transparency": 3}])
def test_palette_is_looked_up(options: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(PICTURE).quantize(16)
    expected = rows_first(np.array(image.convert("RGB")))
    for picture in by_both(encoded(image, "PNG", **options), monkeypatch):
        assert distance(picture, expected) == 0
    assert distance(decode_image(encoded(image, "GIF", **options)), expected) == 0


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})]
)
def test_alpha_is_dropped_and_the_colours_stay(
    kind: str, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.fromarray(PICTURE)
    image.putalpha(Image.fromarray(PICTURE[..., 0]))
    for picture in by_both(encoded(image, kind, **options), monkeypatch):
        assert distance(picture, rows_first(PICTURE)) == 0


def test_grey_with_alpha(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(PICTURE[..., 1])
    image.putalpha(Image.fromarray(PICTURE[..., 0]))
    for picture in by_both(encoded(image, "PNG"), monkeypatch):
        assert distance(picture, np.stack([PICTURE[..., 1]] * 3)) == 0


def test_one_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(PICTURE).convert("1")
    for picture in by_both(encoded(image, "PNG"), monkeypatch):
        assert distance(picture, 255 * np.stack([np.asarray(image)] * 3)) == 0


def png_of_16_bits(values: np.ndarray) -> bytes:
    """[H, W, C] of uint16; Pillow cannot write more than one such channel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_scaled_to_8(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (9, 7, channels)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 65535
    colours = values[..., [0, 0, 0]] if channels < 3 else values[..., :3]
    expected = rows_first(np.rint(colours / 257))  # 65535 / 257 = 255
    first, second = by_both(png_of_16_bits(values), monkeypatch)
    assert distance(first, expected) == 0
    assert distance(second, expected) <= 1  # Pillow itself cuts several channels to their high byte


def test_16_bit_tiff(tmp_path: Path) -> None:
    values = np.array([[0, 257, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    assert read_image(tmp_path / "deep.tif")[0].tolist() == [[0, 1, 255]]


def test_pixels_without_a_range_are_refused() -> None:
    with pytest.raises(SightlineError, match="floating point"):
        from_pillow(Image.fromarray(np.zeros((2, 2), np.float32)))
    with pytest.raises(SightlineError, match=r"0\.\.65535"):
        from_pillow(Image.fromarray(np.full((2, 2), 70000, np.int32)))


def test_cmyk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adobe's way, which Pillow writes: the inks are stored inverted, and a marker says so."""
    image = Image.fromarray(PICTURE).convert("CMYK")
    data = encoded(image, "JPEG", quality=95, subsampling=0)
    assert b"Adobe" in data[:40]
    first, second = by_both(data, monkeypatch)
    assert distance(first, second) <= 2
    assert distance(first, rows_first(PICTURE)) <= 12  # black and colour inks lose a little each


def test_cmyk_without_adobes_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inks are then stored as they are."""
    data = encoded(Image.fromarray(255 - PICTURE).convert("CMYK"), "JPEG", subsampling=0)
    start = data.index(b"\xff\xee")
    plain = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4]) :]
    first, second = by_both(plain, monkeypatch)
    assert distance(first, second) <= 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_one_pixel(kind: str) -> None:
    data = encoded(Image.fromarray(np.full((1, 1, 3), 200, np.uint8)), kind)
    assert decode_image(data).shape == (3, 1, 1)
    assert distance(decode_image(data), np.full((3, 1, 1), 200)) <= 1


def test_progressive_jpeg_and_subsampled_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(PICTURE), "JPEG", progressive=True, subsampling=2)
    first, second = by_both(data, monkeypatch)
    assert distance(first, second) <= 2


def test_the_first_frame_of_an_animation(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in (10, 200)]
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    for picture in by_both(encoded(frames[0], "WEBP", **options), monkeypatch):
        assert distance(picture, np.full((3, 4, 5), 10)) == 0
    assert distance(decode_image(encoded(frames[0], "GIF", **options)), np.full((3, 4, 5), 10)) == 0


def test_formats_that_only_pillow_reads() -> None:
    for kind in ("BMP", "PPM", "TIFF"):
        assert (
            distance(decode_image(encoded(Image.fromarray(PICTURE), kind)), rows_first(PICTURE))
            == 0
        )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "unknown format"),
        (b"no picture at all", "unknown format"),
        (encoded(Image.fromarray(PICTURE), "JPEG")[:300], "[Tt]runcated"),
        (encoded(Image.fromarray(PICTURE), "PNG")[:200], "truncated"),
    ],
)
def test_unreadable_pictures_are_named(data: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.jpg"
    file.write_bytes(data)
    with pytest.raises(SightlineError, match=f"broken.jpg.*{reason}") as error:
        read_image(file)
    assert "\n" not in str(error.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for read in (read_image, image_size):
        with pytest.raises(SightlineError, match=r"none\.jpg"):
            read(tmp_path / "none.jpg")


def test_sizes_of_real_photos_without_decoding(real_data: Path) -> None:
    for file in sorted((real_data / "coco" / "val").glob("*.jpg"))[:20]:
        assert image_size(file) == tuple(read_image(file).shape[1:])


def test_a_damaged_avif_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow finds the flaw in the header, in the frame or in the colour planes, as it happens."""
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    monkeypatch.setattr(images, "torchcodec_decoder", lambda: None)
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "AVIF")
    data, path, told = whole.getvalue(), tmp_path / "a.avif", set[str]()
    for cut in range(20, len(data), 37):
        path.write_bytes(data[:cut] + b"\0" * (len(data) - cut))
        for read in (image_size, read_image):
            try:
                read(path)
            except SightlineError:
                told.add(read.__name__)
    assert told == {"image_size", "read_image"}


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A hundred kilobytes that would be 2.7 GB: 30,000 x 30,000 pixels."""
    bomb(tmp_path / "bomb.png")
    began = time.monotonic()
    with pytest.raises(SightlineError, match=r"bomb\.png as a picture: .*900000000 pixels"):
        read_image(tmp_path / "bomb.png")
    assert time.monotonic() - began < 1
