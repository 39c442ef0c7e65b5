"""``mariadb:*``: the machine's own ``mariadbd``, set up by the environment as the image is.

    one of MARIADB_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD, MARIADB_RANDOM_ROOT_PASSWORD
    MARIADB_ROOT_HOST (%)   MARIADB_DATABASE   MARIADB_USER with MARIADB_PASSWORD

(or the same with ``MYSQL_``; ``…_FILE`` names a file that holds the value).
What comes in: environment, arguments (passed on to ``mariadbd``). What goes out: this process
becomes ``mariadbd``, listening on port 3306.

Invariants: a data directory that was set up once is never touched again; one whose set-up was
interrupted is begun anew; what is set is text, never SQL: names are quoted. The data lie in
``/var/lib/mysql`` where a volume is mounted, else in a directory that ends with the container (the
machine's own databases are never opened).
Source: https://mariadb.com/kb/en/mariadb-server-docker-official-image-environment-variables/
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from fsm.standalone.programs import is_volume

_VOLUME = Path("/var/lib/mysql")
_OWN = Path("/run/mariadb-data")
_SOCKET = Path("/run/mysqld/mysqld.sock")
_MARK = ".fsm-set-up"
_HOW = "hint: install MariaDB (Debian: apt-get install mariadb-server)"


class SetUpError(Exception):
    """The server cannot be set up; the text says why."""


def setting(env: Mapping[str, str], name: str) -> str:
    """Read one setting, whichever of its four names it has.

    Raises:
        SetUpError: the file that it names cannot be read.

    """
    for prefix in ("MARIADB_", "MYSQL_"):
        if path := env.get(f"{prefix}{name}_FILE"):
            try:
                return Path(path).read_text().rstrip("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise SetUpError(f"{prefix}{name}_FILE={path}: {error}") from error
        if value := env.get(prefix + name):
            return value
    return ""


def statements(env: Mapping[str, str], random_password: str) -> str:
    """Write the SQL that makes a fresh server what the environment says.

    Raises:
        SetUpError: no way to log in is given, or two are.

    """
    password = setting(env, "ROOT_PASSWORD")
    if not password and setting(env, "RANDOM_ROOT_PASSWORD"):
        password = random_password
        print(f"GENERATED ROOT PASSWORD: {password}", flush=True)
    if not password and not setting(env, "ALLOW_EMPTY_ROOT_PASSWORD"):
        raise SetUpError(
            "the database is not set up and no password option is given: set one of"
            " MARIADB_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD and"
            " MARIADB_RANDOM_ROOT_PASSWORD"
        )
    host = setting(env, "ROOT_HOST") or "%"
    # Fresh servers know root at this machine's names, without a password, and a nobody.
    lines = ["DELETE FROM mysql.global_priv WHERE User IN ('', 'root');", "FLUSH PRIVILEGES;"]
    for where in dict.fromkeys(("localhost", host)):
        who = f"{_text('root')}@{_text(where)}"
        lines += [
            f"CREATE OR REPLACE USER {who} IDENTIFIED BY {_text(password)};",
            f"GRANT ALL ON *.* TO {who} WITH GRANT OPTION;",
        ]
    if database := setting(env, "DATABASE"):
        lines.append(f"CREATE DATABASE IF NOT EXISTS {_name(database)};")
    if user := setting(env, "USER"):
        secret = setting(env, "PASSWORD")
        if not secret:
            raise SetUpError(f"MARIADB_USER={user} needs MARIADB_PASSWORD")
        lines.append(f"CREATE OR REPLACE USER {_text(user)}@'%' IDENTIFIED BY {_text(secret)};")
        if database:
            # An underscore in a GRANT is a wildcard, unless escaped.
            pattern = _name(database.replace("_", r"\_").replace("%", r"\%"))
            lines.append(f"GRANT ALL ON {pattern}.* TO {_text(user)}@'%';")
    return "\n".join(lines) + "\n"


def set_up(data: Path, env: Mapping[str, str]) -> None:
    """Fill an empty data directory.

    Raises:
        SetUpError: it cannot be filled.

    """
    if (data / _MARK).exists():
        return
    sql = statements(env, secrets.token_urlsafe(18))
    install = _program("mariadb-install-db", "mysql_install_db")
    server = _program("mariadbd", "mysqld")
    data.mkdir(parents=True, exist_ok=True)
    for leftover in data.iterdir():
        if leftover.name == "lost+found":
            continue
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    as_root = ["--user=root"] if os.geteuid() == 0 else []
    base = [f"--datadir={data}", *as_root]
    _run(
        [
            install,
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            *base,
        ]
    )
    # The server itself carries the statements out, reachable by nobody, and ends.
    boot = [server, "--no-defaults", "--bootstrap", *base, "--skip-networking"]
    _run(boot, f"USE mysql;\nFLUSH PRIVILEGES;\n{sql}FLUSH PRIVILEGES;\n")
    (data / _MARK).write_text("set up by fsm\n")


def main() -> None:
    """Set the data directory up, then become the server."""
    data = _VOLUME if is_volume(_VOLUME) else _OWN
    try:
        server = _program("mariadbd", "mysqld")
        set_up(data, os.environ)
    except (SetUpError, OSError) as error:
        raise SystemExit(f"mariadb: {error}") from None
    _SOCKET.parent.mkdir(parents=True, exist_ok=True)
    words = [word for word in sys.argv[1:] if word not in ("mariadbd", "mysqld")]
    as_root = ["--user=root"] if os.geteuid() == 0 else []
    os.execv(
        server,
        [
            server,
            "--no-defaults",
            *as_root,
            f"--datadir={data}",
            f"--socket={_SOCKET}",
            "--bind-address=*",
            "--port=3306",
            # Asking the resolver for each client would make connecting as slow as that answers.
            "--skip-name-resolve",
            *words,
        ],
    )


def _program(*names: str) -> str:
    for name in names:
        if found := shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin"):
            return found
    raise SetUpError(f"{names[0]} is not installed\n{_HOW}")


def _run(words: list[str], feed: str = "") -> None:
    done = subprocess.run(words, input=feed, capture_output=True, text=True, check=False)
    if done.returncode or "ERROR:" in done.stderr:
        said = (done.stdout + done.stderr).strip().splitlines()[-8:]
        raise SetUpError(f"{Path(words[0]).name} failed:\n" + "\n".join(said))


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _name(value: str) -> str:
    return "`" + value.replace("`", "``") + "`"


if __name__ == "__main__":
    main()
