"""Plugins in compiled configurations: chains, scripts, what Services tell them, statuses."""

import pytest
from world import World, port

from fsm.compile import Change, IncrementalCompiler, assess
from fsm.compile.contract import BUILT_IN_CHAINS, ProxyConfig
from fsm.model import Key
from fsm.policies.plugin.compile import text_of

SHOP = {"podSelector": {"matchLabels": {"app": "till"}}}
TILL = {"kind": "Service", "name": "till", "namespace": "shop"}


def shop(*, enabled: bool = True, permissive: bool = True, **mesh: object) -> World:
    world = World().namespace("shop").namespace("fsm-system", monitored=False)
    world.mesh(permissive=permissive, featureFlags={"enablePluginPolicy": enabled}, **mesh)
    world.workload("shop", "till", port(80))
    return world.workload("shop", "echo", port(9000, app="tcp"))


def stages(config: ProxyConfig, chain: str) -> list[str]:
    return [stage for stage in getattr(config.chains, chain) if stage.startswith("plugins/")]


def told(config: ProxyConfig, service: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for half in (config.inbound, config.outbound):
        for match in half.matches if half else ():
            rules = [*match.hosts, *([match.tcp] if match.tcp else [])]
            for rule in rules:
                if rule.service == service:
                    found.update(dict(rule.plugins.texts))
    return found


def status(world: World, kind: str, name: str) -> tuple[str, str]:
    (found,) = [s for s in assess(world.snapshot()) if (s.kind, s.name) == (kind, name)]
    return found.current_status, found.reason


def test_a_plugin_stands_where_its_priority_says() -> None:
    world = shop().plugin("verifier").plugin("first", priority=1000).plugin("cors", priority=165)
    world.plugin_chain("shop", "all", "inbound-http", "verifier", "first", "cors", **SHOP)
    chain = world.compile("shop", "till").chains.inbound_http
    assert chain[0] == "plugins/first.js"
    place = {stage: index for index, stage in enumerate(chain)}
    routing, metrics = (f"modules/inbound-{name}-http.js" for name in ("http", "metrics"))
    routing = "modules/inbound-http-routing.js"
    assert place[routing] + 1 == place["plugins/cors.js"] == place[metrics] - 1
    balancing = place["modules/inbound-http-load-balancing.js"]
    assert place["modules/inbound-throttle-route.js"] + 1 == place["plugins/verifier.js"]
    assert place["plugins/verifier.js"] == balancing - 1
    assert [s for s in chain if s.startswith("modules/")] == list(BUILT_IN_CHAINS["inbound-http"])


def test_of_equal_priorities_a_built_in_stage_comes_first_then_policies_by_name() -> None:
    world = shop().plugin("b", priority=110).plugin("a", priority=110).plugin("c", priority=110)
    world.plugin_chain("shop", "z-first", "outbound-tcp", "a", **SHOP)
    world.plugin_chain("shop", "a-first", "outbound-tcp", "c", "b", **SHOP)
    assert world.compile("shop", "till").chains.outbound_tcp == (
        "modules/outbound-tcp-routing.js",
        "modules/outbound-tcp-load-balancing.js",
        "plugins/c.js",
        "plugins/b.js",
        "plugins/a.js",
        "modules/outbound-tcp-default.js",
    )


@pytest.mark.parametrize(
    ("selectors", "chosen"),
    [
        ({}, {"till", "echo"}),
        ({"podSelector": {}, "namespaceSelector": {}}, {"till", "echo"}),
        (SHOP, {"till"}),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["till"]}]
                }
            },
            {"echo"},
        ),
        (SHOP | {"namespaceSelector": {"matchLabels": {"kind": "other"}}}, set()),
        (
            {
                "namespaceSelector": {
                    "matchExpressions": [
                        {"key": "flomesh.io/monitored-by", "operator": "In", "values": ["fsm"]}
                    ]
                },
                "podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
            },
            {"till", "echo"},
        ),
        (
            {
                "podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]},
            },
            set(),
        ),
    ],
)
def test_both_selectors_must_fit(selectors: dict[str, object], chosen: set[str]) -> None:
    world = shop().plugin("verifier")
    world.plugin_chain("shop", "all", "inbound-http", "verifier", **selectors)
    configs = {key.name: config for key, config in world.compile_all().items()}
    assert {name for name, c in configs.items() if stages(c, "inbound_http")} == chosen
    assert {name for name, config in configs.items() if config.plugins} == chosen
    if not chosen:
        assert status(world, "PluginChain", "all")[0] == "NoWorkload"


def test_a_script_goes_to_those_who_run_it() -> None:
    world = shop().plugin("verifier", "pipy().pipeline().dummy()").plugin("unused")
    world.plugin_chain("shop", "all", "inbound-http", "verifier", "not-there", **SHOP)
    (plugin,) = world.compile("shop", "till").plugins
    assert (plugin.name, plugin.origin) == ("verifier", "Plugin/verifier")
    assert plugin.script == "pipy().pipeline().dummy()"
    assert status(world, "Plugin", "unused") == ("NotReferenced", "no PluginChain names it")
    assert status(world, "Plugin", "verifier")[0] == "Programmed"
    assert status(world, "PluginChain", "all") == (
        "RefNotFound",
        "Plugin not-there does not exist",
    )


