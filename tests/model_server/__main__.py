"""``python -m tests.model_server --port P``: the scripted model server for hand use."""

from __future__ import annotations

import argparse
import json
import signal

from tests.model_server import agents_env
from tests.model_server.server import ModelServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model_server", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ModelServer(arguments.port, verbose=True) as server:
        print(server.url, flush=True)
        for name in agents_env.AGENTS:
            setup = agents_env.setup_for(name, server.url)
            print(f"# {name}: {json.dumps(setup.environment)}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
