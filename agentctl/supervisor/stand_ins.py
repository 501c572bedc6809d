"""Small things of large modules that every supervisor asks for: the same answers, without the modules."""

from __future__ import annotations

import os
import sys
from _operator import _compare_digest  # hmac's own: that would bring OpenSSL, 0.6 MB
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeVar

_COROUTINE = 0x80  # inspect.CO_COROUTINE


def _is_function(what: object) -> bool:
    return isinstance(what, FunctionType)


def _is_method(what: object) -> bool:
    return isinstance(what, MethodType)


def _is_coroutine_function(what: Any) -> bool:
    while isinstance(what, partial | MethodType):
        what = what.func if isinstance(what, partial) else what.__func__
    code = what.__code__ if isinstance(what, FunctionType) else None
    return isinstance(code, CodeType) and bool(code.co_flags & _COROUTINE)


def _signature(of: Any, **options: Any) -> Any:
    """``dataclasses`` asks for it to write a docstring where there is none, which nobody will read here."""
    if _asked_by_dataclasses():
        return "(...)"
    import inspect

    return inspect.signature(of, **options)


def _get_annotations(of: Any, **options: Any) -> Any:
    if _asked_by_dataclasses() and not options:
        return dict(vars(of).get("__annotations__") or {})
    import inspect

    return inspect.get_annotations(of, **options)


def _asked_by_dataclasses() -> bool:
    return bool(sys._getframe(2).f_globals.get("__name__") == "dataclasses")


def _system() -> str:
    return os.uname().sysname


def _type_variable(name: str, *constraints: Any, default: Any = None, **options: Any) -> Any:
    """``default`` is for type checkers."""
    return TypeVar(name, *constraints, **options)


STAND_INS: dict[str, dict[str, Any]] = {
    "hmac": {"compare_digest": _compare_digest},
    "inspect": {
        "get_annotations": _get_annotations,
        "iscoroutinefunction": _is_coroutine_function,
        "isfunction": _is_function,
        "ismethod": _is_method,
        "signature": _signature,
    },
    "platform": {"system": _system},
    "ssl": {"CERT_NONE": 0, "PROTOCOL_TLS_SERVER": 17},
    "typing_extensions": {"TypeVar": _type_variable},
}
"""By the module and the name that they have there."""
