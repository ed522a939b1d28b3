"""``sightline export``: a model as one file that runs without this library."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sightline.errors import SightlineError


def export(
    model: str,
    /,
    *photos: str,
    to: Literal["onnx", "openvino"] = "onnx",
    int8: Annotated[bool, Parameter(negative=())] = False,
    bf16: Annotated[bool, Parameter(negative=())] = False,
    data: Path | None = None,
    val: float = 0.2,
    val_seed: int = 0,
    out: Path | None = None,
) -> None:
    """Write a model as one file that runs without this library.

    The file has suppression inside, takes batches of any number and size, and names the classes,
    the preprocessing and the precision in its metadata. sightline predict and evaluate take it in
    place of a checkpoint. Before it gets its name, its answers on photos, in float32, are compared
    with the model's.

    Parameters
    ----------
    model
        The file or public name of a checkpoint.
    photos
        Photos, folders or globs to compare answers on, best of different sizes; with --int8, to
        see the ranges of values on (64 at most). Left out, some of those of --data.
    to
        onnx, or openvino (an .xml and a .bin file).
    int8
        Put the layers in 8-bit integers, and print the average precision that this costs.
    bf16
        Have OpenVINO calculate in bfloat16 where the processor can; without it, it uses float32.
    data
        A folder of labelled photos (formats: docs/data.md): --int8 sees ranges on its train and
        is measured on its val. Left out, that of the checkpoint's run, divided as there.
    val
        The share of --data that is val where the folder has no such split; as in training.
    val_seed
        Which photos that share is; as in training.
    out
        The file to write; left out, the checkpoint's name in the working folder, with -int8 or
        -bf16 where that is asked for, and .onnx or .xml.
    """
    from sightline.data.folder import open_dataset
    from sightline.export import SUFFIXES
    from sightline.export import export as write
    from sightline.files import check_target
    from sightline.runtime import Precision

    if int8 and bf16:
        raise SightlineError("--int8 and --bf16: choose one")
    precision: Precision = "int8" if int8 else "bf16" if bf16 else "f32"
    ending = "" if precision == "f32" else f"-{precision}"
    path = out or Path(f"{Path(model).stem}{ending}{SUFFIXES[to][0]}")
    check_target(path)
    splits = None if data is None else open_dataset(data, val, val_seed)
    agreement, cost = write(model, path, to, photos or None, precision=precision, data=splits)
    print(f"compared with the model: {agreement}")
    if cost is not None:
        print(f"in 8 bits: {cost}")
    print(f"written: {path} ({precision})")
