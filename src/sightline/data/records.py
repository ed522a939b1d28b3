"""Looking into the records of an annotation file, where anything may stand."""

import math
from typing import Any

from sightline.errors import SightlineError


class RecordError(SightlineError):
    """What is wrong with one record, of a kind that the doctor counts. ``here`` is what it says of
    this record, where the message speaks of the whole file."""

    def __init__(self, kind: str, message: str, here: str = "") -> None:
        super().__init__(message)
        self.kind, self.here = kind, here or message


LARGEST = 1 << 24  # pixels on a side: beyond, it is a slip and not a picture


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
    """A list of finite numbers.

    Raises:
        SightlineError: it is anything else.
    """
    if not isinstance(values, list):
        raise SightlineError(f'{where} has a "{key}" that is no list')
    try:
        converted = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise SightlineError(f'{where} has a "{key}" that is no list of numbers') from error
    if not all(map(math.isfinite, converted)):
        raise SightlineError(f'{where} has a "{key}" that is not finite')
    return converted
