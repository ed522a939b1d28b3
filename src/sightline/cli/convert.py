"""``sightline convert``: a data set in another format."""

from pathlib import Path
from typing import Literal


def convert(source: Path, out: Path, /, *, to: Literal["coco", "yolo", "voc"]) -> None:
    """Write labelled photos in another format: COCO, YOLO or Pascal VOC.

    All splits are written, the photos copied. A warning tells, for each kind of thing that the
    format cannot hold, how many were lost.

    Parameters
    ----------
    source
        A folder of labelled photos, in any format that is read, or one annotation file.
    out
        A new or empty folder. After a mistake it is not there.
    to
        coco (JSON), yolo (text files and data.yaml) or voc (XML).
    """
    from sightline.data.convert import convert as convert_dataset

    written = convert_dataset(source, out, to)
    print(f"{out}: " + ", ".join(f"{count} pictures in {name}" for name, count in written.items()))
