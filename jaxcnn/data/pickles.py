"""Reader for untrusted pickles that executes nothing and uses bounded time and memory.

Python's own unpickler runs whatever a pickle asks for. Even when it is restricted to a few names, a
few bytes can make it hash for hours or recurse until the process dies. Here a pickle may use only a
short list of instructions and the names that the caller defines, and dictionary keys must be
strings, bytes or integers. Nothing is compared, copied without limit, or printed while reading.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

# Limit on the absolute value of an integer; the magic number in old torch files has 77 bits.
_LARGEST = 1 << 128
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4"}
_PLAIN = {"BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
_PYTHON2_STRINGS = {"BINSTRING", "SHORT_BINSTRING"}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# Instructions that create class instances or look names up in process-wide tables.
_OBJECTS = {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}


class Function(NamedTuple):
    r"""Function that a pickle may call; its sequence arguments count as work, by length.

    Example:
      >>> read_pickle(b"\x80\x02cmath\nsqrt\nK\x09\x85R.", {"math sqrt": Function(float)})
      9.0
    """

    call: Callable[..., Any]


class PickleError(ValueError):
    """Error for a pickle that uses something that is not allowed; nothing was executed."""


def read_pickle(
    data: bytes,
    names: Mapping[str, Any],
    *,
    persistent: Callable[[Any], Any] | None = None,
    set_state: Callable[[Any, Any], None] | None = None,
    python2_bytes: bool = False,
) -> Any:
    """Read a pickle written with protocol 2 to 5.

    Args:
      data: the pickle.
      names: maps each name that the pickle may use, as ``"module name"``, to its value; the pickle
        may call a `Function`, while any other value is only passed along.
      persistent: converts a persistent ID to a value; None rejects persistent IDs.
      set_state: applies a state to an object, as ``__setstate__`` does; None rejects states.
      python2_bytes: whether to read Python 2 strings as bytes instead of Latin-1 text.

    Raises:
      PickleError: if the pickle uses a name that is not in ``names``, an instruction that is not
        allowed, or keys other than strings, bytes and integers, or does more work than its length
        allows.
      Exception: of any type, if the pickle is damaged or a function rejects its arguments.

    Example:
      >>> import pickle
      >>> read_pickle(pickle.dumps({"a": [1, 2.5]}), {})
      {'a': [1, 2.5]}
      >>> read_pickle(pickle.dumps(print), {})
      Traceback (most recent call last):
        ...
      jaxcnn.data.pickles.PickleError: its pickle asks for builtins.print; nothing was executed
    """
    machine = _Machine(len(data), names, persistent, set_state, python2_bytes)
    for operation, argument, _ in pickletools.genops(data):
        if operation.name == "STOP":
            break
        machine.run(operation.name, argument)
    (value,) = machine.stack
    return value


class _Machine:
    """Pickle machine: a stack, the stacks below its marks, and a memo."""

    def __init__(
        self,
        budget: int,
        names: Mapping[str, Any],
        persistent: Callable[[Any], Any] | None,
        set_state: Callable[[Any, Any], None] | None,
        python2_bytes: bool,
    ):
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.budget = budget  # total length of arguments still allowed
        self.names = names
        self.persistent = persistent
        self.set_state = set_state
        self.python2_bytes = python2_bytes

    def run(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _PLAIN or (name in _INTEGERS and abs(argument) < _LARGEST):
            self.stack.append(argument)
        elif name in _PYTHON2_STRINGS:
            self.stack.append(argument.encode("latin-1") if self.python2_bytes else argument)
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
            raise PickleError(f"its pickle creates objects ({name}); nothing was executed")
        elif name not in ("PROTO", "FRAME"):
            raise PickleError(f"its pickle uses {name}, which is not allowed")

    def items(self) -> list[Any]:
        """Pop everything above the last mark."""
        above, self.stack = self.stack, self.below.pop()
        return above

    def mark(self, _: Any) -> None:
        """Start a new stack."""
        self.below.append(self.stack)
        self.stack = []

    def make_tuple(self, _: Any) -> None:
        """Push a tuple of everything above the mark."""
        items = tuple(self.items())
        self.stack.append(items)

    def memoize(self, _: Any) -> None:
        """Remember the top of the stack under the next index."""
        self.memo[len(self.memo)] = self.stack[-1]

    def find(self, name: str) -> None:
        """Push the value of an allowed name; any other name is rejected without a lookup."""
        if name not in self.names:
            asked = ".".join(name.split())[:100]
            raise PickleError(f"its pickle asks for {asked}; nothing was executed")
        self.stack.append(self.names[name])

    def find_on_stack(self, _: Any) -> None:
        """Find the name given by two strings on the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise PickleError("its pickle is damaged")
        self.find(f"{module} {name}")

    def call(self, _: Any) -> None:
        """Call a `Function`."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Function or type(arguments) is not tuple:
            raise PickleError("its pickle calls something that is not a function")
        sized = (str, bytes, list, tuple)
        self.budget -= sum(len(value) for value in arguments if isinstance(value, sized))
        if self.budget < 0:
            raise PickleError("its pickle copies more data than it contains")
        self.stack.append(function.call(*arguments))

    def set_item(self, _: Any) -> None:
        """Put one item into a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        put(self.stack[-1], key, value)

    def set_items(self, _: Any) -> None:
        """Put everything above the mark into a dictionary."""
        items = self.items()
        for key, value in zip(items[::2], items[1::2], strict=True):
            put(self.stack[-1], key, value)

    def extend(self, items: list[Any]) -> None:
        """Append items to a list."""
        if type(self.stack[-1]) is not list:
            raise PickleError("its pickle is damaged")
        self.stack[-1].extend(items)

    def build(self, _: Any) -> None:
        """Pop a state and apply it to the object below it."""
        state = self.stack.pop()
        if self.set_state is None:
            raise PickleError("its pickle sets the state of an object")
        self.set_state(self.stack[-1], state)

    def find_persistent(self, _: Any) -> None:
        """Replace a persistent ID with its value."""
        if self.persistent is None:
            raise PickleError("its pickle refers to data outside the pickle")
        self.stack.append(self.persistent(self.stack.pop()))


def put(into: Any, key: Any, value: Any) -> None:
    """Put an item into a dictionary, accepting only keys that are cheap to hash.

    Raises:
      PickleError: if ``into`` is not a dictionary, or the key is not a string, bytes or an integer.

    Example:
      >>> made = {}
      >>> put(made, "a", 1)
      >>> made
      {'a': 1}
    """
    if type(into) is not dict or type(key) not in (str, bytes, int):
        raise PickleError("its pickle has keys other than strings and integers")
    into[key] = value


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
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.find_persistent,
}
