"""Who is kept off the node: nobody, unless somebody said so."""

from __future__ import annotations

from typing import Any

import pytest

from fsm.standalone.node.scheduling import why_not

TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


def pod(*tolerations: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"nodeSelector": {"disk": "ssd"}, "tolerations": list(tolerations)}}


def node(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


def test_a_node_takes_pods_until_it_is_cordoned() -> None:
    assert why_not(pod(), None) == ""
    assert why_not(pod(), node()) == ""
    assert "were unschedulable" in why_not(pod(), node(unschedulable=True))
    everything = {"operator": "Exists"}
    assert why_not(pod(everything), node(unschedulable=True, taints=[TAINT])) == ""


@pytest.mark.parametrize(
    ("toleration", "taken"),
    [
        ({"key": "gpu", "value": "yes"}, True),
        ({"key": "gpu", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "gpu", "value": "yes", "effect": "NoExecute"}, False),
        ({}, False),
    ],
)
def test_a_taint_keeps_out_who_does_not_tolerate_it(
    toleration: dict[str, Any], taken: bool
) -> None:
    said = why_not(pod(toleration), node(taints=[TAINT]))
    assert (said == "") is taken
    assert taken or "untolerated taint {gpu: yes}" in said


def test_a_taint_that_only_prefers_keeps_nobody_out() -> None:
    assert why_not(pod(), node(taints=[TAINT | {"effect": "PreferNoSchedule"}])) == ""
