"""The valid files that ``benchmarks/bad_input.py`` spoils: tiny data sets in every format, pictures
of every kind, checkpoints, exported files, runs. Written once; each case spoils a copy.

A format of annotations is one entry of ``FORMATS``: a function that writes a small, valid data set.
"""

import base64
import io
import json
import os
import pickle
import random
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sightline import weights
from sightline.data.coco import write_coco
from sightline.data.toybox import toybox_splits
from sightline.data.toybox.folder import write_toybox
from sightline.models import create
from sightline.ops.masks import encode
from sightline.recipes.recipe import Settings
from sightline.types import Classes
from tests import tiny

CLASSES = ["cat", "dog"]
Seeds = dict[str, Callable[[Path], None]]


def _photo(path: Path, height: int = 40, width: int = 60, mode: str = "RGB", **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(height * width).integers(
        0, 256, (height // 4 + 1, width // 4 + 1, 3)
    )
    picture = Image.fromarray(noise.astype(np.uint8)).resize((width, height))
    picture.convert(mode).save(path, **how)
    return path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def coco_dataset(root: Path) -> None:
    """Polygons, a crowd in either form of RLE, keypoints, a picture without things, captions, two
    splits."""
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[:, 10:20, 5:30] = True
    (crowd,) = encode(mask)
    runs = {"size": [40, 60], "counts": [210, 10] + [30, 10] * 24 + [2400 - 220 - 24 * 40]}
    points = [5, 6, 2, 7, 8, 1, 0, 0, 0]
    shapes: list[Any] = [
        {"segmentation": [[4, 6, 14, 6, 14, 26, 4, 26], [20, 20, 30, 20, 25, 30]]},
        {"segmentation": {"size": [40, 60], "counts": crowd["counts"].decode()}, "iscrowd": 1},
        {"segmentation": runs, "iscrowd": 1},
        {"keypoints": points, "num_keypoints": 2},
    ]
    marks = {"keypoints": ["nose", "left_ear", "right_ear"], "skeleton": [[1, 2], [1, 3]]}
    categories = [{"id": 7, "name": "cat", "supercategory": "pet"}, {"id": 3, "name": "dog"}]
    for split in ("train", "val"):
        names = [f"{split} {number}.png" for number in range(3)]
        images = [
            {"id": 10 * i, "file_name": name, "height": 40, "width": 60}
            for i, name in enumerate(names)
        ]
        things = [
            {"id": i + 1, "image_id": 10 * (i % 2), "category_id": (7, 3)[i % 2], "area": 150.0}
            | {"bbox": [4, 6, 10, 20]}
            | shape
            for i, shape in enumerate(shapes)
        ]
        known = [category | marks for category in categories]
        document = {"images": images, "annotations": things, "categories": known}
        _write(root / "annotations" / f"instances_{split}.json", json.dumps(document))
        said = [{"id": i, "image_id": 10 * (i % 2), "caption": "a cat"} for i in range(3)]
        spoken = {"images": images, "annotations": said}
        _write(root / "annotations" / f"captions_{split}.json", json.dumps(spoken))
        for name in names:
            _photo(root / split / name)


def voc_dataset(root: Path) -> None:
    box = "<xmin>5</xmin><ymin>7</ymin><xmax>14</xmax><ymax>26</ymax>"
    for number in range(4):
        things = "".join(
            f"<object><name>{name}</name><pose>left</pose><difficult>{i}</difficult>"
            f"<truncated>0</truncated><bndbox>{box}</bndbox></object>"
            for i, name in enumerate(CLASSES[: number + 1])
        )
        size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
        head = f"<folder>VOC</folder><filename>{number}.jpg</filename>{size}"
        _write(root / "Annotations" / f"{number}.xml", f"<annotation>{head}{things}</annotation>")
        _photo(root / "JPEGImages" / f"{number}.jpg")
    _write(root / "ImageSets" / "Main" / "train.txt", "0\n1\n2\n")
    _write(root / "ImageSets" / "Main" / "val.txt", "3 -1\n")


def toybox_dataset(root: Path) -> None:
    """Without what no reader looks at."""
    write_toybox(toybox_splits(3, 2, size=(48, 64)), root)
    for path in (root / "toybox.txt", *root.glob("annotations/scenes_*.jsonl")):
        path.unlink()


def real_coco(root: Path) -> None:
    """Three photos of each split, with a person's keypoints where the train file has them."""
    for split in ("train", "val"):
        source = Path(os.environ["SIGHTLINE_DATA"]) / "coco"
        document = json.loads((source / f"annotations/instances_{split}.json").read_text())
        images = random.Random(0).sample(document["images"], 3)
        kept = {image["id"] for image in images}
        things = [thing for thing in document["annotations"] if thing["image_id"] in kept]
        document |= {"images": images, "annotations": things}
        _write(root / "annotations" / f"instances_{split}.json", json.dumps(document))
        for image in images:
            (root / split).mkdir(exist_ok=True)
            shutil.copy(source / split / image["file_name"], root / split)


def real_voc(root: Path) -> None:
    source = Path(os.environ["SIGHTLINE_DATA"]) / "det_bccd"
    for folder, suffix in (("Annotations", ".xml"), ("JPEGImages", ".jpg")):
        (root / folder).mkdir(parents=True)
        for xml in sorted((source / "Annotations").glob("*.xml"))[:4]:
            shutil.copy(source / folder / f"{xml.stem}{suffix}", root / folder)


def yolo_dataset(root: Path) -> None:
    """Boxes in one set; polygons would be another, and read by the same lines."""
    lines = ["0 0.25 0.4 0.2 0.5", "1 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6"]
    for split, number in (("train", 0), ("train", 1), ("val", 2)):
        _photo(root / "images" / split / f"{number}.jpg")
        _write(root / "labels" / split / f"{number}.txt", "\n".join(lines[: number + 1]) + "\n")
    _write(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n")


def yolo_keypoints(root: Path) -> None:
    for split, number in (("train", 0), ("train", 1), ("val", 2)):
        _photo(root / split / "images" / f"{number}.jpg")
        line = "0 0.25 0.4 0.2 0.5 0.2 0.3 2 0.3 0.4 1 0 0 0\n"
        _write(root / split / "labels" / f"{number}.txt", line * (number + 1))
    described = "kpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nnames: {0: cat}\nnc: 1\n"
    _write(root / "data.yaml", f"train: train/images\nval: [val/images]\n{described}")


def yolo_names(root: Path) -> None:
    """Names in a text, splits in lists of pictures."""
    _write(root / "classes.txt", "cat\ndog\n")
    for number in range(4):
        _photo(root / "images" / f"{number}.jpg")
        _write(root / "labels" / f"{number}.txt", "0 0.25 0.4 0.2 0.5\n1 0.5 0.5 0.3 0.3\n")
    _write(root / "train.txt", "".join(f"images/{number}.jpg\n" for number in range(3)))
    _write(root / "val.txt", "./images/3.jpg\n")


def labelme_dataset(root: Path) -> None:
    held = io.BytesIO()
    Image.fromarray(np.eye(6, 9, dtype=np.uint8) * 255).save(held, "PNG")
    mask = base64.b64encode(held.getvalue()).decode()
    shapes = [
        {"label": "cat", "shape_type": "rectangle", "points": [[4, 6], [14, 26]]},
        {"label": "dog", "shape_type": "polygon", "points": [[20, 20], [30, 20], [25, 30]]},
        {"label": "dog", "shape_type": "circle", "points": [[40, 20], [44, 20]], "group_id": 1},
        {"label": "cat", "shape_type": "mask", "points": [[30, 5], [39, 11]], "mask": mask},
        {"label": "cat", "shape_type": "line", "points": [[0, 0], [9, 9]]},
    ]
    for number in range(3):
        _photo(root / f"{number}.jpg")
        document: dict[str, Any] = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes[: 2 * number + 1],
        }
        document |= {"imagePath": f"{number}.jpg", "imageHeight": 40, "imageWidth": 60}
        _write(root / f"{number}.json", json.dumps(document))


def cvat_dataset(root: Path) -> None:
    shapes = (
        '<box label="cat" occluded="0" xtl="4" ytl="6" xbr="14" ybr="26" rotation="10"></box>'
        '<polygon label="dog" occluded="1" points="20,20;30,20;25,30" group_id="1"></polygon>'
        '<mask label="dog" occluded="0" rle="0, 4, 1, 4" left="50" top="30" width="3" height="3">'
        "</mask>"
        '<ellipse label="cat" occluded="0" cx="30" cy="10" rx="8" ry="4" rotation="30">'
        '<attribute name="is_crowd">true</attribute></ellipse>'
        '<points label="dog" points="3,4"></points>'
    )
    labels = "".join(f"<label><name>{name}</name></label>" for name in CLASSES)
    images = "".join(
        f'<image id="{n}" name="{n}.jpg" subset="{s}" width="60" height="40">{shapes}</image>'
        for n, s in enumerate(("train", "train", "val"))
    )
    for number in range(3):
        _photo(root / "images" / f"{number}.jpg")
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    _write(
        root / "annotations.xml",
        f"<annotations><version>1.1</version>{meta}{images}</annotations>",
    )


def labelstudio_dataset(root: Path) -> None:
    size = {"original_width": 60, "original_height": 40, "image_rotation": 0}
    box = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 5, "rectanglelabels": ["cat"]}
    outline = {"points": [[10, 25], [60, 25], [10, 75]], "polygonlabels": ["dog"]}
    oval = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "ellipselabels": ["cat"]}
    stroke = {"format": "rle", "rle": _brush(40 * 60), "brushlabels": ["dog"]}
    kinds = {"rectangle": box, "polygon": outline, "ellipse": oval, "brush": stroke}
    results = [size | {"type": f"{kind}labels", "value": value} for kind, value in kinds.items()]
    tasks = [
        {
            "id": n,
            "data": {"image": f"/data/upload/1/{n}.jpg"},
            "annotations": [{"result": results}],
        }
        for n in range(3)
    ]
    for number in range(3):
        _photo(root / "images" / f"{number}.jpg")
    _write(root / "export.json", json.dumps(tasks))


