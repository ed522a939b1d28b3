"""What is done to files before ``benchmarks/bad_input.py`` has them read: by their suffix, to the
values of a JSON document, to the elements of an XML one, to the lines of a text, and to the bytes
of any. Every choice is ``rng``'s, so that a seed gives the same file again."""

import copy
import json
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

STRANGE: tuple[Any, ...] = (
    *(None, True, False, "", " ", "0", "12", "cat", [], {}, [[]], [None], {"a": 1}),
    *(-1, 0, 1, 255, 1 << 31, -(1 << 31), 1 << 63, 1 << 64, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, -1e308, math.nan, math.inf, -math.inf),
    *("\x00", "a\x00b", "\ud800", "☃" * 300, "../../etc/passwd", "/etc/passwd", "/", ".", "~"),
    *("x" * 5000, "a/b/c.png", "con", "\u202etxt.exe", "\n", "nan", "1e999", "9" * 5000),
)
_DEEP = 20_000  # levels of nesting: beyond what a parser recurses into


def mutate(path: Path, rng: random.Random) -> str:
    """Change a file in place, one to three times; gives what was done, for people."""
    by_suffix = {".json": json_values, ".xml": xml_elements}
    by_suffix |= dict.fromkeys((".jsonl", ".txt", ".yaml", ".yml", ".csv"), lines)
    own = by_suffix.get(path.suffix.lower(), file_bytes)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice((own, own, own, file_bytes))
        done.append(change(path, rng))
    return ", ".join(done)


def file_bytes(path: Path, rng: random.Random) -> str:
    """Truncated, flipped, cut out, doubled, encoded otherwise, emptied ..."""
    data = path.read_bytes()
    name = rng.choice(list(BYTES))
    path.write_bytes(BYTES[name](data, rng))
    return name


def _cut_out(data: bytes, rng: random.Random) -> bytes:
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[last:]


def _doubled(data: bytes, rng: random.Random) -> bytes:
    first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:last] + data[first:last] + data[last:]


def flipped(data: bytes, rng: random.Random, most: int = 8) -> bytes:
    """One to ``most`` bits, anywhere."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most) if data else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _inserted(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice((b"\x00", b"\xff\xfe", b"\x00" * 100, b"\x1a")) + data[place:]


def _encoded(encoding: str) -> Callable[[bytes, random.Random], bytes]:
    return lambda data, rng: data.decode("utf-8", "replace").encode(encoding, "replace")


BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": lambda data, rng: data[: rng.randrange(len(data) + 1)],
    "bits flipped": flipped,
    "cut out": _cut_out,
    "doubled": _doubled,
    "bytes inserted": _inserted,
    "BOM": lambda data, rng: rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) + data,
    "as UTF-16": _encoded("utf-16"),
    "as UTF-32": _encoded("utf-32"),
    "as Latin-1": _encoded("latin-1"),
    "empty": lambda data, rng: b"",
    "noise": lambda data, rng: rng.randbytes(rng.randrange(2000)),
}


def json_values(path: Path, rng: random.Random) -> str:
    """One value deleted, doubled, swapped, of another type, extreme or nested."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # an earlier change saw to that
        return file_bytes(path, rng)
    mutant, what = json_mutant(document, rng)
    text = json.dumps(mutant)  # NaN and Infinity as Python writes them
    path.write_text(text.replace(json.dumps(_MARK), _nested(rng)), encoding="utf-8")
    return what


_MARK = "here lies a deep value"


def _nested(rng: random.Random) -> str:
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    return opening * _DEEP + "1" + closing * _DEEP


def json_mutant(document: Any, rng: random.Random) -> tuple[Any, str]:
    """A changed copy, and what was done to which of its values."""
    document = copy.deepcopy(document)
    places = list(_places(document))
    if not places:
        return rng.choice(STRANGE), "replaced"
    # Lists of many like records would otherwise be nearly all that is ever changed.
    depth = rng.choice(sorted({len(keys) for _, _, keys in places}))
    holder, key, keys = rng.choice([place for place in places if len(place[2]) == depth])
    name = rng.choice(list(_VALUES))
    _VALUES[name](holder, key, rng, [place for place in places if place[2][-1] == key])
    return document, f"{'.'.join(map(str, keys))} {name}"


Place = tuple[Any, Any, tuple[Any, ...]]  # what holds a value, its key there, the keys from the top


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[Place]:
    if not isinstance(value, dict | list):
        return
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key, (*above, key)
        if isinstance(value[key], dict | list):
            yield from _places(value[key], (*above, key))


def _delete(holder: Any, key: Any, rng: random.Random, alike: list[Place]) -> None:
    del holder[key]


