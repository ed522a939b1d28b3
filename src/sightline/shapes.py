"""The jaxtyping names our signatures carry, harmless where jaxtyping is not installed.

Shapes are checked in the tests only (``pytest --jaxtyping-packages``); a machine that merely trains
need not have the checker.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, Shaped, UInt8
    except ImportError:

        class _Unchecked:
            """``Float[Tensor, "N 4"]`` is then just ``Tensor``."""

            def __getitem__(self, array_and_shape: tuple[Any, str]) -> Any:
                return array_and_shape[0]

        Bool = Float = Int = Shaped = UInt8 = _Unchecked()

__all__ = ["Bool", "Float", "Int", "Shaped", "UInt8"]
