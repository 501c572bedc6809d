"""Modal on this machine: gRPC on the wheel's own messages, backed by real processes and directories."""

from tests.emulators.modal.server import Fault, ModalEmulator

__all__ = ["Fault", "ModalEmulator"]
