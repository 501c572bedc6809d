"""Daytona on this machine: its API and its toolbox, for the SDK as it is; its sandboxes are stand-ins.

``DaytonaEmulator`` is one cloud with any number of accounts. Whatever the SDK asks and whatever is answered is held
against the contract that the installed SDK's own generated clients carry (``contract.py``).
"""

from tests.emulators.daytona.emulator import DaytonaEmulator
from tests.emulators.daytona.faults import Fault

__all__ = ["DaytonaEmulator", "Fault"]
