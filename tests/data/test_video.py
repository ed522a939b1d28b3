"""Videos, frame by frame: read as they are shown, and written."""

import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from sightline.data.video import check_video, frame_rate, is_video, read_frames, write_frames
from sightline.errors import SightlineError
from sightline.types import Moment
from tests.data.clips import turn, write_clip, write_sound

COLOURS = [(200, 40, 40), (40, 160, 60), (50, 60, 190), (230, 230, 230), (20, 20, 20)]


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (48, 64)) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, *size)


def close(pixels: Tensor, colour: tuple[int, int, int]) -> bool:
    """All pixels; a codec keeps a plain colour to a few steps of 255."""
    return bool((pixels.int() - torch.tensor(colour)[:, None, None]).abs().max() <= 8)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".m4v", ".webm"])
def test_frames_in_order_with_number_and_time(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx" if suffix == ".webm" else "mpeg4"
    path = write_clip(tmp_path / f"clip{suffix}", [plain(c) for c in COLOURS], codec=codec)
    assert is_video(path)
    frames = list(read_frames(path))
    assert [moment.frame for _, moment in frames] == [0, 1, 2, 3, 4]
    seconds = [moment.seconds for _, moment in frames]
    assert seconds == pytest.approx(
        [0, 0.04, 0.08, 0.12, 0.16], abs=6e-4
    )  # mkv counts milliseconds
    for (pixels, _), colour in zip(frames, COLOURS, strict=True):
        assert pixels.shape == (3, 48, 64)
        assert pixels.is_contiguous()
        assert close(pixels, colour)
    assert frame_rate(path) == 25


def test_what_is_a_video_is_told_by_its_suffix() -> None:
    assert is_video("a/B.MP4")
    assert not any(map(is_video, ("a.gif", "a.jpg", "mp4", "a.mp4.jpg", "")))


def test_time_is_that_of_the_frame_and_begins_with_the_first(tmp_path: Path) -> None:
    """Five frames in 25ths of a second, the first of them late, the others at no even pace."""
    path = tmp_path / "clip.mkv"
    write_clip(path, [plain(c) for c in COLOURS], shown=[50, 51, 53, 60, 61])
    seconds = [moment.seconds for _, moment in read_frames(path)]
    assert seconds == pytest.approx([0, 0.04, 0.12, 0.4, 0.44], abs=1e-3)


def test_a_last_frame_that_is_shown_for_long_is_no_missing_end(tmp_path: Path) -> None:
    """Half a second of ten: as a screen is recorded on which nothing happens."""
    path = tmp_path / "new.mp4"
    with write_frames(path, Fraction(1, 3), (64, 48)) as add:
        for seconds in (0.0, 0.2, 0.5):
            add(Image.new("RGB", (64, 48)), seconds)
    assert [moment.seconds for _, moment in read_frames(path)] == pytest.approx([0, 0.2, 0.5])


@pytest.mark.parametrize(
    ("matrix", "corner", "size"),
    [
        ((1, 0, 0, 1), (0, 0), (48, 64)),
        ((0, 1, -1, 0), (0, -1), (64, 48)),  # (x, y) to (-y, x): a quarter clockwise
        ((-1, 0, 0, -1), (-1, -1), (48, 64)),
        ((0, -1, 1, 0), (-1, 0), (64, 48)),  # (x, y) to (y, -x): a quarter back
    ],
)
def test_frames_are_turned_as_the_file_says(
    tmp_path: Path, matrix: tuple[int, ...], corner: tuple[int, int], size: tuple[int, int]
) -> None:
    """The upper left sixteen pixels are white."""
    marked = plain(COLOURS[4]).clone()
    marked[:, :16, :16] = 255
    path = write_clip(tmp_path / "clip.mp4", [marked] * 3)
    turn(path, matrix)
    for pixels, _ in read_frames(path):
        assert pixels.shape == (3, *size)
        rows, columns = corner
        light = [float(pixels[:, r, c].float().mean()) for r in (0, -1) for c in (0, -1)]
        brightest = [(0, 0), (0, -1), (-1, 0), (-1, -1)][light.index(max(light))]
        assert brightest == (rows, columns)
        assert max(light) > 200
        assert sorted(light)[2] < 60


def test_a_folder_may_have_a_name_that_looks_like_an_address(tmp_path: Path) -> None:
    folder = tmp_path / "tcp:x"
    folder.mkdir()
    write_clip(folder / "pipe:1.mp4", [plain(COLOURS[0])])
    assert len(list(read_frames(folder / "pipe:1.mp4"))) == 1


def noise(count: int) -> list[Tensor]:
    return [torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8) for _ in range(count)]


