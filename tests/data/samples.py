"""Little data sets, written by the tests that read them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sightline.types import Classes, Instances, Scene


def gradient(height: int, width: int) -> np.ndarray:
    """A smooth picture whose four corners differ, so that any turn of it shows."""
    down = np.linspace(0, 255, height)[:, None]
    across = np.linspace(0, 255, width)[None, :]
    channels = [down + 0 * across, across + 0 * down, (down + across) / 2]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def write_picture(path: Path, height: int = 40, width: int = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gradient(height, width)).save(path)
    return path


def coco_document(count: int = 3, **changes: Any) -> dict[str, Any]:
    """``count`` pictures of 60 x 40, each with a cat of 10 x 20 at (4, 6); ids have gaps."""
    images = [
        {"id": 10 * i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in range(count)
    ]
    things = [
        {"id": i, "image_id": 10 * i, "category_id": 7, "bbox": [4, 6, 10, 20], "area": 150}
        for i in range(count)
    ]
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    return {"images": images, "annotations": things, "categories": categories} | changes


def write_json(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_coco_folder(root: Path, document: Mapping[str, Any], name: str = "train") -> Path:
    """``document`` as ``annotations/name.json``, with its pictures in a folder of that name."""
    write_json(root / "annotations" / f"{name}.json", document)
    for image in document["images"]:
        write_picture(root / name / image["file_name"])
    return root


def voc_xml(
    things: Sequence[tuple[str, tuple[Any, ...]]], filename: str = "", tags: str = ""
) -> str:
    """An XML of a picture of 60 x 40; ``tags`` is put into every object."""
    objects = "".join(
        f"<object><name>{name}</name>{tags}<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box in things
    )
    size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{size}{objects}</annotation>"


def write_voc_folder(root: Path, xmls: Mapping[str, str]) -> Path:
    """An XML and a JPEG for each stem."""
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    for stem, xml in xmls.items():
        (root / "Annotations" / f"{stem}.xml").write_text(xml)
        write_picture(root / "JPEGImages" / f"{stem}.jpg")
    return root


TWO = Classes(("a", "b"))


class InMemory:
    """A data set of given scenes; picture i is all of the value i."""

    def __init__(self, scenes: Sequence[Scene], classes: Classes = TWO) -> None:
        self.scenes, self.classes = list(scenes), classes

    def __len__(self) -> int:
        return len(self.scenes)

    def size(self, index: int) -> tuple[int, int]:
        return self.scenes[index].size

    def scene(self, index: int) -> Scene:
        return self.scenes[index]

    def picture(self, index: int) -> Tensor:
        return torch.full((3, *self.size(index)), index % 256, dtype=torch.uint8)


def boxes_scene(size: tuple[int, int], *boxes: Sequence[float], **fields: Any) -> Scene:
    """A scene of these boxes, all of class 0."""
    rows = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    labels = torch.zeros(len(rows), dtype=torch.long)
    return Scene(size, Instances(rows, labels, **fields))
