"""Kinds and their URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm.kube import resources as res


def test_paths_of_collections_objects_and_subresources() -> None:
    assert res.PODS.path() == "/api/v1/pods"
    assert res.PODS.path("shop") == "/api/v1/namespaces/shop/pods"
    assert res.PODS.path("shop", "p", "log") == "/api/v1/namespaces/shop/pods/p/log"
    assert res.NAMESPACES.path("ignored", "shop") == "/api/v1/namespaces/shop"
    assert res.DEPLOYMENTS.path("n", "d") == "/apis/apps/v1/namespaces/n/deployments/d"
    assert res.SERVICES.path("n", "s:http", "proxy").endswith("/services/s:http/proxy")


@pytest.mark.parametrize(
    "arguments", [(None, "p"), ("n", None, "status"), ("n", ""), ("", "p")], ids=str
)
def test_paths_that_would_mean_something_else_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"need|empty"):
        res.PODS.path(*arguments)


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_name_escapes_its_place(namespace: str, name: str) -> None:
    path = res.PODS.path(namespace, name)
    assert path.count("/") == res.PODS.path("n", "p").count("/")
    assert "?" not in path
    assert "#" not in path


def test_objects_are_named_for_people() -> None:
    assert res.PODS.describe("shop", "web") == "Pod shop/web"
    assert res.NAMESPACES.describe(None, "shop") == "Namespace shop"
    assert res.PODS.describe("shop") == "pods in shop"
    assert res.PODS.describe() == "pods"
