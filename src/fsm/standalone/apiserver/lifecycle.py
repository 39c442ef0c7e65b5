"""The life of an object: create, update, delete, and what each means for the kinds we know.

What comes in: a ``Call`` and an object, or a function that changes one. What goes out: the object
as stored, in the version of the call.

    create ─► defaults ─► mutating webhooks ─► validation ─► validating webhooks ─► stored
    update ─► the same, on the current object; started again when it changed meanwhile
    delete ─► gone at once, or deletionTimestamp until finalizers and grace are over

Invariants: nothing awaits between the last check and the commit, so a decision is never based on a
state that is gone; an update that changes nothing writes nothing; ``generation`` grows with the
content, not with metadata or status; identity never changes.
Not done here: garbage collection and emptying of namespaces (the workload controllers), scheduling.
Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from fsm.standalone.apiserver import addresses, crds, decoding, metadata, registry
from fsm.standalone.apiserver.calls import Call
from fsm.standalone.apiserver.errors import (
    Cause,
    already_exists,
    bad_request,
    conflict,
    forbidden,
    invalid,
    not_found,
    success,
)
from fsm.standalone.apiserver.registry import ApiResource, Registry
from fsm.standalone.apiserver.store import KubeObject, Store, Transaction, copy_object

# LIMIT attempts of an update whose object keeps changing: each lost one means that someone else's
# succeeded, so this many in a row is a fight that the caller should know of.
UPDATE_ATTEMPTS_MAX = 8

PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public")


class Admission(Protocol):
    """The webhooks; ``admission`` calls them, tests replace them."""

    async def mutate(
        self, call: Call, operation: str, new: KubeObject, old: KubeObject | None
    ) -> KubeObject:
        """Return the object as the mutating webhooks want it."""

    async def validate(
        self, call: Call, operation: str, new: KubeObject | None, old: KubeObject | None
    ) -> None:
        """Raise a ``StatusError`` when a validating webhook refuses."""


#: Asked before an object is stored; raises a ``StatusError`` to refuse it.
Guard = Callable[[Call, KubeObject, KubeObject | None], None]


class Lifecycle:
    """All that changes objects goes through here."""

    def __init__(
        self,
        store: Store,
        known: Registry,
        admission: Admission,
        networks: Sequence[addresses.Network],
        ca_pem: str,
        guard: Guard = lambda call, new, old: None,
    ) -> None:
        self.store = store
        self.registry = known
        self._admission = admission
        self._networks = networks
        self._ca_pem = ca_pem
        self._guard = guard
        self._refresh_crds()

    def read(self, call: Call) -> KubeObject:
        """Return one object in the version of the call.

        Raises:
            StatusError: 404.
        """
        return present(self._current(call), call)

    def _current(self, call: Call) -> KubeObject:
        found = self.store.get(call.resource.gr, call.namespace, call.name)
        if found is None:
            raise not_found(call.resource.group, call.resource.plural, call.name)
        return found

    async def create(self, call: Call, raw: Any) -> KubeObject:
        """Create an object.

        Raises:
            StatusError: it exists, its namespace does not, or it is refused.
        """
        resource = call.resource
        obj = decoding.decode(call, raw)
        meta = obj["metadata"]
        self._place(call, meta)
        if resource.has_status and resource.gr != ("", "nodes"):
            obj.pop("status", None)
        metadata.begin(obj)
        obj = decoding.decode(call, obj)
        self._check_new(call, obj)
        obj = await self._admitted(call, "CREATE", obj, None)
        self._check_new(call, obj)
        if self.store.get(resource.gr, call.namespace, obj["metadata"]["name"]) is not None:
            raise already_exists(resource.group, resource.plural, obj["metadata"]["name"])
        self._allocate(call, obj, None)
        if not resource.enforced:
            call.warnings.append(
                f"{resource.qualified} are stored, but nothing acts on them in the standalone mesh"
            )
        return self._commit(call, obj, None)

    def _place(self, call: Call, meta: KubeObject) -> None:
        """Settle namespace and name from the URL and the object, which must agree."""
        if call.resource.namespaced:
            given = meta.get("namespace") or call.namespace
            if given != call.namespace:
                raise bad_request(
                    f"the namespace of the provided object ({given}) does not match the namespace"
                    f" of the request ({call.namespace})"
                )
            meta["namespace"] = call.namespace
        else:
            meta.pop("namespace", None)
        if not meta.get("name"):
            if not meta.get("generateName"):
                raise invalid(
                    call.resource.group,
                    call.resource.kind,
                    "",
                    [
                        Cause(
                            "metadata.name",
                            "Required value: name or generateName is required",
                            "FieldValueRequired",
                        )
                    ],
                )
            meta["name"] = metadata.generate_name(meta["generateName"])
        if call.name and meta["name"] != call.name:
            raise bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL"
                f" ({call.name})"
            )

    def _check_new(self, call: Call, obj: KubeObject) -> None:
        """Check what a new object needs around it; asked again after the webhooks were."""
        resource, name = call.resource, obj["metadata"]["name"]
        if not resource.namespaced:
            return
        namespace = self.store.get(registry.NAMESPACES, "", call.namespace)
        if namespace is None:
            raise not_found("", "namespaces", call.namespace)
        if namespace["metadata"].get("deletionTimestamp"):
            raise forbidden(
                resource.group,
                resource.plural,
                name,
                f'{resource.qualified} "{name}" is forbidden: unable to create new content in'
                f" namespace {call.namespace} because it is being terminated",
            )
        if resource.gr == registry.PODS:
            account = (obj.get("spec") or {}).get("serviceAccountName", "default")
            if self.store.get(registry.SERVICEACCOUNTS, call.namespace, account) is None:
                raise forbidden(
                    "",
                    "pods",
                    name,
                    f'pods "{name}" is forbidden: error looking up service account'
                    f' {call.namespace}/{account}: serviceaccount "{account}" not found',
                )

    async def _admitted(
        self, call: Call, operation: str, obj: KubeObject, old: KubeObject | None
    ) -> KubeObject:
        """Take an object through webhooks and validation; it comes back decoded afresh."""
        shown = present(obj, call)
        mutated = await self._admission.mutate(call, operation, shown, old)
        if mutated is not shown:
            obj = decoding.decode(call, mutated)
            if old is not None:
                metadata.keep_identity(obj, old)
            elif obj["metadata"].get("name") != shown["metadata"]["name"]:
                raise bad_request("a mutating webhook changed the name of the object")
        causes = decoding.causes_of(call, obj, old)
        if call.resource.gr == registry.CRDS and not causes:
            causes = crds.crd_causes(obj, old, self.registry)
            call.warnings += crds.warnings_of(obj)
        if causes:
            raise invalid(call.resource.group, call.resource.kind, obj["metadata"]["name"], causes)
        self._guard(call, obj, old)
        await self._admission.validate(call, operation, present(obj, call), old)
        return obj

    def _allocate(self, call: Call, obj: KubeObject, old: KubeObject | None) -> None:
        if call.resource.gr == registry.SERVICES and not call.subresource:
            others = self.store.list(registry.SERVICES)
            causes = addresses.assign(obj, old, others, self._networks)
            if causes:
                raise invalid("", "Service", obj["metadata"]["name"], causes)

    async def update(
        self,
        call: Call,
        change: Callable[[KubeObject], Any],
        *,
        pinned: bool = False,
    ) -> KubeObject:
        """Change an object.

        Args:
            call: names the object; its subresource says which part may change.
            change: gets a copy of the current object in the version of the call and returns the
                new one; called again when the object changed while webhooks were asked.
            pinned: the caller means one exact version, so a change meanwhile is a conflict.

        Raises:
            StatusError: 404, 409 (the new object names another version or uid), or refused.
        """
        for _ in range(UPDATE_ATTEMPTS_MAX):
            old = self._current(call)
            raw = change(copy_object(present(old, call)))
            new = decoding.decode(call, raw)
            self._check_preconditions(call, new, old)
            new = self._assembled(call, new, old)
            if _same(new, old):
                return present(old, call)
            self._allocate(call, new, old)
            new = await self._admitted(call, "UPDATE", new, old)
            if self.store.get(call.resource.gr, call.namespace, call.name) is old:
                return self._commit(call, new, old)
            if pinned:
                break
        raise conflict(
            call.resource.group,
            call.resource.plural,
            call.name,
            "the object has been modified; please apply your changes to the latest version and try"
            " again",
        )

    def _check_preconditions(self, call: Call, new: KubeObject, old: KubeObject) -> None:
        """Compare version and uid, where the caller gave them."""
        meta, before = new["metadata"], old["metadata"]
        uid, version = meta.get("uid"), meta.get("resourceVersion")
        resource = call.resource
        if uid and uid != before["uid"]:
            raise conflict(
                resource.group,
                resource.plural,
                call.name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta:"
                f" {before['uid']}",
            )
        if version and version != before["resourceVersion"]:
            raise conflict(
                resource.group,
                resource.plural,
                call.name,
                "the object has been modified; please apply your changes to the latest version and"
                " try again",
            )
        if (meta.get("name") or call.name) != call.name:
            raise bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL"
                f" ({call.name})"
            )
        if call.resource.namespaced and meta.get("namespace", call.namespace) != call.namespace:
            raise bad_request("the namespace of the object does not match the namespace on the URL")

    def _assembled(self, call: Call, new: KubeObject, old: KubeObject) -> KubeObject:
        """Combine the part that the caller may write with the rest of the current object."""
        if call.subresource == "status":
            merged = copy_object(old)
            merged.pop("status", None)
            if "status" in new:
                merged["status"] = new["status"]
            if "managedFields" in new["metadata"]:
                merged["metadata"]["managedFields"] = new["metadata"]["managedFields"]
            new = merged
        elif call.resource.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = copy_object(old["status"])
        metadata.keep_identity(new, old)
        if old["metadata"].get("deletionTimestamp"):
            # Finalizers of an object that is going may only be taken away.
            before = old["metadata"].get("finalizers") or []
            kept = [f for f in new["metadata"].get("finalizers") or [] if f in before]
            new["metadata"]["finalizers"] = kept
            if not kept:
                del new["metadata"]["finalizers"]
        if call.resource.gr == registry.NAMESPACES and call.subresource != "finalize":
            new["spec"] = copy_object(old.get("spec") or {})
        stored = present(new, call, storage=True)
        if metadata.content(stored) != metadata.content(old):
            new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1
        return new

    def _commit(self, call: Call, obj: KubeObject, old: KubeObject | None) -> KubeObject:
        resource = call.resource
        obj = present(obj, call, storage=True)
        if resource.gr == registry.CRDS:
            crds.establish(obj, old)
        if call.dry_run:
            return present(obj, call)
        with self.store.transaction() as txn:
            if old is not None and _may_go(resource, obj):
                obj = txn.put(resource.gr, obj)
                self._remove(txn, resource, obj)
            else:
                obj = txn.put(resource.gr, obj)
                if old is None and resource.gr == registry.NAMESPACES:
                    self._furnish(txn, obj["metadata"]["name"])
        if resource.gr == registry.CRDS:
            self._refresh_crds()
        return present(obj, call)

    async def delete(self, call: Call, options: KubeObject) -> KubeObject:
        """Delete an object, at once or by marking it.

        Args:
            call: names the object.
            options: ``DeleteOptions``: gracePeriodSeconds, preconditions, propagationPolicy.

        Returns:
            The marked object, or a ``Status`` when it is gone.
        """
        resource = call.resource
        for _ in range(UPDATE_ATTEMPTS_MAX):
            old = self._current(call)
            self._check_delete(call, old, options)
            await self._admission.validate(call, "DELETE", None, present(old, call))
            if self.store.get(resource.gr, call.namespace, call.name) is old:
                break
        else:
            raise conflict(resource.group, resource.plural, call.name, "the object keeps changing")
        marked = _marked(resource, old, options)
        if call.dry_run:
            return present(marked, call)
        with self.store.transaction() as txn:
            if options.get("propagationPolicy") == "Orphan" or options.get("orphanDependents"):
                self._orphan(txn, old["metadata"]["uid"])
            if _may_go(resource, marked):
                self._remove(txn, resource, old)
            elif not _same(marked, old):
                marked = txn.put(resource.gr, marked)
        if resource.gr == registry.CRDS:
            self._refresh_crds()
        if _may_go(resource, marked):
            uid = old["metadata"]["uid"]
            return success(resource.group, resource.plural, call.name, uid)
        return present(marked, call)

    def _check_delete(self, call: Call, old: KubeObject, options: KubeObject) -> None:
        resource, wanted = call.resource, options.get("preconditions") or {}
        for key, name in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if wanted.get(key) and wanted[key] != old["metadata"][key]:
                raise conflict(
                    resource.group,
                    resource.plural,
                    call.name,
                    f"Precondition failed: {name} in precondition: {wanted[key]}, {name} in object"
                    f" meta: {old['metadata'][key]}",
                )
        if resource.gr == registry.NAMESPACES and call.name in PROTECTED_NAMESPACES:
            raise forbidden(
                "",
                "namespaces",
                call.name,
                f'namespaces "{call.name}" is forbidden: this namespace may not be deleted',
            )

    def _remove(self, txn: Transaction, resource: ApiResource, obj: KubeObject) -> None:
        meta = obj["metadata"]
        namespace = meta.get("namespace") or ""
        txn.delete(resource.gr, namespace, meta["name"])
        self._refurnish(txn, resource, namespace)
        if resource.gr == registry.CRDS:
            gr = (obj["spec"]["group"], obj["spec"]["names"]["plural"])
            for custom in self.store.list(gr):
                txn.delete(gr, *_key(custom))

    def _orphan(self, txn: Transaction, uid: str) -> None:
        """Cut what depends on an object loose, so that it outlives it."""
        for gr in list(self.store.resources()):
            for obj in self.store.list(gr):
                owners = obj["metadata"].get("ownerReferences") or []
                if any(owner["uid"] == uid for owner in owners):
                    free = copy_object(obj)
                    free["metadata"]["ownerReferences"] = [o for o in owners if o["uid"] != uid]
                    txn.put(gr, free)

    def _refurnish(self, txn: Transaction, resource: ApiResource, namespace: str) -> None:
        """Put back what Pods rely on, when somebody deletes it and not its namespace."""
        if resource.gr not in (registry.SERVICEACCOUNTS, registry.CONFIGMAPS):
            return
        found = txn.get(registry.NAMESPACES, "", namespace)
        if found is not None and not found["metadata"].get("deletionTimestamp"):
            self._furnish(txn, namespace)

    def _furnish(self, txn: Transaction, namespace: str) -> None:
        """Put into a namespace what every Pod in it relies on, and what is not there."""
        for gr, obj in (
            (registry.SERVICEACCOUNTS, {"kind": "ServiceAccount", "name": "default"}),
            (
                registry.CONFIGMAPS,
                {"kind": "ConfigMap", "name": "kube-root-ca.crt", "ca.crt": self._ca_pem},
            ),
        ):
            if txn.get(gr, namespace, obj["name"]) is not None:
                continue
            new: KubeObject = {
                "apiVersion": "v1",
                "kind": obj["kind"],
                "metadata": {"name": obj["name"], "namespace": namespace},
            }
            if "ca.crt" in obj:
                new["data"] = {"ca.crt": obj["ca.crt"]}
            metadata.begin(new)
            txn.put(gr, new)

    def _refresh_crds(self) -> None:
        self.registry.set_custom(crds.resources_of(self.store.list(registry.CRDS)))


def present(obj: KubeObject, call: Call, *, storage: bool = False) -> KubeObject:
    """Return an object in the version of the call, or in the one it is stored in."""
    definition = call.resource.definition
    if definition is None:
        return obj
    version = definition.storage_version if storage else call.version
    wanted = call.resource.api_version(version)
    return obj if obj.get("apiVersion") == wanted else obj | {"apiVersion": wanted}


def _key(obj: KubeObject) -> tuple[str, str]:
    return (obj["metadata"].get("namespace") or "", obj["metadata"]["name"])


def _same(new: KubeObject, old: KubeObject) -> bool:
    """Compare objects, apart from the version they are shown in and when a manager last wrote."""

    def core(obj: KubeObject) -> KubeObject:
        fields = obj["metadata"].get("managedFields")
        timeless = [{k: v for k, v in f.items() if k != "time"} for f in fields or []]
        meta = obj["metadata"] | {"managedFields": timeless}
        return obj | {"metadata": meta, "apiVersion": ""}

    return core(new) == core(old)


def _may_go(resource: ApiResource, obj: KubeObject) -> bool:
    """Tell whether an object that is being deleted has nothing left to wait for."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers"):
        return False
    if resource.gr == registry.NAMESPACES:
        return not (obj.get("spec") or {}).get("finalizers")
    return not meta.get("deletionGracePeriodSeconds")


def _marked(resource: ApiResource, old: KubeObject, options: KubeObject) -> KubeObject:
    """Return a copy of an object that carries the mark of its deletion."""
    marked = copy_object(old)
    meta = marked["metadata"]
    grace = _grace_s(resource, old, options)
    if not meta.get("deletionTimestamp") or grace < (meta.get("deletionGracePeriodSeconds") or 0):
        until = datetime.now(UTC) + timedelta(seconds=grace)
        meta["deletionTimestamp"] = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        meta["deletionGracePeriodSeconds"] = grace
    if resource.gr == registry.NAMESPACES:
        marked.setdefault("status", {})["phase"] = "Terminating"
    return marked


def _grace_s(resource: ApiResource, old: KubeObject, options: KubeObject) -> int:
    """Return how many seconds a Pod gets to end; other kinds get none."""
    if resource.gr != registry.PODS:
        return 0
    spec, phase = old.get("spec") or {}, (old.get("status") or {}).get("phase")
    if not spec.get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    asked = options.get("gracePeriodSeconds")
    if asked is None:
        asked = spec.get("terminationGracePeriodSeconds", 30)
    return max(int(asked), 0)
