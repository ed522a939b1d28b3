"""``sightline export``: a model as one file that runs without this library."""

from pathlib import Path
from typing import Literal

from sightline.errors import SightlineError


def export(
    model: str,
    /,
    *photos: str,
    to: Literal["onnx", "openvino"] = "onnx",
    out: Path | None = None,
) -> None:
    """Write a model as one file that runs without this library.

    The file has suppression inside, takes batches of any number and size, and names the classes
    and the preprocessing in its metadata. sightline predict and evaluate take it in place of a
    checkpoint. Before it gets its name, its answers on photos are compared with the model's.

    Parameters
    ----------
    model
        The file or public name of a checkpoint.
    photos
        Photos, folders or globs to compare answers on, best of different sizes; left out, a few of
        those that the checkpoint's run was measured on.
    to
        onnx, or openvino (an .xml and a .bin file; float32).
    out
        The file to write; left out, the checkpoint's name with .onnx or .xml in the working folder.
    """
    from sightline.export import SUFFIX
    from sightline.export import export as write
    from sightline.files import check_target

    path = out or Path(Path(model).stem).with_suffix(SUFFIX[to])
    if path.suffix != SUFFIX[to]:
        raise SightlineError(f"--out {path}: the file of {to} ends in {SUFFIX[to]}")
    check_target(path)
    agreement = write(model, path, to, photos or None)
    print(f"compared with the model: {agreement}")
    print(f"written: {path}")
