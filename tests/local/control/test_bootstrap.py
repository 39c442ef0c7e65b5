"""What a controller makes before it can work: MeshConfig, from whatever there is."""

from __future__ import annotations

from dataclasses import replace

from controlworld import install, settings

from fsm.controllers import bootstrap
from fsm.kube.resources import MESHCONFIGS
from fsm.policies import parse

OLDER = replace(MESHCONFIGS, group="config.openservicemesh.io", version="v1alpha2")


def older(kube, name: str, **traffic) -> None:
    """A MeshConfig as an Open Service Mesh left it, stored in the version that we serve last."""
    found = {"metadata": {"name": name, "namespace": "fsm-system"}, "spec": {"traffic": traffic}}
    kube.put(replace(OLDER, version=MESHCONFIGS.version), found)


async def test_a_mesh_config_of_the_older_generation_is_taken_over(kube):
    install(kube)
    older(kube, "fsm-mesh-config", enableEgress=False)
    await bootstrap.ensure_mesh_config(kube, settings())
    (made,) = kube.objects[MESHCONFIGS].values()
    assert made["spec"] == {"traffic": {"enableEgress": False}}
    assert not parse(made).traffic.enable_egress


async def test_what_is_there_already_stays(kube):
    install(kube)
    spec = {"traffic": {"enableEgress": True}}
    meta = {"name": "fsm-mesh-config", "namespace": "fsm-system"}
    kube.put(MESHCONFIGS, {"metadata": meta, "spec": spec})
    older(kube, "fsm-mesh-config", enableEgress=False)
    await bootstrap.ensure_mesh_config(kube, settings())
    (kept,) = kube.objects[MESHCONFIGS].values()
    assert kept["spec"] == spec


async def test_without_one_the_preset_is_followed(kube):
    install(kube)
    older(kube, "another")
    await bootstrap.ensure_mesh_config(kube, settings())
    (made,) = kube.objects[MESHCONFIGS].values()
    assert made["spec"]["traffic"]["enablePermissiveTrafficPolicyMode"] is True


def test_a_control_plane_of_the_older_documents_follows_their_name():
    from fsm.settings import Settings

    assert Settings().mesh_config_name == "fsm-mesh-config"
    assert Settings(fsm_namespace="osm-system").mesh_config_name == "osm-mesh-config"
