"""What ``/explain`` says is what happens, over random configurations and requests.

Each seed makes a configuration for both directions, and requests for it: as the proxy's own
application, as members with several identities, as a stranger that a source rule lets in, as
someone who has proved nothing. The page is asked first; then the request is made, and the answer,
its line of the access log and the application that saw it must say the same. ``EXPLAIN_SEED=n``
replays one, ``SOAK=1`` tries many.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from proxyrig import config
from proxyrig.backend import Backend
from proxyrig.certs import Authority, Member, spiffe
from proxyrig.process import Pipy
from proxyrig.wire import Address, Wire, request

OWN, ALICE, BOB = spiffe("own"), spiffe("alice"), spiffe("bob")

SEEDS = 150 if os.environ.get("SOAK") == "1" else 12
REQUESTS = 25

NAMES = ["shop", "shop.ns", "shop.ns:8080", "books", "BOOKS.ns", "x"]
SEGMENTS = ["a", "b", "api", "v1", "", ".", "..", "%61", "%2e%2e", "%2F", "a%20b", "A"]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]
HEADERS = {"x-version": ["", "v1", "v2", "v10"], "x-user": ["alice", "bob"]}
REGEXES = ["^v1$", "v1", "^$", ".*", "^(alice|bob)$", "b"]

Json = dict[str, Any]


class Maker:
    """Makes one configuration, and requests that have something to do with it."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.routes = 0

    def path(self) -> Json:
        dice = self.dice
        plain = "/" + "/".join(dice.choices(["a", "b", "api", "v1"], k=dice.randrange(3)))
        match dice.randrange(4):
            case 0:
                return {"exact": plain}
            case 1:
                return {"regex": dice.choice([f"^{plain}", ".*", "/a$", r"\?q=1$", "^/(a|b)/?"])}
            case _:
                return {"prefix": plain}

    def route(self) -> Json:
        dice = self.dice
        self.routes += 1
        changes: Json = {"origin": f"HTTPRouteGroup/shop/{self.routes}", "path": self.path()}
        if dice.random() < 0.4:
            changes["methods"] = dice.sample(METHODS, dice.randrange(1, 4))
        if dice.random() < 0.3:
            changes["headers"] = [
                {"name": name, "regex": dice.choice(REGEXES)}
                for name in dice.sample(sorted(HEADERS), dice.randrange(1, 3))
            ]
        if dice.random() < 0.6:
            changes["allowed"] = config.allow(*dice.sample([OWN, ALICE, BOB], dice.randrange(3)))
        targets = [
            (name, dice.choice([0, 1, 50])) for name in dice.sample("abc", dice.randrange(1, 4))
        ]
        return config.route(*targets, **changes)

    def hosts(self) -> list[Json]:
        dice = self.dice
        names = [*{name.lower() for name in NAMES}, "*"]
        dice.shuffle(names)
        hosts = []
        while names and len(hosts) < 4:
            taken = [names.pop() for _ in range(min(len(names), dice.randrange(1, 3)))]
            host = config.host(
                *(self.route() for _ in range(dice.randrange(5))), names=tuple(taken)
            )
            hosts.append(
                host | {"service": f"shop/{len(hosts)}", "origin": f"Service/shop/{len(hosts)}"}
            )
        return hosts

    def config(self, proxy: Pipy, backends: dict[str, Backend]) -> Json:
        dice = self.dice
        inbound = config.http_match(proxy.inbound.port, *self.hosts())
        inbound["mtls"] = dice.choice(["strict", "strict", "disabled"])
        if dice.random() < 0.4:
            rule: Json = {"cidrs": [dice.choice(["127.0.0.0/8", "10.0.0.0/8"])]}
            rule["origin"] = "IngressBackend/shop/in"
            if dice.random() < 0.4:
                rule |= {"mtls": True, "principals": dice.sample([ALICE, BOB], dice.randrange(2))}
            inbound["sources"] = [rule]
        matches = [config.http_match(proxy.outbound.port, *self.hosts())]
        clusters = {
            name: config.cluster(config.endpoint(backend.address))
            for name, backend in backends.items()
        }
        return config.whole(
            identity=OWN,
            inbound={"matches": [inbound] if dice.random() < 0.95 else []},
            outbound={"matches": matches if dice.random() < 0.95 else []},
            clusters=clusters,
        )

    def request(self, number: int) -> Asked:
        dice = self.dice
        path = "/" + "/".join(dice.choices(SEGMENTS, k=dice.randrange(4)))
        path += dice.choice(["", "", "?q=1", "?/../b"])
        host = dice.choice(NAMES)
        host = dice.choice([host, host.upper(), f"{host}:81" if ":" not in host else host])
        headers = [("x-request-id", f"ask-{number}")]
        for name, values in HEADERS.items():
            headers += [(name, dice.choice(values)) for _ in range(dice.choice([0, 1, 1, 2]))]
        who = dice.choice(["outbound", "outbound", ALICE, BOB, None])
        return Asked(who, dice.choice(METHODS), host, path, headers)


