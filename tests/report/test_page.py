"""The page: whole, of one file, of anything that can be measured."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import sightline
from sightline.errors import SightlineError
from sightline.types import Classes, Instances, Scene
from tests.metrics.scenes import TWO, random_pairs, scene

A, B, FAR = (0, 0, 40, 40, 0), (50, 50, 60, 60, 0), (80, 80, 90, 90, 0)
EMPTY = {"meta", "!doctype"}


def grey(_: int) -> torch.Tensor:
    return torch.full((3, 100, 100), 128, dtype=torch.uint8)


class Reader(HTMLParser):
    """Its text, its tags, and whether each is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        given = dict(attrs)
        self.sources += [given[n] or "" for n in ("src", "href") if n in given]
        self.ids += [given["id"] or ""] if "id" in given else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def page(
    path: Path,
    truths: list[Scene],
    answers: list[Scene],
    classes: Classes = TWO,
    **given: object,
) -> Reader:
    sightline.report(path / "page.html", truths, answers, classes, grey, **given)  # type: ignore[arg-type]
    return Reader((path / "page.html").read_text(encoding="utf-8"))


def test_what_to_mend_first_by_hand(tmp_path: Path) -> None:
    """The first of two cats is too far off: 51 of 101 points of precision 1/2, half as many lost
    before it and 50 after: 101 if it were not. The second is kept, and so is the first: it scores
    higher."""
    answers = [scene((50, 50, 60, 54, 0), A, scores=[0.9, 0.8])]
    found = page(tmp_path, [scene(A, B)], answers, about={"model": "mine"})
    first = "Mend first: boxes that are too far off. They cost 74.8 points of AP50: it is 25.2 and "
    assert first + "would be 100.0 without them." in found.text
    assert "Of the 2 answers above the suggested scores 1 are such (1 cat), in 1 of 1" in found.text
    assert "model mine" in found.text
    assert "1 of 2 found. 1 × cat too far off." in found.text


def test_errors_that_no_user_sees(tmp_path: Path) -> None:
    """After the one that is right: the best F1 leaves it out."""
    answers = [scene(A, (50, 50, 60, 54, 0), scores=[0.9, 0.8])]
    found = page(tmp_path, [scene(A, B)], answers)
    assert "They cost 49.5 points of AP50" in found.text
    assert "All 1 score lower than suggested" in found.text
    assert "1 of 2 found. 1 × cat missed." in found.text


def test_what_was_meant_and_not_found_is_not_drawn_as_right(tmp_path: Path) -> None:
    """In the pictures: A is found, B meant by an answer in the wrong place, FAR missed."""
    near = (50, 50, 54, 60, 0)
    page(tmp_path, [scene(A, B, FAR)], [scene(A, near, scores=[0.9, 0.95])])
    text = (tmp_path / "page.html").read_text()
    worst = text[text.index("The worst pictures") :]
    truths = worst[worst.index(">truth<") : worst.index(">answer<")]
    assert re.findall(r'class="box (\w+)"', truths) == ["right", "meant", "missed"]


def test_the_dearest_class_is_named(tmp_path: Path) -> None:
    """Dogs lose all, cats nothing."""
    found = page(tmp_path, [scene(A, (*B[:4], 1))], [scene(A, scores=[0.9])])
    assert "Mend first: labelled things that get no answer. They cost 50.0 points" in found.text
    assert "1 get none at any score (1 dog), in 1 of 1 pictures; 1 are smaller" in found.text
    assert "The class that loses most is dog: it would go from 0.0 to 100.0." in found.text


def test_loose_boxes_are_told(tmp_path: Path) -> None:
    """IoU 0.6: all of AP50, nothing of AP75."""
    found = page(tmp_path, [scene(A)], [scene((0, 0, 40, 24, 0), scores=[0.9])])
    assert "No kind of error costs a tenth of a point" in found.text
    assert "of AP50 100.0, 0.0 are left" in found.text


