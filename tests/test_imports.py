"""Most tests run commands in processes where everything is imported already; here each module comes first."""

import subprocess
import sys
from pathlib import Path

import agentctl

FIRST = """
import os, sys, traceback
import asyncio, sqlite3, typer, rich.console, sqlite_utils.db, h11, starlette.applications, uvicorn, docker

failed = 0
for module in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        try:
            __import__(module)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    failed |= os.waitpid(pid, 0)[1]
sys.exit(bool(failed))
"""


def test_every_module_can_be_the_first_that_is_imported():
    root = Path(agentctl.__file__).parent
    names = [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in sorted(root.rglob("*.py"))]
    modules = [name.removesuffix(".__init__") for name in names if not name.endswith(("__main__", "_entry"))]
    started_anew = ("agentctl.supervisor.", "agentctl.acp.")  # by every test that has a sandbox
    modules = [name for name in modules if not name.startswith(started_anew)]
    assert len(modules) > 200
    done = subprocess.run([sys.executable, "-c", FIRST, *modules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