def _double(holder: Any, key: Any, rng: random.Random, alike: list[Place]) -> None:
    if isinstance(holder, list):
        holder.insert(rng.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
    else:
        holder[f"{key} "] = holder[key]


def _replace(holder: Any, key: Any, rng: random.Random, alike: list[Place]) -> None:
    holder[key] = rng.choice(STRANGE)


def _retype(holder: Any, key: Any, rng: random.Random, alike: list[Place]) -> None:
    value = holder[key]
    holder[key] = rng.choice(
        (str(value), [value], {"value": value}, {str(value)[:20]: 1}, [value] * 2)
    )


def _scale(holder: Any, key: Any, rng: random.Random, alike: list[Place]) -> None:
    """A number by a factor; in anything else, nothing."""
    value = holder[key]
    if isinstance(value, int | float) and abs(value) < 1e300:
        holder[key] = value * rng.choice((-1, 0.001, 0.5, 1.5, 2, 10, 1000, 1e9))


def _swap(holder: Any, key: Any, rng: random.Random, alike: list[Place]) -> None:
    """With another value of the same name: ids of two records, say."""
    other, name, _ = rng.choice(alike)
    holder[key], other[name] = other[name], holder[key]


def _bury(holder: Any, key: Any, rng: random.Random, alike: list[Place]) -> None:
    holder[key] = _MARK


_VALUES: dict[str, Callable[[Any, Any, random.Random, list[Place]], None]] = {
    "deleted": _delete,
    "doubled": _double,
    "replaced": _replace,
    "of another type": _retype,
    "scaled": _scale,
    "swapped": _swap,
    "nested deeply": _bury,
}


def xml_elements(path: Path, rng: random.Random) -> str:
    """One element deleted, doubled, renamed, moved, nested, or with another text; or an attribute
    of it deleted, renamed, exchanged or with another value."""
    try:
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    except (ValueError, ElementTree.ParseError):
        return file_bytes(path, rng)
    if "<a><a>" in path.read_text(encoding="utf-8"):  # too deep to be written again
        return file_bytes(path, rng)
    parents = {child: parent for parent in root.iter() for child in parent}
    if not parents or rng.random() < 0.1:
        return _xml_prologue(path, rng)
    child = rng.choice(list(parents))
    if child.attrib and rng.random() < 0.6:
        what = _attribute(child, [e for e in parents if e.tag == child.tag], rng)
        path.write_text(ElementTree.tostring(root, encoding="unicode"), encoding="utf-8")
        return f"{child.tag} {what}"
    parent = parents[child]
    what = rng.choice(("deleted", "doubled", "renamed", "moved", "nested deeply", *["text"] * 5))
    if what == "text":
        child.text = _printable(str(rng.choice(STRANGE)))
    elif what == "renamed":
        child.tag = rng.choice([element.tag for element in root.iter()])
    elif what == "doubled":
        parent.append(copy.deepcopy(child))
    else:
        parent.remove(child)
        if what == "moved":
            rng.choice([e for e in root.iter() if e not in set(child.iter())]).append(child)
    text = ElementTree.tostring(root, encoding="unicode")
    if what == "nested deeply":
        text = text.replace("</", "<a>" * _DEEP + "</a>" * _DEEP + "</", 1)
    path.write_text(text, encoding="utf-8")
    return f"{child.tag} {what}"


def _attribute(
    element: ElementTree.Element, alike: list[ElementTree.Element], rng: random.Random
) -> str:
    name = rng.choice(list(element.attrib))
    value = element.attrib.pop(name)
    what = rng.choice(("deleted", "renamed", "swapped", "scaled", *["value"] * 4))
    if what == "renamed":
        element.set(rng.choice([*element.attrib, f"{name}2"]), value)
    elif what == "swapped":
        element.set(name, rng.choice(alike).get(name, ""))
    elif what == "scaled":
        factor = rng.choice(("-", "0.", "1e3", "1e9", "9" * 30))
        element.set(name, re.sub(r"\d+", lambda number: f"{factor}{number[0]}", value, count=1))
    elif what == "value":
        element.set(name, _printable(str(rng.choice(STRANGE))))
    return f"{name} {what}"


def _printable(text: str) -> str:
    """What an XML may hold at all: other characters are the business of the bytes."""
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")


def _xml_prologue(path: Path, rng: random.Random) -> str:
    """Another encoding declared, entities within entities, entities from other files."""
    bomb = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 20))
    prologue = rng.choice(
        (
            '<?xml version="1.0" encoding="UTF-16"?>',
            '<?xml version="1.0" encoding="klingon"?>',
            '<?xml version="1.0" encoding="Shift_JIS"?>',
            f'<!DOCTYPE annotation [<!ENTITY e0 "name">{bomb}]>',
            '<!DOCTYPE annotation [<!ENTITY e0 SYSTEM "file:///etc/passwd">]>',
        )
    )
    text = path.read_text(encoding="utf-8").replace("<name>", "<name>&e19;&e0;", 1)
    path.write_text(prologue + text, encoding="utf-8")
    return "prologue"


def lines(path: Path, rng: random.Random) -> str:
    """A line or a word of one deleted, doubled, swapped or replaced; of JSON lines, a value."""
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
    except ValueError:
        return file_bytes(path, rng)
    if not rows:
        return file_bytes(path, rng)
    row = rng.randrange(len(rows))
    what = rng.choice(("deleted", "doubled", "swapped", "value", "value", "value"))
    if what == "deleted":
        del rows[row]
    elif what == "doubled":
        rows.insert(rng.randrange(len(rows)), rows[row])
    elif what == "swapped":
        other = rng.randrange(len(rows))
        rows[row], rows[other] = rows[other], rows[row]
    else:
        rows[row] = _other_line(rows[row], rng)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8", errors="replace")
    return f"line {row + 1} {what}"


def _other_line(row: str, rng: random.Random) -> str:
    try:
        return json.dumps(json_mutant(json.loads(row), rng)[0]).replace(
            json.dumps(_MARK), _nested(rng)
        )
    except (ValueError, RecursionError):
        words = row.split(" ")
        words[rng.randrange(len(words))] = str(rng.choice(STRANGE))
        return " ".join(words)
