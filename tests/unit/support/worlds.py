"""Random meshes: two namespaces, six workloads, whatever policies come to mind.

In: hypothesis. Out: ``World``. Invariants: every world is valid; some of what it names is missing.
"""

from __future__ import annotations

from hypothesis import strategies as st
from world import World, port

NAMESPACES = ["a", "b"]
NAMES = ["one", "two", "three"]
WORKLOADS = [(namespace, name) for namespace in NAMESPACES for name in NAMES]
PATHS = [".*", "/x", "^/y$", "/"]
PORTS = [port(80), port(80, 8080), port(80, app="tcp"), port(80, name="grpc-x")]

workload = st.sampled_from(WORKLOADS)
pair = st.tuples(workload, workload)


@st.composite
def worlds(draw: st.DrawFn, *, permissive: bool | None = None) -> World:
    world = World()
    for namespace in NAMESPACES:
        world.namespace(namespace)
    world.mesh(
        permissive=draw(st.booleans()) if permissive is None else permissive,
        egress=draw(st.booleans()),
        mode=draw(st.sampled_from(["domain", "mixed", "ip"])),
    )
    bytes_only: dict[tuple[str, str], bool] = {}
    for namespace, name in WORKLOADS:
        service_port = draw(st.sampled_from(PORTS))
        bytes_only[namespace, name] = "appProtocol" in service_port
        sidecar, ready = draw(st.integers(0, 5)) > 0, draw(st.integers(0, 5)) > 0
        for index in range(draw(st.integers(1, 2))):
            world.pod(
                namespace,
                f"{name}-{index}",
                account=draw(st.sampled_from([name, "shared"])),
                labels={"app": name},
                sidecar=sidecar,
                ready=ready,
            )
        headless = draw(st.integers(0, 4)) == 0
        world.service(namespace, name, service_port, headless=headless)
    for namespace in NAMESPACES:
        world.tcp_route(namespace, "tcp")
        world.group(
            namespace,
            "g",
            *({"name": f"m{i}", "pathRegex": path} for i, path in enumerate(PATHS)),
        )
    for index, (source, destination) in enumerate(draw(st.lists(pair, max_size=5))):
        matches = draw(st.lists(st.sampled_from(["m0", "m1", "m2", "m3", "missing"]), max_size=2))
        rules = [("HTTPRouteGroup", "g", *matches)]
        if draw(st.booleans()):
            rules.append(("TCPRoute", "tcp"))
        world.target(f"t{index}", destination, [source], *rules)
    for index, apex in enumerate(draw(st.lists(workload, max_size=2))):
        # A backend that speaks another protocol than its apex is a mistake that assess tells.
        alike = [n for n in NAMES if bytes_only[apex[0], n] == bytes_only[apex]]
        names = draw(st.lists(st.sampled_from([*alike, "gone"]), min_size=1, unique=True))
        weights = {name: draw(st.integers(0, 3)) for name in names}
        groups = draw(st.sampled_from([(), ("g",)]))
        world.split(apex[0], f"s{index}", apex[1], weights, *groups)
    return world
