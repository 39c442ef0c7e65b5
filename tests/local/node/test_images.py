"""The images of the documents, each started by its name and asked for what it is there for."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import pytest
from box_world import Box, apply, pod, until

pytestmark = pytest.mark.box


def _pod(name: str, image: str, **container: Any) -> dict[str, Any]:
    made = pod(name)
    made["spec"]["containers"] = [{"name": "main", "image": image, **container}]
    made["spec"]["terminationGracePeriodSeconds"] = 1
    return made


async def _answers(box: Box, namespace: str, name: str, script: str, expected: str) -> None:
    async def asked() -> bool:
        outcome = await box.run(namespace, name, script)
        said = outcome["stdout"] + outcome["stderr"]
        assert expected in said, f"{said}\n{box.kubectl('logs', name, '-n', namespace)}"
        return True

    await until(asked, f"{name} answers {expected!r}", 60)


def needs(program: str) -> pytest.MarkDecorator:
    found = (
        importlib.util.find_spec(program)
        if program == "httpbin"
        else shutil.which(program, path="/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    )
    return pytest.mark.skipif(found is None, reason=f"{program} is not installed")


_ASK = "python3 -c \"import socket; s=socket.create_connection(('127.0.0.1', {port})); {do}\""
_TALK = "s.sendall(b{say!r}); s.settimeout(2); print(s.recv(4000).decode())"


def _socket(port: int, say: str) -> str:
    return _ASK.format(port=port, do=_TALK.format(say=say).replace('"', "'"))


#: An MQTT 3.1.1 CONNECT of client "abc".
CONNECT = "100f00044d5154540402003c0003616263"

AFTER_THE_END = """
import socketserver

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read())

socketserver.TCPServer(("127.0.0.1", 9000), Echo).serve_forever()
"""

CASES = [
    pytest.param(
        _pod(
            "echo", "flomesh/tcp-echo-server", command=["/tcp-echo-server"], args=["--port", "9000"]
        ),
        _socket(9000, "hello\n"),
        "echo response: hello",
        id="tcp-echo",
    ),
    pytest.param(
        _pod(
            "httpbin",
            "flomesh/httpbin:ken",
            command=["gunicorn", "-b", "0.0.0.0:14001", "httpbin:app", "-k", "gevent"],
        ),
        "curl -sS 127.0.0.1:14001/headers",
        '"Host": "127.0.0.1:14001"',
        id="httpbin",
        marks=needs("httpbin"),
    ),
    pytest.param(
        _pod("fortio", "fortio/fortio:latest_release"),
        "curl -sS -d hello 127.0.0.1:8080/echo",
        "hello",
        id="fortio",
        marks=needs("fortio"),
    ),
    pytest.param(
        # The server waits for the end of the input, of which only busybox's nc tells.
        _pod("nc", "curlimages/curl", command=["python3", "-c", AFTER_THE_END]),
        "timeout 20 sh -c 'echo hello | nc 127.0.0.1 9000'",
        "hello",
        id="nc",
        marks=needs("nc.openbsd"),
    ),
    pytest.param(
        _pod("redis", "redis:7"),
        _socket(6379, "PING\r\n"),
        "+PONG",
        id="redis",
        marks=needs("redis-server"),
    ),
    pytest.param(
        _pod("nginx", "nginx:1.25", command=["nginx"], args=["-g", "daemon off;"]),
        "echo it works > /usr/share/nginx/html/index.html; curl -sS 127.0.0.1:80",
        "it works",
        id="nginx",
        marks=needs("nginx"),
    ),
    pytest.param(
        _pod("mosquitto", "eclipse-mosquitto:2"),
        _ASK.format(
            port=1883,
            do=f"s.sendall(bytes.fromhex('{CONNECT}')); print(s.recv(9).hex())",
        ),
        "20020000",
        id="mosquitto",
        marks=needs("mosquitto"),
    ),
    pytest.param(
        _pod(
            "mariadb",
            "mariadb:10.7.4",
            env=[
                {"name": "MYSQL_ROOT_PASSWORD", "value": "my'pass\\word"},
                {"name": "MYSQL_DATABASE", "value": "booksdemo"},
                {"name": "MYSQL_USER", "value": "reader"},
                {"name": "MYSQL_PASSWORD", "value": "secret"},
            ],
        ),
        "MYSQL_PWD=\"my'pass\\\\word\" mariadb -h127.0.0.1 -uroot -e 'show databases' &&"
        " MYSQL_PWD=secret mariadb -h127.0.0.1 -ureader booksdemo -e 'create table t (n int)'"
        " && echo written",
        "written",
        id="mariadb",
        marks=needs("mariadbd"),
    ),
    pytest.param(
        _pod(
            "prometheus",
            "prom/prometheus:v2.50.0",
            command=[
                "sh",
                "-c",
                "echo 'global: {}' > /tmp/p.yml;"
                " exec prometheus --config.file=/tmp/p.yml --storage.tsdb.path=/tmp/data",
            ],
        ),
        "curl -sS 127.0.0.1:9090/-/ready",
        "Ready",
        id="prometheus",
        marks=needs("prometheus"),
    ),
]


@pytest.mark.parametrize(("made", "script", "expected"), CASES)
async def test_image(
    box: Box, namespace: str, made: dict[str, Any], script: str, expected: str
) -> None:
    apply(box, namespace, made)
    await _answers(box, namespace, made["metadata"]["name"], script, expected)


async def test_unknown_image_says_how_to_add_it_and_starts_once_it_is(
    box: Box, namespace: str
) -> None:
    apply(box, namespace, _pod("shop", "registry.example/shop/web:1"))

    async def told() -> Any:
        return "images.yaml" in (
            text := box.kubectl("get", "pod", "shop", "-n", namespace, "-o", "yaml")
        ) and ("ErrImagePull" in text or "ImagePullBackOff" in text)

    await until(told, "the Pod says where images are mapped")
    path = box.settings.state_dir / "images.yaml"
    path.write_text('"shop/web": {entrypoint: [sleep], cmd: ["1000"]}\n')
    try:
        box.kubectl("wait", "-n", namespace, "pod/shop", "--for=condition=Ready", "--timeout=60s")
    finally:
        path.unlink()
