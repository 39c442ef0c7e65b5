#!/usr/bin/env bash
# Shows the pages of the applications that run on ports of this machine, those of .env, until it is ended.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -e .env ] || { echo "there is no .env: cp .env.example .env" >&2; exit 1; }
. ./.env
forwards=()
trap '[ ${#forwards[@]} -eq 0 ] || kill "${forwards[@]}" 2>/dev/null || true' EXIT
trap exit INT TERM
# Usage: show NAMESPACE APP PORT
show() {
    # Version 2 comes later.
    kubectl get deployment "$2" -n "$1" >/dev/null 2>&1 || return 0
    kubectl port-forward -n "$1" "deployment/$2" "$3:14001" \
        > >(sed -un "s|^Forwarding from 127.0.0.1:\([0-9]*\).*|http://localhost:\1 – $2|p") &
    forwards+=($!)
}
show bookbuyer bookbuyer "$BOOKBUYER_PORT"
show bookstore bookstore-v1 "$BOOKSTORE_V1_PORT"
show bookstore bookstore-v2 "$BOOKSTORE_V2_PORT"
show bookthief bookthief "$BOOKTHIEF_PORT"
[ ${#forwards[@]} -gt 0 ] || { echo "none of the applications is there" >&2; exit 1; }
wait