def _brush(pixels: int) -> list[int]:
    """The upper half of them covered, in two runs: see ``brush`` in ``labelstudio.py``."""
    half = 2 * pixels
    runs = "".join(f"100{half - 1:016b}{value:08b}" for value in (255, 0))
    bits = f"{2 * half:032b}{7:05b}{15:04b}{0:012b}{runs}"
    return [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]


def jsonlines_dataset(root: Path) -> None:
    """Boxes, polygons, an RLE, keypoints, label maps."""
    rle = {"size": [40, 60], "counts": [210, 10, 30, 10, 2140]}
    things: list[dict[str, Any]] = [
        {"bbox": [4, 6, 14, 26], "bbox_mode": 0, "category_id": 0, "iscrowd": 0}
        | {"keypoints": [5, 6, 2, 7, 8, 1]},
        {"bbox": [5, 6, 7, 16], "bbox_mode": 0, "category_id": 1, "segmentation": rle},
        {"bbox": [20, 20, 10, 10], "bbox_mode": 1, "category_id": 1}
        | {"segmentation": [[20, 20, 30, 20, 25, 30]]},
    ]
    for split in ("train", "val"):
        lines = []
        for number in range(2):
            _photo(root / "images" / f"{split}{number}.jpg")
            (root / "masks").mkdir(exist_ok=True)
            (root / "masks" / f"{split}{number}.png").write_bytes(_label_map())
            record = {"file_name": f"{split}{number}.jpg", "height": 40, "width": 60}
            record["sem_seg_file_name"] = f"masks/{split}{number}.png"
            lines.append(
                json.dumps(record | {"image_id": f"{split}{number}", "annotations": things})
            )
        _write(root / f"{split}.jsonl", "\n".join(lines))
    names = {"thing_classes": CLASSES, "stuff_classes": ["sky", "grass"]}
    _write(root / "metadata.json", json.dumps(names | {"keypoint_names": ["nose", "tail"]}))


