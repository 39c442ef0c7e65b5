"""The control plane as a process of the bench: ``fsm controller``, but with ports that are free.

In: a kubeconfig (``KUBECONFIG``). Out: its log on standard error, which says where it listens.
"""

from __future__ import annotations

import asyncio
import sys

from fsm.controllers.main import run_controller
from fsm.controllers.settings import ControllerSettings
from fsm.settings import Ports, Settings

if __name__ == "__main__":
    ports = Ports(delivery=0, webhook=0, health=0)
    settings = ControllerSettings(mesh=Settings(ports=ports), host="127.0.0.1")
    sys.exit(asyncio.run(run_controller(settings)))
