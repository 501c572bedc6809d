"""Dataclasses that are made in a tenth of the time.

``dataclasses`` writes and compiles six methods for every frozen class. That is about a millisecond for each, at every
start of a command and of a supervisor, which import dozens of them. The fields of these are known to ``dataclasses``
(``fields``, ``asdict`` and ``replace`` take them), and all of them share the same few methods.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, field
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """What ``dataclass(frozen=True, kw_only=True)`` makes of a class."""
    cls.__doc__ = cls.__doc__ or cls.__name__  # else dataclasses puts the signature there, which takes longest of all
    made: Any = dataclass(init=False, repr=False, eq=False, kw_only=True)(cls)
    fields = made.__dataclass_fields__.values()
    made._defaults = {f.name: f.default for f in fields if f.default is not MISSING}
    made._factories = [(f.name, f.default_factory) for f in fields if f.default_factory is not MISSING]
    for name, method in _METHODS.items():
        setattr(made, name, method)
    return cls


def _init(self: Any, **given: Any) -> None:
    values = {**self._defaults, **given}
    for name, make in self._factories:
        if name not in given:
            values[name] = make()
    if values.keys() != self.__dataclass_fields__.keys():
        raise TypeError(_wrong(type(self), values.keys()))
    self.__dict__.update(values)


def _wrong(cls: type[Any], names: Any) -> str:
    known = cls.__dataclass_fields__.keys()
    said = [f"{name!r} is missing" for name in known if name not in names]
    said += [f"there is no {name!r}" for name in names if name not in known]
    return f"{cls.__qualname__}: {', '.join(said)}"


def _repr(self: Any) -> str:
    shown = (f"{f.name}={getattr(self, f.name)!r}" for f in self.__dataclass_fields__.values() if f.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: object) -> Any:
    return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(tuple(getattr(self, name) for name in self.__dataclass_fields__))


def _set(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"{type(self).__qualname__}.{name} cannot be changed; use dataclasses.replace")


def _delete(self: Any, name: str) -> None:
    _set(self, name, None)


_METHODS = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _set,
    "__delattr__": _delete,
}