def test_it_needs_no_other_file(tmp_path: Path) -> None:
    """Pictures are data inside, each embedded once, or point into the page."""
    truths, answers, classes = random_pairs(1)
    found = page(tmp_path, truths, answers, classes)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(", text)
    inner = [source for source in found.sources if source.startswith("#")]
    assert all(s.startswith("data:image/jpeg;base64,") for s in found.sources if s not in inner)
    assert {source.removeprefix("#") for source in inner} == set(found.ids)
    assert len(set(found.ids)) == len(found.ids)
    assert "script" not in found.seen


def test_names_from_the_data_are_text(tmp_path: Path) -> None:
    """Of classes, files and models, wherever they appear."""
    classes = Classes(("<b>", '"><script>x</script>&'))
    truth = Scene((100, 100), scene(A, (*B[:4], 1)).things, path="<i>.png")
    answers = [scene((*A[:4], 1), (*B[:4], 1), scores=[0.9, 0.8])]
    found = page(tmp_path, [truth], answers, classes, about={"<u>": "<s>"})
    assert not {"script", "i", "u", "s"} & set(found.seen) - {"i"}
    assert "1 × <b> taken for" in found.text
    assert "<i>.png" in found.text
    assert "<s>" in found.text


def test_names_that_no_encoding_can_write(tmp_path: Path) -> None:
    truth = Scene((100, 100), scene(A).things, path="caf\udce9.png")
    found = page(tmp_path, [truth], [scene(B, scores=[0.9])], Classes(("c\ud800t",)))
    assert "background" in found.text


@pytest.mark.parametrize(
    ("truths", "answers", "told"),
    [
        ([], [], "Nothing is labelled"),
        ([scene()], [scene(scores=[])], "Nothing is labelled"),
        ([scene()], [scene(A, scores=[0.9])], "Nothing is labelled"),
        ([scene(A)], [scene(scores=[])], "The model answers nothing at all. All 1 labelled"),
        ([scene(A)], [scene()], "The model answers nothing at all."),
        ([scene(A)], [scene(FAR, scores=[0.9])], "Almost nothing is right yet"),
        ([scene(A)], [scene(A, scores=[0.9])], "No kind of error costs"),
        ([scene(A, ignore=torch.tensor([True]))], [scene(A, scores=[1])], "Nothing is labelled"),
    ],
)
def test_empty_is_normal(
    truths: list[Scene], answers: list[Scene], told: str, tmp_path: Path
) -> None:
    for classes in (TWO, Classes(("cat",))):
        assert told in page(tmp_path, truths, answers, classes).text


def test_eighty_classes(tmp_path: Path) -> None:
    """Charts beyond the first dozen are folded away, and the table of confusions."""
    classes = Classes(tuple(f"class {label}" for label in range(80)))
    labels = torch.arange(80)
    boxes = torch.tensor([[0.0, 0, 40, 40]]).repeat(80, 1)
    truths = [Scene((100, 100), Instances(boxes, labels))]
    answers = [Scene((100, 100), Instances(boxes, labels, torch.full((80,), 0.9)))]
    found = page(tmp_path, truths, answers, classes)
    assert "69 more" in found.text
    assert "all 80 classes" in found.text
    assert (tmp_path / "page.html").stat().st_size < 5e6


def test_a_page_of_large_pictures_is_small(tmp_path: Path) -> None:
    """Noise, which compresses worst."""
    noise = torch.randint(0, 256, (3, 1500, 2000), dtype=torch.uint8)
    truths = [Scene((1500, 2000), scene(A, B).things, path=f"{n}.png") for n in range(12)]
    answers = [Scene((1500, 2000), scene(FAR, scores=[0.9]).things) for _ in range(12)]
    sightline.report(tmp_path / "page.html", truths, answers, TWO, lambda _: noise)
    assert (tmp_path / "page.html").stat().st_size < 5e6


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="is a folder: name a file"):
        sightline.report(tmp_path, [], [], TWO, grey)


def test_a_picture_that_cannot_be_read_leaves_no_half_page(tmp_path: Path) -> None:
    def unreadable(_: int) -> torch.Tensor:
        raise SightlineError("cannot read 0.png")

    with pytest.raises(SightlineError, match=r"cannot read 0\.png"):
        sightline.report(tmp_path / "p.html", [scene(A)], [scene(scores=[])], TWO, unreadable)
    assert list(tmp_path.iterdir()) == []