def test_a_chain_of_a_namespace_that_is_not_in_the_mesh_counts_for_nothing() -> None:
    world = shop().namespace("elsewhere", monitored=False).plugin("verifier")
    world.plugin_chain("elsewhere", "all", "inbound-http", "verifier")
    world.plugin_config("elsewhere", "told", "verifier", {"a": 1}, TILL)
    config = world.compile("shop", "till")
    assert (stages(config, "inbound_http"), told(config, "shop/till")) == ([], {})
    assert status(world, "PluginChain", "all")[0] == "NoEffect"


def test_nothing_happens_while_plugins_are_switched_off() -> None:
    world = shop(enabled=False).plugin("verifier")
    world.plugin_chain("shop", "all", "inbound-http", "verifier")
    world.plugin_config("shop", "told", "verifier", {"a": 1}, TILL)
    config = world.compile("shop", "till")
    assert (stages(config, "inbound_http"), config.plugins) == ([], ())
    assert told(config, "shop/till") == {}
    for kind, name in (("Plugin", "verifier"), ("PluginChain", "all"), ("PluginConfig", "told")):
        assert status(world, kind, name)[0] == "NotEnabled"


def test_a_service_tells_the_plugins_of_its_own_pods_and_of_its_clients() -> None:
    world = shop().plugin("in").plugin("out").plugin("nowhere")
    world.plugin_chain("shop", "in", "inbound-http", "in", **SHOP)
    world.plugin_chain("shop", "out", "outbound-http", "out")
    for name in ("in", "out", "nowhere"):
        world.plugin_config("shop", name, name, {"Key": [name]}, TILL)
    own, client = world.compile("shop", "till"), world.compile("shop", "echo")
    assert told(own, "shop/till") == {"in": '{"Key":["in"]}', "out": '{"Key":["out"]}'}
    assert told(client, "shop/till") == {"out": '{"Key":["out"]}'}
    assert told(client, "shop/echo") == {}


@pytest.mark.parametrize("permissive", [True, False])
def test_tcp_rules_tell_plugins_too(permissive: bool) -> None:
    world = shop(permissive=permissive).plugin("greeter")
    world.plugin_chain("shop", "in", "inbound-tcp", "greeter")
    world.plugin_chain("shop", "out", "outbound-tcp", "greeter")
    world.tcp_route("shop", "echo", 9000)
    world.target("echo", ("shop", "echo"), [("shop", "till")], ("TCPRoute", "echo"))
    echo = {"kind": "Service", "name": "echo"}
    world.plugin_config("shop", "told", "greeter", {"words": "hello"}, echo)
    for name in ("echo", "till"):
        assert told(world.compile("shop", name), "shop/echo") == {"greeter": '{"words":"hello"}'}


def test_clients_from_outside_of_the_mesh_pass_the_same_plugins() -> None:
    world = shop(permissive=False).plugin("cors", priority=165)
    world.found["MeshConfig"][0]["spec"]["featureFlags"]["enableIngressBackendPolicy"] = True
    world.plugin_chain("shop", "in", "inbound-http", "cors", **SHOP)
    world.plugin_config("shop", "told", "cors", {"maxAge": "24h"}, TILL)
    spec = {
        "backends": [{"name": "till", "port": {"number": 80, "protocol": "http"}}],
        "sources": [{"kind": "IPRange", "name": "192.0.2.0/24"}],
    }
    world.policy("IngressBackend", "policy.flomesh.io/v1alpha1", "shop", "till", spec)
    inbound = world.compile("shop", "till").inbound
    assert inbound is not None
    (match,) = inbound.matches
    by_name = {name: host for host in match.hosts for name in host.names}
    assert dict(by_name["*"].plugins.texts) == {"cors": '{"maxAge":"24h"}'}


def test_of_two_that_tell_the_same_plugin_the_first_by_name_is_followed() -> None:
    world = shop().plugin("cors")
    world.plugin_chain("shop", "in", "inbound-http", "cors")
    world.plugin_config("shop", "b", "cors", {"from": "b"}, TILL)
    world.plugin_config("shop", "a", "cors", {"from": "a"}, TILL)
    assert told(world.compile("shop", "till"), "shop/till") == {"cors": '{"from":"a"}'}
    assert status(world, "PluginConfig", "a")[0] == "Programmed"
    assert status(world, "PluginConfig", "b") == (
        "Conflicted",
        "PluginConfig shop/a tells it something else and is followed",
    )


def test_what_is_told_about_nothing_or_to_nobody_says_so() -> None:
    world = shop()
    gone = {"kind": "Service", "name": "gone"}
    world.plugin_config("shop", "told", "cors", {"a": 1}, gone, {"kind": "Egress", "name": "out"})
    assert status(world, "PluginConfig", "told") == (
        "RefNotFound",
        "Plugin cors does not exist; Service shop/gone is not in the mesh;"
        " Egress shop/out is not in the mesh",
    )


