"""Namespaces in and out of the mesh: what changes, and what is refused."""

from __future__ import annotations

import pytest

from fsm.controllers import namespaces
from fsm.controllers.namespaces import MeshNamespace, NamespaceRefused, Removed
from fsm.kube import NotFound
from fsm.kube.resources import NAMESPACES

INJECTION = "flomesh.io/sidecar-injection"


def make(kube, name: str, labels=None, annotations=None) -> None:
    meta = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
    kube.put(NAMESPACES, {"metadata": meta})


def meta(kube, name: str):
    found = kube.objects[NAMESPACES]["", name]["metadata"]
    return found.get("labels"), found.get("annotations")


async def test_adding_labels_it_and_adding_again_changes_nothing(kube):
    make(kube, "shop", {"team": "a"}, {"note": "b"})
    assert await namespaces.add(kube, "shop", "fsm") is True
    assert meta(kube, "shop") == (
        {"team": "a", "flomesh.io/monitored-by": "fsm"},
        {"note": "b", INJECTION: "enabled"},
    )
    writes = len(kube.writes)
    assert await namespaces.add(kube, "shop", "fsm") is False
    assert len(kube.writes) == writes


async def test_adding_without_injection_says_so(kube):
    make(kube, "shop")
    assert await namespaces.add(kube, "shop", "fsm", sidecar_injection=False)
    assert meta(kube, "shop")[1] == {INJECTION: "disabled"}
    assert await namespaces.add(kube, "shop", "fsm"), "the switch alone is a change too"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"flomesh.io/ignore": "true"}, "ignored"),
        ({"openservicemesh.io/ignore": "true"}, "ignored"),
        ({"flomesh.io/monitored-by": "other"}, r"mesh \[other\]"),
        ({"app.kubernetes.io/name": "flomesh.io"}, "a control plane runs in it"),
    ],
)
async def test_what_is_ignored_or_taken_is_refused(kube, labels, words):
    make(kube, "shop", labels)
    with pytest.raises(NamespaceRefused, match=words):
        await namespaces.add(kube, "shop", "fsm")


async def test_a_missing_namespace_is_said_to_be_missing(kube):
    for call in (namespaces.add, namespaces.remove):
        with pytest.raises(NotFound):
            await call(kube, "nowhere", "fsm")


async def test_removing_undoes_adding_old_names_included(kube):
    make(
        kube,
        "shop",
        {"team": "a", "flomesh.io/monitored-by": "fsm", "openservicemesh.io/monitored-by": "fsm"},
        {"note": "b", INJECTION: "enabled", "flomesh.io/metrics": "enabled"},
    )
    assert await namespaces.remove(kube, "shop", "fsm") is Removed.FROM_THE_MESH
    assert meta(kube, "shop") == ({"team": "a"}, {"note": "b"})
    assert await namespaces.remove(kube, "shop", "fsm") is Removed.FROM_NOTHING


async def test_removing_what_is_ignored_has_it_heeded_again(kube):
    make(kube, "quiet")
    await namespaces.ignore(kube, "quiet")
    assert await namespaces.remove(kube, "quiet", "fsm") is Removed.FROM_THE_IGNORED
    assert await namespaces.add(kube, "quiet", "fsm")


async def test_another_meshs_namespace_is_not_removed(kube):
    make(kube, "shop", {"flomesh.io/monitored-by": "other"})
    with pytest.raises(NamespaceRefused):
        await namespaces.remove(kube, "shop", "fsm")


async def test_the_list_says_mesh_and_injection_in_order_of_name(kube):
    make(kube, "z", {"flomesh.io/monitored-by": "fsm"}, {INJECTION: "yes"})
    make(kube, "a", {"openservicemesh.io/monitored-by": "fsm"}, {INJECTION: "disabled"})
    make(kube, "m", {"flomesh.io/monitored-by": "other"})
    make(kube, "plain")
    make(kube, "quiet")
    await namespaces.ignore(kube, "quiet")
    assert await namespaces.list_(kube) == [
        MeshNamespace("a", "fsm", "disabled"),
        MeshNamespace("m", "other", "-"),
        MeshNamespace("quiet", "-", "disabled (ignored)"),
        MeshNamespace("z", "fsm", "enabled"),
    ]
    assert [n.name for n in await namespaces.list_(kube, "fsm")] == ["a", "z"]
