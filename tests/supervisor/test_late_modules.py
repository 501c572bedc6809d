"""Modules that a supervisor loads only when it uses them: nothing is missing for it, and nobody sees a difference."""

import functools
import hmac
import inspect
import os
import platform
import ssl
import subprocess
import sys
import textwrap
from importlib import import_module

import pytest

from agentctl.supervisor import late_modules, stand_ins


def told(code):
    """What a new process says that runs ``code`` after ``late_modules.begin()``."""
    start = "import sys, threading\nfrom agentctl.supervisor import late_modules\nlate_modules.begin()\n"
    done = subprocess.run([sys.executable, "-c", start + textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_late_module_is_loaded_by_its_first_use():
    assert told("""
        import difflib
        print("SequenceMatcher" in vars(sys.modules["difflib"]))
        print(difflib.get_close_matches("aple", ["apple"]))
        print("SequenceMatcher" in vars(sys.modules["difflib"]), difflib is sys.modules["difflib"])
    """) == ["False", "['apple']", "True True"]


def test_a_submodule_is_late_by_itself_and_its_package_is_not():
    assert told("""
        import http.client
        print(http.HTTPStatus.OK.value, "HTTPConnection" in vars(http.client))
        print(http.client.HTTPConnection("localhost").port, http.client is sys.modules["http.client"])
    """) == ["200 False", "80 True"]


@pytest.mark.parametrize("end", ["", "late_modules.end()"])
def test_a_package_may_be_late_with_its_submodules(end):
    assert told(f"""
        import anyio.abc, anyio.to_thread
        {end}
        print("run_sync" in vars(anyio.to_thread), anyio.to_thread.run_sync.__name__, anyio.abc.TaskGroup.__name__)
        print(anyio.run(anyio.to_thread.run_sync, lambda: 5), anyio.Event.__name__)
        import anyio.streams.memory
    """) == ["False run_sync TaskGroup", "5 Event"]


def test_what_is_imported_after_the_end_is_real_and_late_modules_go_on():
    assert told("""
        import shutil as late
        late_modules.end()
        import shutil
        print(late is shutil, late.which is shutil.which)
        print([name for name in late_modules._LATE if isinstance(sys.modules.get(name), late_modules._LateModule)])
    """) == ["False True", "[]"]


def test_an_exception_that_was_taken_early_can_be_caught():
    assert told("""
        from ipaddress import AddressValueError, IPv6Address
        try:
            IPv6Address("none")
        except AddressValueError as e:
            print("caught", issubclass(AddressValueError, ValueError))
    """) == ["caught True"]


def test_a_class_that_was_taken_early_can_be_called_asked_and_inherited_from():
    assert told("""
        from datetime import datetime
        print(isinstance("", datetime), "timedelta" in vars(sys.modules["datetime"]))
        class Mine(datetime):
            pass
        print(isinstance(Mine(2024, 1, 1), datetime))
        print(datetime(2024, 2, 3).year, datetime.fromisoformat("2024-01-02").day)
    """) == ["False False", "True", "2024 2"]


def test_a_class_that_was_taken_early_may_stand_in_types():
    assert told("""
        from datetime import datetime
        from uuid import UUID
        from typing import Optional
        def late(when: datetime | None, which: None | UUID, other: Optional[UUID] = None): ...
        print(late.__annotations__["when"])
    """) == ["datetime.datetime | None"]


def test_threads_that_want_a_module_together_get_it_whole():
    assert told("""
        sys.setswitchinterval(1e-6)
        import tempfile, random, shutil, ast, inspect, html, platform
        modules = {tempfile: "TemporaryDirectory", random: "shuffle", ast: "unparse", inspect: "Signature",
                   html: "escape", platform: "uname", shutil: "copytree"}
        together, failed = threading.Barrier(8), []
        def want():
            together.wait()
            try:
                for module, name in modules.items():
                    getattr(module, name)
            except BaseException as e:
                failed.append(e)
        threads = [threading.Thread(target=want) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(failed)
    """) == ["[]"]


def test_a_late_module_that_is_missing_says_so_when_it_is_wanted():
    assert told("""
        late_modules._LATE["no_such_module"] = ("given",)
        import no_such_module
        from no_such_module import given
        try:
            given()
        except ImportError as e:
            print(e.name)
    """) == ["no_such_module"]


def test_looking_around_loads_nothing():
    assert told("""
        import inspect, warnings
        print([hasattr(inspect, name) for name in ("__path__", "__file__", "__wrapped__", "__warningregistry__")])
        print("Signature" in vars(sys.modules["inspect"]))
        from difflib import *
        print(get_close_matches("aple", ["apple"]))
    """) == ["[False, False, False, False]", "False", "['apple']"]


@pytest.mark.parametrize("name", late_modules._LATE)
def test_every_late_module_has_the_names_that_are_taken_from_it(name):
    module = import_module(name)
    assert {name for name in late_modules._LATE[name] if name != "*"} <= set(vars(module))
    assert set(stand_ins.STAND_INS.get(name, {})) <= set(vars(module))


class Noted:
    note: str


class Methods:
    def method(self): ...

    async def waits(self): ...

    async def __call__(self): ...


async def waits(): ...


async def yields():
    yield


@pytest.mark.parametrize(
    "thing",
    [
        waits, yields, told, print, len, str, 1, None, Methods, Methods(), Methods().method, Methods().waits,
        Methods.waits, functools.partial(waits), functools.partial(Methods().waits), functools.partial(told, 1),
        functools.partial(functools.partial(waits)), functools.partial(Methods()), lambda: None, type,
    ],
)  # fmt: skip
def test_stand_ins_answer_as_inspect_does(thing):
    for name in ("iscoroutinefunction", "isfunction", "ismethod"):
        assert stand_ins.STAND_INS["inspect"][name](thing) is getattr(inspect, name)(thing), name


def test_stand_ins_answer_as_the_others_do():
    assert stand_ins.STAND_INS["platform"]["system"]() == platform.system() == os.uname().sysname
    for one, other in ((b"a", b"a"), (b"a", b"b"), ("a", "a"), (b"", b"a")):
        assert stand_ins.STAND_INS["hmac"]["compare_digest"](one, other) is hmac.compare_digest(one, other)
    with pytest.raises(TypeError):
        stand_ins.STAND_INS["hmac"]["compare_digest"]("a", b"a")
    for name, value in stand_ins.STAND_INS["ssl"].items():
        assert value == getattr(ssl, name)
    assert stand_ins.STAND_INS["inspect"]["signature"](told) == inspect.signature(told)
    assert stand_ins.STAND_INS["inspect"]["get_annotations"](Noted) == inspect.get_annotations(Noted) == {"note": str}


def test_dataclasses_are_made_without_inspect():
    assert told("""
        from dataclasses import dataclass, fields
        @dataclass
        class Noted:
            note: str
        print([field.name for field in fields(Noted)], Noted("x"), "Signature" in vars(sys.modules["inspect"]))
    """) == ["['note'] Noted(note='x') False"]