def _label_map() -> bytes:
    """A PNG of 8 bits: values 0 and 1, and 255 in a corner."""
    values = np.zeros((40, 60), np.uint8)
    values[20:], values[:4, :4] = 1, 255
    held = io.BytesIO()
    Image.fromarray(values).save(held, "PNG")
    return held.getvalue()


def labels_dataset(root: Path) -> None:
    """What each pixel is, 8 bits."""
    for split, number in (("train", 0), ("train", 1), ("val", 2)):
        _photo(root / split / "images" / f"{number}.jpg")
        (root / split / "masks").mkdir(exist_ok=True)
        (root / split / "masks" / f"{number}.png").write_bytes(_label_map())
    _write(root / "classes.txt", "sky\ngrass\n")


def numbered_dataset(root: Path) -> None:
    """Things by their number, 16 bits."""
    numbers = np.zeros((40, 60), np.uint16)
    numbers[6:26, 4:14], numbers[10:20, 30:50], numbers[12:15, 35:40] = 1, 700, 0
    for number in range(3):
        _photo(root / "images" / f"{number}.jpg")
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(numbers).save(root / "masks" / f"{number}.png")


FORMATS: Seeds = {
    "coco": coco_dataset,
    "voc": voc_dataset,
    "toybox": toybox_dataset,
    "yolo": yolo_dataset,
    "yolo_keypoints": yolo_keypoints,
    "yolo_names": yolo_names,
    "labelme": labelme_dataset,
    "cvat": cvat_dataset,
    "labelstudio": labelstudio_dataset,
    "jsonlines": jsonlines_dataset,
    "numbered": numbered_dataset,
    "labels": labels_dataset,
}
REAL: Seeds = {"real_coco": real_coco, "real_voc": real_voc}