def test_mesh_config_names_plugins_for_everyone_at_a_priority_of_its_own() -> None:
    listed = [
        {"plugin": "modules/outbound-tcp-routing", "priority": 120},
        {"plugin": "plugins/greeter", "priority": 115},
        {"plugin": "plugins/not-there", "priority": 114},
        {"plugin": "plugins/off", "priority": 113, "disable": True},
        {"plugin": "modules/outbound-tcp-default", "priority": 100},
    ]
    world = shop(pluginChains={"outbound-tcp": listed}).plugin("greeter").plugin("off")
    config = world.compile("shop", "till")
    assert stages(config, "outbound_tcp") == ["plugins/greeter.js"]
    assert [plugin.name for plugin in config.plugins] == ["greeter"]
    assert "outbound-tcp: plugins/not-there.js" in status(world, "MeshConfig", "fsm-mesh-config")[1]
    assert status(world, "Plugin", "greeter")[0] == "Programmed"


def test_in_place_of_a_script_that_does_not_load_stands_one_that_lets_nothing_pass() -> None:
    world = shop().plugin("verifier", "pipy(")
    world.found["Plugin"][0]["status"] = {"scriptFault": 'line 1, column 5: "oh"'}
    world.plugin_chain("shop", "in", "inbound-http", "verifier")
    snapshot = world.snapshot()
    plugin = next(p for (kind, _), p in snapshot.policies.items() if kind == "Plugin")
    (run,) = world.compile("shop", "till").plugins
    assert run.script == text_of(plugin)
    assert "throw new Error" in run.script
    assert r"line 1, column 5: \"oh\"" in run.script
    assert "pipy(\n" not in run.script
    word, reason = status(world, "Plugin", "verifier")
    assert word == "DoesNotLoad"
    assert 'line 1, column 5: "oh"' in reason


def test_what_is_outside_of_the_mesh_tells_the_plugins_of_those_who_go_there() -> None:
    world = shop(egress=False).plugin("out")
    flags = world.found["MeshConfig"][0]["spec"]["featureFlags"]
    flags["enableEgressPolicy"] = True
    world.plugin_chain("shop", "out", "outbound-http", "out", **SHOP)
    world.plugin_chain("shop", "out-tcp", "outbound-tcp", "out", **SHOP)
    account = {"kind": "ServiceAccount", "name": "till", "namespace": "shop"}
    for name, port_, hosts in (
        ("web", {"number": 80, "protocol": "http"}, ["example.com"]),
        ("tls", {"number": 443, "protocol": "https"}, ["example.com"]),
        ("raw", {"number": 5432, "protocol": "tcp"}, []),
    ):
        spec = {"sources": [account], "ports": [port_], "hosts": hosts}
        world.policy("Egress", "policy.flomesh.io/v1alpha1", "shop", name, spec)
        destination = {"kind": "Egress", "name": name}
        world.plugin_config("shop", name, "out", {"to": name}, destination)
    outbound = world.compile("shop", "till").outbound
    assert outbound is not None
    found = {}
    for match in outbound.matches:
        rules = [
            *match.hosts,
            *(rule.tcp for rule in match.tls),
            *([match.tcp] if match.tcp else []),
        ]
        for rule in rules:
            if rule.origin.startswith("Egress/"):
                found[rule.origin] = dict(rule.plugins.texts)
    assert found == {
        f"Egress/shop/{name}": {"out": f'{{"to":"{name}"}}'} for name in ("web", "tls", "raw")
    }


def test_a_change_of_what_one_service_tells_concerns_its_pods_and_clients_alone() -> None:
    world = shop(permissive=False).plugin("in").plugin("out")
    world.workload("shop", "other", port(80))
    world.group("shop", "all", {"name": "all", "pathRegex": ".*", "methods": ["*"]})
    rule = ("HTTPRouteGroup", "all", "all")
    world.target("till", ("shop", "till"), [("shop", "echo")], rule)
    world.plugin_chain("shop", "in", "inbound-http", "in", **SHOP)
    world.plugin_chain("shop", "out", "outbound-http", "out")
    world.plugin_config("shop", "told", "out", {"a": 1}, TILL)
    compiler = IncrementalCompiler(world.settings)
    snapshot = compiler.begin(world.objects(), trust_roots=world.roots)
    before = {uid: compiler.compile(uid) for uid in snapshot.pods_by_uid}
    (policy,) = world.found["PluginConfig"]
    policy["spec"] = policy["spec"] | {"config": {"a": 2}}
    change = Change("PluginConfig", Key("shop", "told"), policy)
    snapshot = compiler.update([change], trust_roots=world.roots)
    changed = {uid for uid in before if compiler.compile(uid) is not before[uid]}
    assert changed == {"uid-shop-echo"}
    for uid, pod in snapshot.pods_by_uid.items():
        text = compiler.compile(uid)
        assert text is not None
        assert text.to_json() == world.compile(pod.namespace, pod.name).to_json()
