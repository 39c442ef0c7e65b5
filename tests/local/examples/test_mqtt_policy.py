"""The MQTT policy engine before a real Mosquitto, asked by its clients and by paho: 3.1.1 and 5."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from .conftest import EXAMPLES, PATIENCE, PIPY, Start, free_port, said_and_done

EXAMPLE = EXAMPLES / "01-mqtt-policy"
VERSIONS = [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5]


@pytest.fixture
def ports(start: Start) -> tuple[int, int, Path]:
    """The proxy's port, the broker's, and the proxy's log."""
    broker, proxy = free_port(), free_port()
    start(broker, "/usr/sbin/mosquitto", "-p", str(broker))
    log = start(
        proxy, PIPY, EXAMPLE / "main.js", PORT=f"127.0.0.1:{proxy}", BROKER=f"127.0.0.1:{broker}"
    )
    return proxy, broker, log


class Peer:
    """A client that waits for what it asks."""

    def __init__(self, client: paho.Client) -> None:
        self.client = client
        self.connected: ReasonCode | None = None
        self.codes: list[ReasonCode] = []
        self.messages: list[tuple[str, bytes]] = []
        self._changed = threading.Condition()
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _on_connect(self, _c: object, _u: object, _f: object, code: ReasonCode, _p: object) -> None:
        self.connected = code
        self._tell()

    def _on_subscribe(
        self, _c: object, _u: object, _m: int, codes: list[ReasonCode], _p: object
    ) -> None:
        self.codes.extend(codes)
        self._tell()

    def _on_publish(self, _c: object, _u: object, _m: int, code: ReasonCode, _p: object) -> None:
        self.codes.append(code)
        self._tell()

    def _on_message(self, _c: object, _u: object, message: paho.MQTTMessage) -> None:
        self.messages.append((message.topic, bytes(message.payload)))
        self._tell()

    def until(self, what: str, attribute: str, count: int = 1) -> None:
        """Wait until so much has come."""

        def there() -> bool:
            value = getattr(self, attribute)
            return value is not None and (not isinstance(value, list) or len(value) >= count)

        with self._changed:
            assert self._changed.wait_for(there, PATIENCE), f"waited in vain for {what}"


@contextmanager
def peer(port: int, user: str, password: str, version: MQTTProtocolVersion) -> Iterator[Peer]:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version, reconnect_on_failure=False)
    client.username_pw_set(user, password)
    made = Peer(client)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        made.until("CONNACK", "connected")
        yield made
    finally:
        client.disconnect()
        client.loop_stop()


def test_the_commands_of_the_readme_show_what_it_says(ports: tuple[int, int, Path]) -> None:
    proxy, broker, _log = ports
    results = said_and_done(EXAMPLE / "README.md", {1883: proxy, 11883: broker})
    assert len(results) == 6
    for command, expected, got in results:
        assert got == expected, command


@pytest.mark.parametrize("version", VERSIONS, ids=["3.1.1", "5"])
def test_what_is_allowed_arrives_and_nothing_else(
    ports: tuple[int, int, Path], version: MQTTProtocolVersion
) -> None:
    proxy, _broker, _log = ports
    with (
        peer(proxy, "admin", "adm1n", version) as admin,
        peer(proxy, "sensor", "s3cret", version) as sensor,
    ):
        admin.client.subscribe("plant/#", qos=2)
        admin.until("SUBACK", "codes")
        assert [code.is_failure for code in admin.codes] == [False]
        for qos in (0, 1, 2):
            sensor.client.publish("plant/line1/valve", b"open", qos=qos)
        sensor.until("answers to what was refused", "codes", 3)
        for qos in (0, 1, 2):
            sensor.client.publish("plant/line1/temperature", f"t{qos}".encode(), qos=qos)
        sensor.until("answers to what was allowed", "codes", 6)
        admin.until("what the sensor measured", "messages", 3)
        assert admin.messages == [
            ("plant/line1/temperature", f"t{qos}".encode()) for qos in (0, 1, 2)
        ]
        # 3.1.1 has no word for a refusal; 5 has. Of QoS 2 paho only tells what PUBCOMP says.
        failures = [code.is_failure for code in sensor.codes]
        assert sum(failures) == (1 if version == MQTTProtocolVersion.MQTTv5 else 0)


@pytest.mark.parametrize("version", VERSIONS, ids=["3.1.1", "5"])
def test_logins_and_subscriptions_are_refused_in_words_of_the_client(
    ports: tuple[int, int, Path], version: MQTTProtocolVersion
) -> None:
    proxy, _broker, log = ports
    with peer(proxy, "sensor", "guessed", version) as stranger:
        assert stranger.connected is not None
        assert stranger.connected.getName() == "Not authorized"
    with peer(proxy, "sensor", "s3cret", version) as sensor:
        sensor.client.subscribe([("plant/line1/#", 1), ("$SYS/#", 0)])
        sensor.until("SUBACK", "codes", 2)
        assert [code.is_failure for code in sensor.codes] == [True, True]
    assert "refused CONNECT of sensor" in log.read_text()
    assert "refused SUBSCRIBE of sensor" in log.read_text()


def test_a_large_message_is_refused_and_the_connection_stays(ports: tuple[int, int, Path]) -> None:
    proxy, _broker, _log = ports
    with peer(proxy, "admin", "adm1n", MQTTProtocolVersion.MQTTv5) as admin:
        admin.client.subscribe("a", qos=1)
        admin.until("SUBACK", "codes")
        admin.client.publish("a", b"x" * 65537, qos=1)
        admin.client.publish("a", b"y" * 65536, qos=1)
        admin.until("both answers", "codes", 3)
        admin.until("the smaller one", "messages")
        assert admin.messages == [("a", b"y" * 65536)]


def test_garbage_ends_its_connection_only(ports: tuple[int, int, Path]) -> None:
    proxy, _broker, log = ports
    with socket.create_connection(("127.0.0.1", proxy), timeout=PATIENCE) as garbage:
        garbage.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            assert garbage.recv(100) == b""
    assert "malformed MQTT" in log.read_text()
    with peer(proxy, "admin", "adm1n", MQTTProtocolVersion.MQTTv5) as admin:
        assert admin.connected is not None
        assert not admin.connected.is_failure