@pytest.mark.parametrize(
    ("name", "options"), [("clip.mp4", {"movflags": "faststart"}), ("clip.mkv", {})]
)
def test_a_video_that_is_cut_short(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    """Its head tells of all 50 frames. What could be read has been given."""
    path = write_clip(tmp_path / name, noise(50), **options)
    assert len(list(read_frames(path))) == 50
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    numbers: list[int] = []
    frames = read_frames(path)
    with pytest.raises(SightlineError, match=rf"{name} is cut short: [01]\.\d of 2\.0 seconds"):
        numbers.extend(moment.frame for _, moment in frames)
    assert numbers == list(range(len(numbers)))
    assert 15 < len(numbers) < 35


def test_files_that_are_no_video(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", noise(5))
    headless = tmp_path / "headless.mp4"  # the head of an MP4 is at its end
    headless.write_bytes(clip.read_bytes().partition(b"moov")[0])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mkv").write_text("no video")
    for path in (headless, tmp_path / "empty.mp4", tmp_path / "text.mkv"):
        with pytest.raises(SightlineError, match=rf"cannot read .*{path.name} as a video: Invalid"):
            list(read_frames(path))
    with pytest.raises(SightlineError, match=r"none.mp4 as a video: No such file"):
        list(read_frames(tmp_path / "none.mp4"))
    with pytest.raises(SightlineError, match=r"sound.mp4 holds no video"):
        list(read_frames(write_sound(tmp_path / "sound.mp4")))


def test_without_pyav_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    told = r"clip.mp4: videos need the package av: pip install 'sightline\[video\]'"
    with pytest.raises(SightlineError, match=told):
        check_video("clip.mp4")
    with pytest.raises(SightlineError, match=told):
        list(read_frames("clip.mp4"))


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])  # H.264 asks for even sides
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001), Fraction(60), Fraction(1)])
def test_what_is_written_is_read_back(
    tmp_path: Path, size: tuple[int, int], rate: Fraction
) -> None:
    path = tmp_path / "new.mp4"
    with write_frames(path, rate, size) as add:
        for number, colour in enumerate(COLOURS):
            add(Image.new("RGB", size, colour), float(number / rate))
    frames = list(read_frames(path))
    assert [moment.frame for _, moment in frames] == [0, 1, 2, 3, 4]
    for number, ((pixels, moment), colour) in enumerate(zip(frames, COLOURS, strict=True)):
        assert pixels.shape == (3, size[1], size[0])
        assert close(pixels, colour)
        assert moment.seconds == pytest.approx(float(number / rate), abs=1e-4)
    assert frame_rate(path) == rate


@pytest.mark.parametrize("rate", [Fraction(1_234_567, 41_234), Fraction(1000), Fraction(1, 7)])
def test_rates_that_a_damaged_file_may_tell(tmp_path: Path, rate: Fraction) -> None:
    for size in ((64, 48), (63, 47)):
        with write_frames(tmp_path / "new.mp4", rate, size) as add:
            for number in range(9):
                add(Image.new("RGB", size), float(number / rate))
        seconds = [moment.seconds for _, moment in read_frames(tmp_path / "new.mp4")]
        assert seconds == pytest.approx([float(number / rate) for number in range(9)], abs=1e-4)


def test_moments_are_kept_and_never_go_back(tmp_path: Path) -> None:
    path = tmp_path / "new.mp4"
    with write_frames(path, Fraction(25), (64, 48)) as add:
        for seconds in (0.0, 0.5, 0.25, 1.0):
            add(Image.new("RGB", (64, 48)), seconds)
    moments = [moment for _, moment in read_frames(path)]
    assert moments == [
        Moment(0, 0.0),
        Moment(1, 0.5),
        Moment(2, pytest.approx(0.5, abs=1e-4)),
        Moment(3, 1.0),
    ]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No such file"),
        write_frames(tmp_path / "none" / "new.mp4", Fraction(25), (64, 48)) as add,
    ):
        add(Image.new("RGB", (64, 48)), 0.0)
