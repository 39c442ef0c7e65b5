"""Settings, refusals in words, the supervisor's table, log lines."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from fsm.standalone.box import enter, syscalls
from fsm.standalone.box.children import HeldSockets, children, environment
from fsm.standalone.box.logformat import Lines
from fsm.standalone.box.settings import SettingsError, StandaloneSettings, default_state_dir


def test_settings_survive_the_way_to_pid_1(tmp_path: Path) -> None:
    made = StandaloneSettings(tmp_path, 0, image_map=tmp_path / "i", upstream_dns=("1.1.1.1",))
    assert StandaloneSettings.from_json(made.to_json()) == made
    made.check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pod_cidr": "10.96.0.0/20"}, "overlap"),
        ({"pod_cidr": "nonsense"}, "not an IPv4 network"),
        ({"pod_cidr": "10.244.0.0/30"}, "at least 16 addresses"),
        ({"dns_ip": "10.1.1.1"}, "not in service_cidr"),
        ({"api_port": 70000}, "not a port number"),
        ({"state_dir": Path("/run/fsm")}, "must not be below /run"),
        ({"state_dir": Path("/x" * 60)}, "too long for sockets"),
        ({"state_dir": Path("/")}, "must not contain fsm itself"),
    ],
)
def test_setting_that_cannot_work_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        StandaloneSettings.default(**({"state_dir": Path("/tmp/x")} | change)).check()


def test_all_problems_are_told_at_once() -> None:
    wrong = StandaloneSettings(Path("/run/x"), -1, pod_cidr="a", dns_ip="b")
    with pytest.raises(SettingsError) as caught:
        wrong.check()
    assert len(str(caught.value).splitlines()) == 3


def test_state_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSM_HOME", "/somewhere/else")
    assert default_state_dir() == Path("/somewhere/else")
    monkeypatch.delenv("FSM_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/state/of/me")
    assert default_state_dir() == Path("/state/of/me/fsm")


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ],
)
def test_refusal_names_the_setting_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, advice: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    path = tmp_path / setting
    path.parent.mkdir()
    path.write_text(value + "\n")
    text = enter.explain_refusal(OSError(errno.EPERM, "Operation not permitted"), tmp_path)
    assert f"hint: sudo sysctl -w {advice}" in text


def test_refusal_without_a_known_cause_still_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    text = enter.explain_refusal(OSError(errno.EPERM, "Operation not permitted"), tmp_path)
    assert "Operation not permitted" in text
    assert "hint: " in text


def test_every_child_gets_its_sockets_and_only_the_node_is_drained(tmp_path: Path) -> None:
    table = children(StandaloneSettings(tmp_path), HeldSockets((7,), (8, 9)))
    assert {child.name: (child.fds, child.drain) for child in table} == {
        "apiserver": ((7,), False),
        "kube-controllers": ((), False),
        "node": ((8, 9), True),
    }


def test_children_see_no_secrets_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_PASSWORD", "hunter2")
    assert "CLOUD_PASSWORD" not in environment("id")


def test_start_time_tells_a_process_from_its_successor() -> None:
    mine = syscalls.start_ticks(os.getpid())
    assert mine is not None
    assert syscalls.start_ticks("self") == mine
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    # Ended but not buried: as good as gone.
    assert syscalls.start_ticks(pid) is None
    os.waitpid(pid, 0)
    assert syscalls.start_ticks(pid) is None


def test_log_line_holds_its_fields_on_one_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "Pod waits", (), None)
    record.why = "no\nroute"
    line = Lines().format(record)
    assert line.endswith(r"INFO    Pod waits why='no\nroute'")
