#!/usr/bin/env bash
# Says whether a counter of an application grows: ./counter.sh NAMESPACE APP COUNTER. It looks for two seconds and a half.
set -euo pipefail
exec 3< <(exec kubectl port-forward -n "$1" "deployment/$2" :14001 2>&1)
forward=$!
trap 'kill $forward' EXIT
read -r line <&3
port=$(sed -E 's/.*127\.0\.0\.1:([0-9]+).*/\1/' <<<"$line")
look() {
    curl -sS "http://127.0.0.1:$port/counters" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["counters"].get(sys.argv[1], 0))' "$1"
}
first=$(look "$3")
for _ in 1 2 3 4 5; do
    sleep 0.5
    if [ "$(look "$3")" -gt "$first" ]; then echo "$2: $3 grows"; exit 0; fi
done
echo "$2: $3 stands still"
