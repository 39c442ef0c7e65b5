"""Real servers and clients of protocols that are bytes to the mesh, through a pair with mTLS.

MariaDB and SMTP speak first: a pair that waits for the client would never reach them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import smtplib
import socket
from pathlib import Path

import pytest
from proxyrig import config
from proxyrig.certs import spiffe
from proxyrig.waiting import until
from proxyrig.wire import Address

BUYER, STORE = spiffe("bookbuyer"), spiffe("bookstore")


async def pair(rig, authority, app: Address, protocol: str) -> Address:
    """Start two sidecars before an application; give the address that its clients call."""
    server = await rig.pipy(member=authority.member(STORE))
    client = await rig.pipy(member=authority.member(BUYER))
    match = config.tcp_match(
        server.inbound.port, protocol=protocol, allowed=config.allow(BUYER), hosts=[]
    )
    cluster = config.cluster(config.endpoint(app))
    await server.apply(
        config.whole(identity=STORE, inbound={"matches": [match]}, clusters={"app": cluster})
    )
    match = config.tcp_match(client.outbound.port, protocol=protocol)
    cluster = config.cluster(config.endpoint(server.inbound, STORE))
    await client.apply(
        config.whole(identity=BUYER, outbound={"matches": [match]}, clusters={"app": cluster})
    )
    return client.outbound


def free_port() -> int:
    """Give a port that a server which cannot choose one itself is told to use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextlib.asynccontextmanager
async def program(port: int, *command: str, **options: object):
    """Run a server until the test has ended."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        **options,  # type: ignore[arg-type]
    )
    try:
        await until(lambda: answers(port) or process.returncode is not None, command[0], 30)
        assert process.returncode is None, f"{command[0]} ended"
        yield Address("127.0.0.1", port)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, (command, out.decode())
    return out.decode()


def needs(*commands: str) -> pytest.MarkDecorator:
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    missing = [command for command in commands if not shutil.which(command, path=path)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {missing}; see tools/setup peers")


@needs("redis-server", "redis-cli")
@pytest.mark.parametrize("protocol", ["tcp", "auto"])
async def test_redis(rig, authority, tmp_path: Path, protocol):
    port = free_port()
    # Redis takes 127.0.0.6, from where the sidecar calls it, for an address outside of the machine.
    command = ("redis-server", "--port", str(port), "--protected-mode", "no", "--save", "")
    async with program(port, *command, "--dir", str(tmp_path)) as app:
        at = await pair(rig, authority, app, protocol)
        cli = ("redis-cli", "-h", at.host, "-p", str(at.port))
        assert (await run(*cli, "SET", "book", "x" * 100_000)).strip() == "OK"
        assert (await run(*cli, "GET", "book")).strip() == "x" * 100_000
        seen = await run(*cli, "--pipe-timeout", "10", "-r", "200", "INCR", "count")
        assert seen.split()[-1] == "200"


@needs("mosquitto", "mosquitto_pub", "mosquitto_sub")
@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
async def test_mqtt(rig, authority, tmp_path: Path, version):
    port = free_port()
    told = tmp_path / "mosquitto.conf"
    told.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    mosquitto = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") or "mosquitto"
    async with program(port, mosquitto, "-c", str(told)) as app:
        at = await pair(rig, authority, app, "tcp")
        where = ("-h", at.host, "-p", str(at.port), "-V", version, "-t", "shop/orders")
        # Retained: whoever comes later hears it, whenever it subscribes.
        await run("mosquitto_pub", *where, "-r", "-q", "1", "-m", "one book")
        assert (await run("mosquitto_sub", *where, "-q", "1", "-C", "1")).strip() == "one book"


@pytest.mark.parametrize("protocol", ["tcp-server-first", "tcp", "auto"])
async def test_smtp(rig, authority, protocol):
    from aiosmtpd.smtp import SMTP

    letters: list[bytes] = []

    class Handler:
        async def handle_DATA(self, server, session, envelope):
            letters.append(envelope.content)
            return "250 taken"

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: SMTP(Handler()), "127.0.0.1", 0)
    try:
        app = Address("127.0.0.1", listening.sockets[0].getsockname()[1])
        at = await pair(rig, authority, app, protocol)

        def send() -> None:
            with smtplib.SMTP(at.host, at.port, timeout=10) as client:
                client.sendmail(
                    "a@shop.example", ["b@shop.example"], "Subject: books\r\n\r\nx" * 500
                )

        await asyncio.to_thread(send)
        assert len(letters) == 1
        assert letters[0].count(b"Subject: books") == 500
    finally:
        listening.close()
        await listening.wait_closed()


@needs("mariadbd", "mariadb-install-db", "mariadb")
async def test_mariadb(rig, authority, tmp_path: Path):
    data, port = tmp_path / "data", free_port()
    user = ("--user=root",) if os.geteuid() == 0 else ()
    await run(
        "mariadb-install-db",
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        *user,
    )
    mariadbd = shutil.which("mariadbd", path=os.environ["PATH"] + ":/usr/sbin") or "mariadbd"
    command = (
        mariadbd,
        "--no-defaults",
        f"--datadir={data}",
        f"--socket={tmp_path / 's'}",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--skip-grant-tables",
        "--skip-networking=0",
        "--innodb-buffer-pool-size=8M",
        *user,
    )
    async with program(port, *command) as app:
        at = await pair(rig, authority, app, "tcp-server-first")
        sql = "CREATE DATABASE shop; USE shop; CREATE TABLE b (t TEXT);"
        sql += "INSERT INTO b VALUES (REPEAT('x', 60000)); SELECT LENGTH(t), COUNT(*) FROM b"
        cli = ("mariadb", "--no-defaults", "--skip-ssl", "-h", at.host, "-P", str(at.port))
        seen = await run(*cli, "--protocol=tcp", "-N", "-e", sql)
        assert seen.split() == ["60000", "1"]
