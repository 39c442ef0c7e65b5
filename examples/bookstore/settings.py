"""Settings of the applications: environment variables in, checked values out.

Every function raises ``SettingsError`` with a sentence that names the variable, what it holds, and
what was expected; ``app.run`` prints it and ends with exit code 2. Nothing is read later than at
start-up.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

PORT_DEFAULT = 14001

IDENTITY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class SettingsError(ValueError):
    """An environment variable holds something that the application cannot use."""


@dataclass(frozen=True, slots=True)
class Target:
    """Another application, as an HTTP client dials it."""

    host: str
    port: int


def port(env: Mapping[str, str] = os.environ) -> int:
    """Return the TCP port to listen on (``PORT``, default 14001, 0 for any free one)."""
    return _whole_number(env, "PORT", PORT_DEFAULT, least=0, most=65535)


def interval_ms(env: Mapping[str, str] = os.environ) -> int:
    """Return the pause between two visits to the shop (``SHOP_INTERVAL_MS``, milliseconds)."""
    return _whole_number(env, "SHOP_INTERVAL_MS", 1000, least=1, most=3_600_000)


def target(variable: str, default: str, env: Mapping[str, str] = os.environ) -> Target:
    """Return the application at the ``http://host[:port]`` URL that ``variable`` holds."""
    text = env.get(variable) or default
    url = urlsplit(text)
    try:
        url_port = url.port or 80
    except ValueError as error:
        raise SettingsError(f"{variable}={text!r}: {error}") from error
    if url.scheme != "http" or not url.hostname or url.path not in ("", "/") or url.query:
        raise SettingsError(f"{variable}={text!r}: expected http://host[:port] and nothing more")
    return Target(url.hostname, url_port)


def identity(default: str, env: Mapping[str, str] = os.environ) -> str:
    """Return the name under which the application answers.

    ``IDENTITY`` wins; ``BOOKSTORE_VERSION`` (``v2`` or ``2``) is the short form for the shops.
    The value travels in a response header, so it must be a plain name.
    """
    version = env.get("BOOKSTORE_VERSION", "").removeprefix("v")
    text = env.get("IDENTITY") or (f"{default}-v{version}" if version else default)
    if not IDENTITY.fullmatch(text):
        raise SettingsError(
            f"identity {text!r} (IDENTITY, BOOKSTORE_VERSION): expected letters, digits, '.', '_' "
            "and '-', at most 63 characters"
        )
    return text


@dataclass(frozen=True, slots=True)
class Database:
    """A MySQL or MariaDB database, and who may use it."""

    host: str
    port: int
    user: str
    password: str
    name: str


def database(env: Mapping[str, str] = os.environ) -> Database | None:
    """Return the database that ``DATABASE_HOST`` and its companions name, if they do.

    ``DATABASE_PORT`` (3306), ``DATABASE_USER`` (root), ``DATABASE_PASSWORD`` (none),
    ``DATABASE_NAME`` (booksdemo).
    """
    host = env.get("DATABASE_HOST", "")
    if not host:
        return None
    name = env.get("DATABASE_NAME") or "booksdemo"
    if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", name):
        raise SettingsError(f"DATABASE_NAME={name!r}: expected letters, digits and '_'")
    number = _whole_number(env, "DATABASE_PORT", 3306, least=1, most=65535)
    user = env.get("DATABASE_USER") or "root"
    return Database(host, number, user, env.get("DATABASE_PASSWORD", ""), name)


def _whole_number(
    env: Mapping[str, str], variable: str, default: int, *, least: int, most: int
) -> int:
    text = env.get(variable)
    if text is None or text == "":
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise SettingsError(f"{variable}={text!r}: expected a whole number from {least} to {most}")
    return int(text)
