"""Reads a configuration from JSON, as strictly as the proxy does.

In: JSON. Out: ``ProxyConfig``, or the path of the first fault. Invariants: driven by the types in
``contract``, so that there is one list of fields; absent fields have the defaults of the contract,
unknown ones are refused, addresses and networks are parsed.

Used by tests, ``fsm proxy get`` and whoever is handed a configuration. Sense is ``check``'s
business.
"""

from __future__ import annotations

import ipaddress
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson

from fsm.compile import contract
from fsm.compile.contract import ProxyConfig

_U16, _U32, _U64 = (1 << 16) - 1, (1 << 32) - 1, (1 << 64) - 1
_MAX = {"port": _U16, "ports": _U16, "weight": _U32}


class ContractError(ValueError):
    """A configuration that is not of the contract's shape; the text begins with the path."""


def config_from_json(data: bytes | str) -> ProxyConfig:
    """Parse a configuration.

    Raises:
        ContractError: it is no JSON, or not of the contract's shape.

    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ContractError(f".: {error}") from error
    config = _read(ProxyConfig, value, "")
    assert isinstance(config, ProxyConfig)
    return config


@cache
def _shape(kind: type) -> Mapping[str, tuple[str, Any, bool]]:
    hints = get_type_hints(kind)
    return {
        contract.RENAMED.get(f.name, f.name): (
            f.name,
            hints[f.name],
            # An empty version is a value in Python, and a missing field in the contract.
            (f.default is MISSING and f.default_factory is MISSING) or f.name == "version",
        )
        for f in fields(kind)
    }


def _read(hint: Any, value: Any, path: str) -> Any:
    if hint is contract.Path:
        return _path(value, path)
    if hint is contract.PluginSettings:
        if not isinstance(value, dict):
            raise ContractError(f"{path}: expected an object")
        return contract.PluginSettings.of(value)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _object(hint, value, path)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _read(next(a for a in arguments if a is not type(None)), value, path)
    if origin is tuple:
        if not isinstance(value, list):
            raise ContractError(f"{path}: expected a list")
        return tuple(
            _read(arguments[0], item, f"{path}[{index}]") for index, item in enumerate(value)
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise ContractError(f"{path}: expected an object")
        return {name: _read(arguments[1], item, f"{path}.{name}") for name, item in value.items()}
    return _scalar(hint, value, path)


def _object(kind: type, value: Any, path: str) -> Any:
    if not isinstance(value, dict):
        raise ContractError(f"{path or '.'}: expected an object")
    shape = _shape(kind)
    for name in value:
        if name not in shape:
            raise ContractError(f"{_join(path, name)}: unknown field `{name}`")
    found = {}
    for name, (attribute, hint, required) in shape.items():
        if name in value:
            found[attribute] = _read(hint, value[name], _join(path, name))
        elif required:
            raise ContractError(f"{path or '.'}: missing field `{name}`")
    return kind(**found)


def _path(value: Any, path: str) -> contract.Path:
    if isinstance(value, dict) and len(value) == 1:
        kind, text = next(iter(value.items()))
        if kind in ("exact", "prefix", "regex") and isinstance(text, str):
            return contract.Path(kind, text)
    raise ContractError(f"{path}: expected one of exact, prefix, regex with its text")


def _scalar(hint: Any, value: Any, path: str) -> Any:
    field = path.rsplit(".", 1)[-1].split("[")[0]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if value not in set(hint):
            raise ContractError(f"{path}: unknown variant {value!r}")
        return hint(value)
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ContractError(f"{path}: expected a whole number")
        most = _MAX.get(field, _U64 if field.endswith("_ms") else _U32)
        if not 0 <= value <= most:
            raise ContractError(f"{path}: {value} is out of range")
        return value
    if not isinstance(value, hint):
        raise ContractError(f"{path}: expected {'text' if hint is str else hint.__name__}")
    if field == "address":
        _socket_address(value, path)
    elif field in ("destinations", "cidrs", "all_but"):
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ContractError(f"{path}: {value!r} is not a network") from None
    return value


def _socket_address(text: str, path: str) -> None:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        version = ipaddress.ip_address(host[1:-1] if bracketed else host).version
    except ValueError:
        raise ContractError(f"{path}: {text!r} is not ip:port") from None
    if bracketed != (version == 6) or not (port.isdecimal() and int(port) <= _U16):
        raise ContractError(f"{path}: {text!r} is not ip:port")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
