"""What the libraries import and a supervisor hardly ever uses is loaded at its first use: a third of a session's memory
was in such modules, and a quarter of the CPU of its start.

While the supervisor imports, each module of ``_LATE`` is an empty one that loads the real one as soon as anything is
asked of it. What importers take out of it by ``from`` is late, too. So nothing is missing, and a module or a name that
is not listed is as ever: another version of a library may cost more, and works.
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from agentctl.supervisor.stand_ins import STAND_INS

_ALL = "*"
"""Of a module that is imported for its names alone."""

_LATE: dict[str, tuple[str, ...]] = {
    "anyio": (),
    "anyio.abc": (),
    "anyio.to_thread": (),
    "ast": (),
    "asyncio.sslproto": (),
    "configparser": ("RawConfigParser",),
    "datetime": ("datetime",),
    "difflib": (),
    "email.utils": ("format_datetime", "formatdate"),
    "hashlib": (),
    "hmac": (),
    "html": (),
    "http.client": (),
    "http.cookies": (),
    "inspect": (),
    "ipaddress": ("AddressValueError", "IPv6Address"),
    "locale": (),
    "logging.config": (),
    "mimetypes": ("guess_type",),
    "platform": (),
    "random": (),
    "secrets": ("token_hex",),
    "shlex": ("shlex",),
    "shutil": (),
    "ssl": ("SSLSocket",),
    "starlette.formparsers": (_ALL,),
    "tempfile": ("SpooledTemporaryFile",),
    "tokenize": (),
    "typing_extensions": ("TypeIs",),
    "uuid": ("UUID",),
    "uvicorn._types": (_ALL,),
    "uvicorn.middleware.asgi2": (_ALL,),
    "uvicorn.middleware.message_logger": (_ALL,),
    "uvicorn.middleware.proxy_headers": (_ALL,),
    "uvicorn.middleware.wsgi": (_ALL,),
}
"""The late modules, and of each the names that are wanted long before they are used."""


class _LateName:
    """A function or a class of a late module, for whoever has taken it from there.

    It cannot be caught as an exception. It need not: before one is raised, the module was loaded and its names put in
    place.
    """

    def __init__(self, module: _LateModule, name: str) -> None:
        self._module = module
        self._name = name

    def real(self) -> Any:
        return getattr(self._module.real(), self._name)

    def is_of(self, module: _LateModule) -> bool:
        return self._module is module

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.real(), name)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self.real()(*args, **named)

    def __getitem__(self, key: Any) -> Any:
        return self.real()[key]

    def __or__(self, other: Any) -> Any:
        return self.real() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.real()

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self.real(),)

    def __instancecheck__(self, instance: object) -> bool:
        return self._module.is_loaded() and isinstance(instance, self.real())  # what is not there has no instances

    def __subclasscheck__(self, subclass: type) -> bool:
        return self._module.is_loaded() and issubclass(subclass, self.real())


class _LateModule(ModuleType):
    _loaded: ModuleType | None = None

    def is_loaded(self) -> bool:
        """By anybody."""
        return not isinstance(sys.modules.get(self.__name__, self), _LateModule)

    def real(self) -> ModuleType:
        """Loaded by the first thread that wants it; others wait, as for every import."""
        if self._loaded is None:
            package = sys.modules.get(self.__name__.rpartition(".")[0])
            if isinstance(package, _LateModule):
                package.real()
            with _taking:
                _wanted.add(self.__name__)
                if sys.modules.get(self.__name__) is self:
                    del sys.modules[self.__name__]
            loaded = import_module(self.__name__)
            _put_in_place(self, loaded)
            self._loaded = loaded
        return self._loaded

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)  # asked of every module by those who only look around
        if self._loaded is None:
            if (stand_in := STAND_INS.get(self.__name__, {}).get(name)) is not None:
                return stand_in
            if not {name, _ALL}.isdisjoint(_LATE[self.__name__]):
                return _LateName(self, name)
        return getattr(self.real(), name)


def _put_in_place(late: _LateModule, loaded: ModuleType) -> None:
    """Modules that have the late one, or a name of it, get the real one."""
    for user in list(sys.modules.values()):
        names = getattr(user, "__dict__", {})
        for name, value in list(names.items()):
            if value is late:
                names[name] = loaded
            elif type(value) is _LateName and value.is_of(late):
                names[name] = getattr(loaded, value._name)


class _Finder:
    """Also the loader of what it finds."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _LATE or name in _wanted:
            return None
        is_package = any(other.startswith(f"{name}.") for other in _LATE)
        return ModuleSpec(name, self, is_package=is_package)  # type: ignore[arg-type]  # all that a loader has

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _LateModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """It is as it has to be."""


_finder: Any = _Finder()
_wanted: set[str] = set()
_taking = threading.Lock()


def begin() -> None:
    """Whoever imports from now on gets late modules, and keeps them."""
    sys.meta_path = [_finder, *sys.meta_path]  # never changed in place: another thread may be in the midst of it


def end() -> None:
    """Whoever imports from now on gets real ones, as before."""
    sys.meta_path = [finder for finder in sys.meta_path if finder is not _finder]
    with _taking:
        for name in _LATE:
            module = sys.modules.get(name)
            if isinstance(module, _LateModule) and not _is_being_imported(module):
                del sys.modules[name]


def _is_being_imported(module: ModuleType) -> bool:
    return bool(getattr(module.__spec__, "_initializing", False))
