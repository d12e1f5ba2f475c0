"""The pickles in PyTorch's files, read by a machine that knows tensors and nothing else.

Python's own unpickler does what a pickle tells it: a few bytes make it hash or copy for hours, or
recurse until the process dies. Here each instruction is one of a short list, keys are texts and
whole numbers, and nothing is compared, copied or printed on the way.
"""

import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

LONGEST = 1 << 22
"""Bytes of a pickle; the state of a network of a thousand layers takes a twentieth of it."""

_LARGEST = 1 << 128  # of a number; that in front of old files has 77 bits
_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"}
_TEXTS = {"BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# What makes objects of classes, or looks names up in tables of the process.
_OBJECTS = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}


class Storage(NamedTuple):
    """Numbers in the file: which, of what type, and how many."""

    key: str
    dtype: np.dtype
    length: int


class Tensor(NamedTuple):
    """A view of a storage; whether it stays inside is for the reader to see."""

    storage: Storage
    offset: Any
    size: Any
    strides: Any


class _Function(NamedTuple):
    """What a name in a pickle stands for."""

    name: str


class _StorageType(NamedTuple):
    dtype: np.dtype


_FUNCTIONS = {
    f"{module} {name}"
    for module, name in (
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "Size"),
    )
}


def read_pickle(data: bytes) -> tuple[Any, dict[str, Storage]]:
    """What a pickle holds, and every storage that it names, by key.

    Raises:
      ValueError: if it asks for anything that no ``state_dict`` needs.
      Exception: of any kind, if it is damaged.
    """
    if len(data) > LONGEST:
        raise ValueError("its pickle is too long for a state_dict")
    machine = _Machine(len(data))
    for operation, argument, _ in pickletools.genops(data):
        if operation.name == "STOP":
            break
        machine.run(operation.name, argument)
    (value,) = machine.stack
    return value, machine.storages


class _Machine:
    """A stack, stacks below it, and a memo."""

    def __init__(self, budget: int):
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self.budget = budget  # of items that are copied

    def run(self, name: str, argument: Any) -> None:
        """One instruction."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TEXTS or (name in _NUMBERS and abs(argument) < _LARGEST):
            self.stack.append(argument)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            items = [self.stack.pop() for _ in range(_TUPLES[name])]
            self.stack.append(tuple(reversed(items)))
        elif name.endswith("PUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif name.endswith("GET"):
            self.stack.append(self.memo[int(argument)])
        elif name in _INSTRUCTIONS:
            _INSTRUCTIONS[name](self, argument)
        elif name in _OBJECTS:
            raise ValueError(f"its pickle makes objects ({name}); save a state_dict")
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"its pickle has {name}, which no state_dict needs")

    def items(self) -> list[Any]:
        """All above the last mark."""
        above, self.stack = self.stack, self.below.pop()
        return above

    def mark(self, _: Any) -> None:
        """Begin a stack of its own."""
        self.below.append(self.stack)
        self.stack = []

    def make_tuple(self, _: Any) -> None:
        """Of all above the mark."""
        items = tuple(self.items())
        self.stack.append(items)

    def memoize(self, _: Any) -> None:
        """Remember the top under the next number."""
        self.memo[len(self.memo)] = self.stack[-1]

    def find(self, name: str) -> None:
        """What a name of the list stands for; any other is refused before it is looked for."""
        module, _, short = name.partition(" ")
        if module == "torch" and short in _DTYPES:
            self.stack.append(_StorageType(_DTYPES[short]))
        elif name in _FUNCTIONS:
            self.stack.append(_Function(short))
        else:
            asked = ".".join(name.split())[:100]
            raise ValueError(
                f"its pickle asks for {asked}, which no state_dict needs; nothing was executed"
            )

    def find_on_stack(self, _: Any) -> None:
        """The same, of two texts."""
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("its pickle is damaged")
        self.find(f"{module} {name}")

    def call(self, _: Any) -> None:
        """Do what stands for a function of torch."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Function or type(arguments) is not tuple:
            raise ValueError("its pickle calls what is no function")
        if function.name == "OrderedDict":
            self.stack.append(self.dictionary(*arguments))
        elif function.name == "Size":
            (size,) = arguments
            self.stack.append(size)
        elif function.name == "_rebuild_parameter":
            self.stack.append(arguments[0])
        else:
            storage, offset, size, strides, *_ = arguments
            if type(storage) is not Storage:
                raise ValueError("a tensor has no storage")
            self.stack.append(Tensor(storage, offset, size, strides))

    def dictionary(self, pairs: Any = ()) -> dict[Any, Any]:
        """What an OrderedDict is made of: nothing, or a list of pairs."""
        if type(pairs) not in (tuple, list):
            raise ValueError("its pickle is damaged")
        self.budget -= len(pairs)
        if self.budget < 0:
            raise ValueError("its pickle copies more than it holds")
        made: dict[Any, Any] = {}
        for pair in pairs:
            name, value = pair
            self.put(made, name, value)
        return made

    def put(self, into: Any, name: Any, value: Any) -> None:
        """An item under a text or a number, whose hash is no work."""
        if type(into) is not dict or type(name) not in (str, int):
            raise ValueError("its pickle is no state_dict: it has other keys than texts")
        into[name] = value

    def set_item(self, _: Any) -> None:
        """One item of a dictionary."""
        value, name = self.stack.pop(), self.stack.pop()
        self.put(self.stack[-1], name, value)

    def set_items(self, _: Any) -> None:
        """All above the mark."""
        items = self.items()
        for name, value in zip(items[::2], items[1::2], strict=True):
            self.put(self.stack[-1], name, value)

    def extend(self, items: list[Any]) -> None:
        """Items of a list."""
        if type(self.stack[-1]) is not list:
            raise ValueError("its pickle is damaged")
        self.stack[-1].extend(items)

    def forget_state(self, _: Any) -> None:
        """The attributes that torch gives a dictionary are of no use here."""
        self.stack.pop()
        if type(self.stack[-1]) is not dict:
            raise ValueError("its pickle sets attributes of what is no dictionary")

    def find_storage(self, _: Any) -> None:
        """The storage that a tensor is a view of."""
        kind, storage_type, key, _, count, *view = self.stack.pop()
        if type(kind) is not str or kind != "storage" or type(storage_type) is not _StorageType:
            raise ValueError("its pickle has a storage of an unknown kind")
        if type(key) is not str or type(count) is not int or any(part is not None for part in view):
            raise ValueError("its pickle has a storage of an unknown kind")
        storage = Storage(key, storage_type.dtype, count)
        self.storages[key] = storage
        self.stack.append(storage)


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine.mark,
    "TUPLE": _Machine.make_tuple,
    "MEMOIZE": _Machine.memoize,
    "GLOBAL": _Machine.find,
    "STACK_GLOBAL": _Machine.find_on_stack,
    "REDUCE": _Machine.call,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.items()),
    "BUILD": _Machine.forget_state,
    "BINPERSID": _Machine.find_storage,
}
