"""A Thrift service and its client, for trying out. Needs thriftpy2.

calculator.py server PORT [compact] [framed] | client PORT METHOD [ARGUMENT...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import thriftpy2
from thriftpy2.protocol import TCompactProtocolFactory
from thriftpy2.rpc import make_client, make_server
from thriftpy2.thrift import TApplicationException
from thriftpy2.transport import TFramedTransportFactory

calculator = thriftpy2.load(
    str(Path(__file__).with_name("calculator.thrift")), module_name="calculator_thrift"
)


class Calculator:
    """The service."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def add(self, a: int, b: int) -> int:
        """Give the sum."""
        return a + b

    def divide(self, a: float, b: float) -> float:
        """Give the quotient, or an exception of the service."""
        if b == 0:
            raise calculator.Refused(reason="nothing is divided by zero")
        return a / b

    def echo(self, text: str) -> str:
        """Give what was given."""
        return text

    def range(self, count: int) -> list[int]:
        """Give so many numbers."""
        return list(range(count))

    def erase(self) -> None:
        """Do what no client should ask for."""
        print("erased", flush=True)

    def note(self, text: str) -> None:
        """Write a line; nobody waits for it."""
        print("note:", text, flush=True)


def main() -> None:
    """Serve, or call."""
    what, port, *rest = sys.argv[1:]
    if what == "server":
        how = {
            "proto_factory": TCompactProtocolFactory() if "compact" in rest else None,
            "trans_factory": TFramedTransportFactory() if "framed" in rest else None,
        }
        how = {name: factory for name, factory in how.items() if factory}
        make_server(calculator.Calculator, Calculator(), "127.0.0.1", int(port), **how).serve()
        return
    client = make_client(calculator.Calculator, "127.0.0.1", int(port), timeout=5000)
    try:
        print(getattr(client, rest[0])(*map(json.loads, rest[1:])))
    except TApplicationException as error:
        print("refused:", error.message)
    except calculator.Refused as error:
        print("the service says:", error.reason)
    finally:
        client.close()


if __name__ == "__main__":
    main()
