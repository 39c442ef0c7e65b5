"""Carries out what ``fsm.compile.difference`` says, as a proxy does: what it says means this."""

from __future__ import annotations

import json
from typing import Any


def carry_out(base: bytes, difference: bytes) -> bytes:
    """Return the configuration that a difference leads to, as canonical JSON."""
    config: dict[str, Any] = json.loads(base)
    said: dict[str, Any] = json.loads(difference)
    assert said.pop("base") == config["version"], "it is for another base"
    config |= said.pop("fields")
    clusters = said.pop("clusters", {"changed": {}, "removed": []})
    for name in clusters["removed"]:
        del config["clusters"][name]
    config["clusters"] |= clusters["changed"]
    if "outbound" in said:
        outbound = said.pop("outbound")
        if outbound is not None:
            known = config["outbound"]["matches"] if config["outbound"] else []
            matches: list[Any] = []
            for entry in outbound["matches"]:
                if isinstance(entry, dict):
                    matches.append(entry)
                else:
                    first, count = entry
                    assert len(known[first : first + count]) == count, "it has so many"
                    matches += known[first : first + count]
            outbound = {**outbound["fields"], "matches": matches}
        config["outbound"] = outbound
    assert not said, "nothing else is said"
    return json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
