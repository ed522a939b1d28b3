"""Looking into the records of an annotation file, where anything may stand."""

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, parse

from sightline.errors import SightlineError


class RecordError(SightlineError):
    """What is wrong with one record, of a kind that the doctor counts. ``here`` is what it says of
    this record, where the message speaks of the whole file."""

    def __init__(self, kind: str, message: str, here: str = "") -> None:
        super().__init__(message)
        self.kind, self.here = kind, here or message


IGNORED = ("is_crowd", "iscrowd", "crowd", "difficult", "ignore")  # names of a user's own flags
LARGEST = 1 << 24  # pixels on a side: beyond, it is a slip and not a picture
_BEYOND = 1e30  # of single precision, in which data sets are packed, before it becomes infinite


def load_json(path: Path) -> Any:
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


def load_xml(path: Path) -> Element:
    """The root of an XML file.

    Raises:
        SightlineError: it cannot be read, or is no XML; the line says where.
    """
    try:
        return parse(path).getroot()
    except ParseError as error:
        line, column = error.position
        where = f"line {line}, column {column + 1}"
        raise SightlineError(f"{path}, {where}: broken XML ({error})") from error
    except (ValueError, LookupError) as error:
        raise SightlineError(
            f"{path}: its encoding cannot be read ({error}); save it as UTF-8"
        ) from error
    except OSError as error:
        raise SightlineError(f"cannot read {path}: {error.strerror}") from error


def size_of(height: Any, width: Any, where: str) -> tuple[int, int] | None:
    """A picture's height and width as annotated; None where one is not told.

    Raises:
        SightlineError: they are no size of a picture.
    """
    if height is None or width is None:
        return None
    record = {"height": height, "width": width}
    size = field(record, "height", int, where), field(record, "width", int, where)
    if min(size) < 1:
        raise SightlineError(f"{where} has width {size[1]} and height {size[0]}")
    if max(size) > LARGEST:
        raise SightlineError(f"{where} has a width or height beyond any picture's")
    return size


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


def told_id(record: dict[str, Any], key: str) -> int | str | None:
    """A number as it is, anything else as a word; None where it is not told."""
    value = record.get(key)
    return value if value is None or isinstance(value, int) else str(value)


def flag(record: dict[str, Any], key: str, where: str) -> bool:
    """Whether it is set; left out, it is not.

    Raises:
        SightlineError: it is neither 0 nor 1.
    """
    value = record.get(key)
    if value not in (None, 0, 1):  # True is 1; but "0" is a word, and would count as yes
        raise SightlineError(f'{where} has an "{key}" that is neither 0 nor 1: {value!r:.40}')
    return bool(value)


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


def whole_numbers(values: Any, where: str, key: str) -> list[int]:
    """Likewise a list of whole numbers; 3.0 passes for 3."""
    found = numbers(values, where, key)
    if not all(value.is_integer() for value in found):
        raise SightlineError(f'{where} has a "{key}" that is no list of whole numbers')
    return list(map(int, found))
