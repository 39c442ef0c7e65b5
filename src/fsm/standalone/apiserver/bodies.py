"""Bodies of requests and answers: JSON, YAML and protobuf in, JSON, lists and partial objects out.

What comes in: an HTTP request. What goes out: its decoded body, or an answer in the form that the
``Accept`` header asks for.

Invariants: a body that cannot be read is a 400 with the place in it, one that is too large a 413;
nothing here trusts the length that a client announces.
Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-representations
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson
import yaml
from aiohttp import web

from fsm.standalone.apiserver import protobuf
from fsm.standalone.apiserver.errors import StatusError, bad_request, too_large, unsupported_media

# LIMIT of one body: Kubernetes accepts 3 MiB, and an object has to fit into memory many times.
BODY_BYTES_MAX = 3 * 1024 * 1024
# LIMIT of nesting: deeper than any manifest, and far from the recursion limit of our walks.
DEPTH_MAX = 200

Form = Literal["object", "table", "metadata", "metadata-list"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The form of answer that a client likes best of what we have."""

    form: Form = "object"
    version: str = "v1"


def accepted(header: str) -> Accepted:
    """Choose a form from an ``Accept`` header, in the client's order.

    Raises:
        StatusError: 406, we have none of them.
    """
    if not header.strip():
        return Accepted()
    for option in header.split(","):
        kind, *parameters = (part.strip() for part in option.split(";"))
        given = dict(p.split("=", 1) for p in parameters if "=" in p)
        if kind not in ("application/json", "application/*", "*/*"):
            continue
        shown = given.get("as")
        version = given.get("v", "v1")
        if shown is None:
            return Accepted()
        if given.get("g") != "meta.k8s.io" or version not in ("v1", "v1beta1"):
            continue
        if shown == "Table":
            return Accepted("table", version)
        if shown == "PartialObjectMetadata":
            return Accepted("metadata", version)
        if shown == "PartialObjectMetadataList":
            return Accepted("metadata-list", version)
    raise StatusError(
        406,
        "NotAcceptable",
        f"only application/json is served here, not {header[:200]}",
    )


async def read_body(request: web.Request) -> bytes:
    """Read a body.

    Raises:
        StatusError: 413, it is too large.
    """
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise too_large(BODY_BYTES_MAX) from error


async def read_object(request: web.Request) -> Any:
    """Read and decode a JSON or YAML body; an empty one is ``None``."""
    return decode_body(await read_body(request), request.content_type)


def decode_body(raw: bytes, content_type: str) -> Any:
    """Decode a body by its content type.

    Raises:
        StatusError: 415 unknown format; 400 it cannot be read or is nested too deeply.
    """
    if not raw.strip():
        return None
    if content_type == protobuf.MEDIA_TYPE:
        return _checked_depth(protobuf.decode(raw))
    if content_type in ("application/yaml", "application/apply-patch+yaml"):
        return _checked_depth(_from_yaml(raw))
    if content_type.endswith("json") or content_type in ("application/octet-stream", "text/plain"):
        try:
            return _checked_depth(orjson.loads(raw))
        except orjson.JSONDecodeError as error:
            raise bad_request(f"the body is not valid JSON: {error}") from error
    raise unsupported_media(content_type, "application/json, application/yaml")


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: times stay text, and aliases are refused.

    Aliases can make a few bytes into gigabytes; no manifest in the wild needs them over HTTP
    (kubectl resolves those of files before it sends them).
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not accepted here")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _from_yaml(raw: bytes) -> Any:
    if raw.lstrip()[:1] in (b"{", b"["):
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            pass
    try:
        loaded = yaml.load(raw, _Loader)
        # Through JSON, so that keys are strings and values are what JSON has.
        return orjson.loads(orjson.dumps(loaded))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, TypeError) as error:
        raise bad_request(f"the body is not valid YAML: {error}") from error


def _checked_depth(value: Any) -> Any:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH_MAX:
            raise bad_request(f"the body is nested more than {DEPTH_MAX} levels deep")
        following: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                following.extend(v for v in item.values() if isinstance(v, dict | list))
            elif isinstance(item, list):
                following.extend(v for v in item if isinstance(v, dict | list))
        level = following
    return value


def json_response(body: Any, status: int = 200, warnings: list[str] | None = None) -> web.Response:
    """Answer with JSON, and with each warning in a header of its own."""
    response = web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
    for text in warnings or ():
        shown = "".join(c if " " <= c <= "~" else "?" for c in text)
        quoted = shown.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


def partial(obj: dict[str, Any], version: str = "v1") -> dict[str, Any]:
    """Return only the metadata of an object, as garbage collectors like it."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": f"meta.k8s.io/{version}",
        "metadata": obj["metadata"],
    }


def encode(value: Any) -> bytes:
    """Write a value as JSON."""
    return orjson.dumps(value)


def compact(value: Any) -> str:
    """Write a value as short JSON text, for a cell or a message."""
    return encode(value).decode()
