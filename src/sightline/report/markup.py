"""HTML built of tags, in which text is always escaped."""

import html
from collections.abc import Iterable

_EMPTY = frozenset({"meta", "rect", "line", "circle", "polyline", "image", "use"})


class Markup(str):
    """Text that is HTML already; all other text is escaped where it meets a tag."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: object) -> Markup:
    """An element, such as ``tag("p", "1 < 2", class_="note")``; an underscore in the name of an
    attribute is a hyphen, one at its end is dropped; attributes that are None are left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not children:
        return Markup(f"<{name}{given}/>")
    return Markup(f"<{name}{given}>{join(children)}</{name}>")


def join(parts: Iterable[str], between: str = "") -> Markup:
    """One after another, what is not HTML escaped."""
    escaped = (part if isinstance(part, Markup) else html.escape(part) for part in parts)
    return Markup(html.escape(between).join(escaped))