def images(root: Path) -> None:
    """Every format and mode, and what is odd without being damaged."""
    _photo(root / "rgb.jpg")
    _photo(root / "grey.jpg", mode="L")
    _photo(root / "cmyk.jpg", mode="CMYK")
    _photo(root / "progressive.jpg", progressive=True)
    _photo(root / "palette.png", mode="P")
    _photo(root / "bits.png", mode="1")
    _photo(root / "alpha.png", mode="RGBA")
    Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27).save(root / "16.png")
    Image.fromarray(np.arange(2400, dtype=np.float32).reshape(40, 60)).save(root / "float.tiff")
    for name in ("a.bmp", "a.gif", "a.webp", "a.tiff", "a.ppm", "a.avif"):
        _photo(root / name)
    _photo(root / "packed.tiff", compression="tiff_lzw")
    frames = [Image.new("P", (60, 40), colour) for colour in range(5)]
    frames[0].save(root / "moving.gif", save_all=True, append_images=frames[1:], duration=40)
    frames[0].save(root / "moving.png", save_all=True, append_images=frames[1:])
    _photo(root / "one.png", 1, 1)
    _photo(root / "wide.jpg", 3, 20_000)
    _photo(root / "high.png", 20_000, 2)
    exif = Image.Exif()
    exif[274], exif[271] = 6, "maker" * 50
    _photo(root / "turned.jpg", exif=exif)
    exif[274] = 77
    _photo(root / "exif.png", exif=exif)
    bomb(root / "bomb.png")