class Asked:
    """A request, and who makes it: the own application, a member, or someone in plain text."""

    def __init__(
        self,
        who: str | None,
        method: str,
        host: str,
        path: str,
        headers: list[tuple[str, str]],
    ) -> None:
        self.who, self.method, self.host, self.path, self.headers = who, method, host, path, headers

    def query(self, proxy: Pipy) -> str:
        """Write the question."""
        outbound = self.who == "outbound"
        fields = [
            ("direction", "outbound" if outbound else "inbound"),
            ("destination", str(proxy.outbound if outbound else proxy.inbound)),
            ("method", self.method),
            ("host", self.host),
            ("path", self.path),
            *(("header", f"{name}: {value}") for name, value in self.headers),
        ]
        if not outbound:
            fields.append(("source", "127.0.0.1"))
            if self.who:
                fields.append(("identity", self.who))
        return urlencode(fields)

    def __repr__(self) -> str:
        return f"{self.who}: {self.method} {self.host} {self.path} {self.headers}"


class Site:
    """A proxy, its applications, and the callers' certificates."""

    def __init__(self, proxy: Pipy, backends: dict[str, Backend], callers: dict[str, Any]) -> None:
        self.proxy, self.backends, self.callers = proxy, backends, callers
        self.encrypted = True

    async def explained(self, asked: Asked) -> Json:
        """Ask the page."""
        page = await self.proxy.page(f"/explain?{asked.query(self.proxy)}")
        assert page.status == 200, page.body
        answer: Json = json.loads(page.body)
        return answer

    async def made(self, asked: Asked) -> tuple[int, str] | None:
        """Make the request; give the status and the body, or none where there was no answer."""
        lines = [f"Host: {asked.host}", *(f"{name}: {value}" for name, value in asked.headers)]
        raw = request(asked.method, asked.path, *lines)
        outbound = asked.who == "outbound"
        to: Address = self.proxy.outbound if outbound else self.proxy.inbound
        try:
            reader, writer = await asyncio.open_connection(
                *to,
                ssl=self.callers.get(asked.who or "") if self.encrypted else None,
                limit=1 << 20,
            )
            async with Wire(reader, writer) as wire:
                response = await wire.ask(raw)
            return response.status, response.body.decode()
        except (OSError, EOFError):
            return None


def context(member: Member, directory: Path) -> ssl.SSLContext:
    """Give what a member connects with; whom it meets does not matter here."""
    member.write(directory)
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return made


@pytest.fixture
async def site(rig, authority: Authority, tmp_path: Path) -> Site:
    backends = {name: await rig.backend(name=name) for name in "abc"}
    proxy = await rig.pipy(member=authority.member(OWN))
    callers = {
        who: context(authority.member(who), tmp_path / who.rpartition("/")[2])
        for who in (ALICE, BOB)
    }
    return Site(proxy, backends, callers)


def encrypted(told: Json) -> bool:
    """Say whether members are expected to speak TLS."""
    covers = [
        source.get("mtls", False)
        for match in told["inbound"]["matches"]
        for source in match.get("sources", [])
        if source["cidrs"] == ["127.0.0.0/8"]
    ]
    return any(match["mtls"] == "strict" for match in told["inbound"]["matches"]) or any(covers)


async def compare(site: Site, asked: Asked) -> str:
    """Check that what happens is what was said; give the decision."""
    said = await site.explained(asked)
    seen = {name: len(backend.requests) for name, backend in site.backends.items()}
    answer = await site.made(asked)
    reached = {n for n, backend in site.backends.items() if len(backend.requests) > seen[n]}
    if answer is None:
        # Not even a connection: nobody has seen anything.
        assert (said["decision"], reached) == ("denied", set())
        return "refused"
    status, _ = answer
    [line] = await site.proxy.log(1, request_id=dict(asked.headers)["x-request-id"])
    assert line.get("service") == said.get("service")
    # Without a host the line names the match, the page the rule that lets a stranger in.
    assert "rule" not in said or line.get("rule_origin") == said["rule"]
    if said["decision"] == "denied":
        assert status in (400, 403)
        assert (line["decision"], line.get("reason")) == ("denied", said["reason"])
        assert reached == set()
        return "denied"
    assert said["decision"] == "allowed"
    assert line.get("origin") == said.get("allowed_by", said.get("rule"))
    shares = {share["cluster"]: share for share in said.get("clusters", [])}
    if not shares:
        assert (status, reached) == (404, set())
        return "nothing behind"
    assert status == 200
    assert line["decision"] == "allowed"
    assert {line["cluster"]} == reached
    # Weight 0 gets nothing while another has some.
    some = any(share["weight"] for share in shares.values())
    assert reached <= {name for name, share in shares.items() if share["weight"] or not some}
    assert line["upstream"] in {e["address"] for e in shares[line["cluster"]]["endpoints"]}
    if normal := said.get("normalised"):
        assert line["path"].partition("?")[0] == normal
    return "allowed"


@pytest.mark.timeout(900)
async def test_what_is_explained_is_what_happens(site, authority):
    only = os.environ.get("EXPLAIN_SEED")
    outcomes: dict[str, int] = {}
    for seed in [int(only)] if only else range(SEEDS):
        maker = Maker(seed)
        told = maker.config(site.proxy, site.backends)
        await site.proxy.apply(told)
        site.encrypted = encrypted(told)
        for number in range(REQUESTS):
            asked = maker.request(seed * REQUESTS + number)
            try:
                outcome = await compare(site, asked)
            except AssertionError as wrong:
                again = f"EXPLAIN_SEED={seed}: {asked!r} of {json.dumps(told)}"
                raise AssertionError(f"{wrong}\n{again}") from wrong
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    # The seeds are worth something: each outcome is among them.
    if not only:
        assert {"allowed", "denied", "refused"} <= set(outcomes), outcomes
