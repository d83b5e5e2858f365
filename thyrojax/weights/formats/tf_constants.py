"""The constants of a TensorFlow graph, and arithmetic on them.

Arithmetic on vectors of constants becomes a formula, a constant that is worked out when it is asked
for. BatchNorm, as one operator or as its arithmetic, then is a product and a sum with such
constants, whose formulas say which vectors of the file are its variance, mean, scale and offset.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from thyrojax.weights.operators import Step
from thyrojax.weights.state_dict import FLOATS, Tensor

MAX_VECTOR = 4096  # the widest layer of Inception-v3 has 448 channels
MAX_DEPTH = 6  # formulas within formulas; a BatchNorm takes five

_ARITHMETIC = {
    "Add": np.add,
    "AddV2": np.add,
    "Div": np.divide,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Sub": np.subtract,
}
_ALONE = {"Neg": np.negative, "Rsqrt": lambda x: 1 / np.sqrt(x), "Sqrt": np.sqrt}
FORMULAS = (*_ARITHMETIC, *_ALONE)
_SUMS = ("Add", "AddV2")


class Formula(NamedTuple):
    """Arithmetic on constants that gives so many values; `depth` of formulas within it."""

    kind: str
    operands: tuple[str, ...]
    length: int
    depth: int


class BatchNorm(NamedTuple):
    """The constants of a BatchNorm; a scale that is not there is one."""

    mean: str
    variance: str
    scale: str | None
    offset: str
    epsilon: str


@dataclass(eq=False)
class Constants:
    """Constants of a graph by key: those of the file, formulas on them, and numbers of settings.

    Attributes:
      used: the keys of the file whose values were asked for.
    """

    stored: dict[str, Tensor] = field(default_factory=dict)
    formulas: dict[str, Formula] = field(default_factory=dict)
    numbers: dict[str, np.float32] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)

    def has(self, key: str) -> bool:
        return key in self.stored or key in self.formulas or key in self.numbers

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return (
            {key: tensor.shape for key, tensor in self.stored.items()}
            | {key: (formula.length,) for key, formula in self.formulas.items()}
            | dict.fromkeys(self.numbers, ())
        )

    def values(self, key: str) -> np.ndarray:
        """A constant as float32. Its shape is the caller's to check before.

        Raises:
          ValueError: of another type, or damaged.
        """
        if key in self.numbers:
            return np.asarray(self.numbers[key])
        if formula := self.formulas.get(key):
            work_out: Any = _ARITHMETIC.get(formula.kind) or _ALONE[formula.kind]
            operands = [self.values(operand).reshape(-1) for operand in formula.operands]
            with np.errstate(all="ignore"):  # what is not finite is found in the arrays
                return np.asarray(work_out(*operands), np.float32)
        self.used[key] = None
        tensor = self.stored[key]
        try:
            if tensor.dtype not in FLOATS:
                raise ValueError(f"found values of type {tensor.dtype}, expected floats")
            with np.errstate(all="ignore"):  # as above
                return np.array(tensor.read(), np.float32)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None

    def length(self, key: str) -> int:
        """How many values a vector of floats has, one for each channel, that may stand in a
        formula: 1 for a single number, 0 for anything else."""
        if formula := self.formulas.get(key):
            return formula.length
        tensor = self.stored.get(key)
        if tensor is None:
            return int(key in self.numbers)
        length = math.prod(tensor.shape)
        flat = tensor.dtype in FLOATS and tensor.shape[-1:] in ((), (length,))
        return length if flat and length <= MAX_VECTOR else 0

    def add_formula(self, key: str, kind: str, *operands: str) -> bool:
        """Adds a formula, unless the operands are none that it can have."""
        if len(operands) != (1 if kind in _ALONE else 2):
            return False
        lengths = {self.length(operand) for operand in operands}
        known = [self.formulas[operand] for operand in operands if operand in self.formulas]
        depth = 1 + max((formula.depth for formula in known), default=0)
        if 0 in lengths or len(lengths - {1}) > 1 or depth > MAX_DEPTH:
            return False
        self.formulas[key] = Formula(kind, operands, max(lengths), depth)
        return True

    def batch_norm(self, steps: Iterable[Step]) -> BatchNorm | None:
        """The BatchNorm that arithmetic after a convolution is: x * inverse + shift, where inverse
        is scale / sqrt(variance + epsilon) and shift is offset - mean * inverse."""
        product, total = [*steps, None, None][:2]
        kinds = [step.kind for step in steps]
        if product is None or total is None or kinds != ["multiply", "add"]:
            return None
        inverse, shift = product.constant, self.formulas.get(total.constant)
        root, scale = self._root(inverse)
        if root is None or shift is None or shift.kind != "Sub":
            return None
        offset, moved = shift.operands
        mean = self._other(self.formulas.get(moved), ("Mul",), inverse)
        addition = self.formulas.get(root)
        if mean is None or addition is None or addition.kind not in _SUMS:
            return None
        variance, epsilon = addition.operands
        plain = (mean, variance, offset, *([scale] if scale else []))
        if self.length(epsilon) != 1 or not all(key in self.stored for key in plain):
            return None
        return BatchNorm(mean, variance, scale, offset, epsilon)

    def _root(self, inverse: str) -> tuple[str | None, str | None]:
        """What a formula is 1 / sqrt(..) of, and what that is multiplied by."""
        formula = self.formulas.get(inverse)
        if formula is None:
            return None, None
        if formula.kind == "Rsqrt":
            return formula.operands[0], None
        if formula.kind == "Mul":
            for key in formula.operands:
                inner = self.formulas.get(key)
                if inner is not None and inner.kind == "Rsqrt":
                    return inner.operands[0], self._other(formula, ("Mul",), key)
        return None, None

    def _other(self, formula: Formula | None, kinds: tuple[str, ...], key: str) -> str | None:
        """The operand beside `key`."""
        if formula is None or formula.kind not in kinds or key not in formula.operands:
            return None
        first, second = formula.operands
        return second if first == key else first