def bomb(path: Path, side: int = 30_000) -> None:
    """A grey PNG of one bit a pixel: a hundred kilobytes that decode to gigabytes."""
    squeezing = zlib.compressobj()
    row = bytes(1 + side // 8)
    data = b"".join(squeezing.compress(row * 1000) for _ in range(side // 1000))
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", data + squeezing.flush()), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def checkpoints(root: Path) -> None:
    """A detector of ours and the same with other classes, half precision or strange tensors, a
    state of training, torchvision's form, pickles, an exported file."""
    root.mkdir(parents=True)
    torch.manual_seed(0)
    options: dict[str, Any] = {"backbone": "test_resnet", "channels": 16, "hidden": 16}
    options |= {"short": 48, "long": 96, "candidates": 50, "proposals": 20}
    for name, classes in (("model", CLASSES), ("three", [*CLASSES, "owl"])):
        model = create("faster_rcnn", classes, **options)
        torch.nn.init.normal_(model.box_head.class_score.weight, std=0.5)
        weights.save(model, root / f"{name}.safetensors")
    weights.save(tiny.build(Classes(tuple(CLASSES))), root / "tiny.safetensors")
    tensors = load_file(root / "model.safetensors")
    save_file(tensors, root / "plain.safetensors")
    torch.save(tensors, root / "plain.pth")
    torch.save({"model": torchvision_like()}, root / "torchvision.pth")
    torch.save(torchvision_like(), root / "old.pth", _use_new_zipfile_serialization=False)
    (root / "numbers.pkl").write_bytes(pickle.dumps({"model": {"a": np.zeros(3)}}))


def torchvision_like() -> dict[str, torch.Tensor]:
    """Some tensors under the names of torchvision's Faster R-CNN, small ones."""
    names = {
        "backbone.body.conv1.weight": (4, 3, 7, 7),
        "backbone.body.bn1.weight": (4,),
        "backbone.body.bn1.running_mean": (4,),
        "backbone.body.bn1.running_var": (4,),
        "backbone.fpn.inner_blocks.0.weight": (4, 4, 1, 1),
        "rpn.head.conv.weight": (4, 4, 3, 3),
        "roi_heads.box_head.fc6.weight": (4, 49 * 4),
        "roi_heads.box_predictor.cls_score.weight": (3, 4),
        "roi_heads.box_predictor.cls_score.bias": (3,),
        "roi_heads.box_predictor.bbox_pred.weight": (12, 4),
        "roi_heads.box_predictor.bbox_pred.bias": (12,),
    }
    return {name: torch.ones(shape) for name, shape in names.items()}


def export(root: Path) -> None:
    from sightline.export import export as write

    folder = root / "checkpoints"
    write(folder / "model.safetensors", folder / "model.onnx", photos=root / "images" / "rgb.jpg")


def run(root: Path) -> None:
    """A run after the first of its two passes."""
    from benchmarks import bad_runs

    splits = tiny.squares(train=6, val=2)
    write_coco(splits.train, root / "squares", "train")
    write_coco(splits.val, root / "squares", "val")
    loop = import_module("sightline.train")  # the attribute of that name is the function
    settings = Settings(out=root / "run", workers=0, device="cpu", save_every=1, log_every=1)
    recipe = bad_runs.tiny(root / "squares", settings=settings)
    recipe.folder.mkdir()
    device, journal = torch.device("cpu"), loop.Journal(recipe.folder / loop.LOG)
    made = {"recipe": recipe.to_json(), "machine": loop.machine(device)}
    loop.write_json(recipe.folder / loop.RUN, made)
    begun = loop.begin(recipe, device, loop.Progress(), journal)
    loop.train_pass(begun, loop.StopRequest())
    loop.finish_pass(begun, loop.StopRequest())


def everything(root: Path) -> None:
    real = REAL if "SIGHTLINE_DATA" in os.environ else {}
    for name, write in {**FORMATS, **real}.items():
        write(root / "annotations" / name)
    images(root / "images")
    checkpoints(root / "checkpoints")


if __name__ == "__main__":
    # What exports and what trains has threads: processes of their own, so that none forks.
    {"all": everything, "export": export, "run": run}[sys.argv[2]](Path(sys.argv[1]))
