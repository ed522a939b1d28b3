"""Looking into the records of an annotation file, where anything may stand."""

import json
from pathlib import Path
from typing import Any

from sightline.errors import SightlineError

LARGEST = 1 << 24  # pixels on a side: beyond, it is a slip and not a picture
_BEYOND = 1e30  # of single precision, in which data sets are packed, before it becomes infinite


def read_json(path: Path) -> Any:
    """The document in a file; a BOM is no matter.

    Raises:
        SightlineError: the file cannot be read, or is no JSON in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SightlineError(f"{path}, {where}: broken JSON ({error.msg})") from error
    except UnicodeDecodeError as error:
        raise SightlineError(f"{path}: broken JSON (not a text in UTF-8)") from error
    except RecursionError as error:
        raise SightlineError(f"{path}: broken JSON (nested too deeply)") from error
    except ValueError as error:
        raise SightlineError(f"{path}: broken JSON (a number of too many digits)") from error
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror}") from error


def field(record: dict[str, Any], key: str, kind: type[Any], where: str) -> Any:
    """The value under a key, which must be of this kind; 3.0 passes for the integer 3.

    Raises:
        SightlineError: it is absent or of another kind; the line begins with ``where``.
    """
    value = record.get(key)
    if kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise SightlineError(f'{where} has no proper "{key}": {str(value)[:40]}')
    return value


def numbers(values: Any, where: str, key: str) -> list[float]:
    """A list of numbers, finite in single precision.

    Raises:
        SightlineError: it is anything else.
    """
    if not isinstance(values, list):
        raise SightlineError(f'{where} has a "{key}" that is no list')
    try:
        converted = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise SightlineError(f'{where} has a "{key}" that is no list of numbers') from error
    if not all(abs(value) < _BEYOND for value in converted):  # NaN is not
        raise SightlineError(f'{where} has a "{key}" that is not finite, or beyond all bounds')
    return converted
