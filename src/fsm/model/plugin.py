"""Plugins: scripts, the chains that they stand in, and what Services tell them.

In: what each policy's ``schema.py`` parsed. Out: facts for the compiler. Invariants: frozen; names
of other objects are complete; whether those exist, or a script loads, is asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from fsm.model.names import PolicyObject
from fsm.model.selectors import Selector

ChainName = Literal["inbound-tcp", "inbound-http", "outbound-tcp", "outbound-http"]
CHAIN_NAMES: tuple[ChainName, ...] = (
    "inbound-tcp",
    "inbound-http",
    "outbound-tcp",
    "outbound-http",
)


@dataclass(frozen=True, slots=True)
class Plugin(PolicyObject):
    """A script; objects of this kind are in no namespace."""

    script: str = ""
    priority: float = 0
    """Higher is earlier in a chain."""
    fault: str = ""
    """Why the script does not load, as the control plane found out; empty: it does, as far as is
    known."""

    @property
    def origin(self) -> str:
        """How rules made from it are named."""
        return f"Plugin/{self.name}"


@dataclass(frozen=True, slots=True)
class PluginChain(PolicyObject):
    """Puts plugins into chains of the proxies beside some Pods."""

    chains: tuple[tuple[ChainName, tuple[str, ...]], ...] = ()
    """Each with its plugins, by name, as listed."""
    pods: Selector = field(default_factory=Selector)
    namespaces: Selector = field(default_factory=Selector)

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plugins that it names, each once."""
        return tuple(dict.fromkeys(name for _, names in self.chains for name in names))


class Destination(NamedTuple):
    """For what a plugin is told something: a Service, or an Egress."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class PluginConfig(PolicyObject):
    """Tells a plugin something about some destinations."""

    plugin: str = ""
    config: Mapping[str, object] = field(default_factory=dict)
    destinations: tuple[Destination, ...] = ()
