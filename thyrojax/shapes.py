"""jaxtyping's shape annotations where it is installed, inert stand-ins where it is not.

A machine that only times the training step has jax, flax, optax and numpy; the tests have jaxtyping
and check every annotated call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Num, PyTree, UInt8
else:
    try:
        from jaxtyping import Bool, Float, Int, Num, UInt8
    except ModuleNotFoundError:

        class _Unchecked:
            def __class_getitem__(cls, item: Any) -> Any:
                return Any

        Bool = Float = Int = Num = UInt8 = _Unchecked

    def __getattr__(name: str) -> Any:
        # jaxtyping imports jax for these two; modules of NumPy arrays alone must not.
        if name not in ("Array", "PyTree"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            import jaxtyping
        except ModuleNotFoundError:
            return Any
        return getattr(jaxtyping, name)


__all__ = ["Array", "Bool", "Float", "Int", "Num", "PyTree", "UInt8"]
