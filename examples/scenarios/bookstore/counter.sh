#!/usr/bin/env bash
# Says whether a counter of an application grows: ./counter.sh NAMESPACE APP COUNTER. It looks for three seconds.
set -euo pipefail
look() {
    kubectl get --raw "/api/v1/namespaces/$1/pods/$pod:14001/proxy/counters" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["counters"].get(sys.argv[1], 0))' "$3"
}
pod=$(kubectl get pods -n "$1" -l "app=$2" -o jsonpath='{.items[0].metadata.name}')
first=$(look "$@")
for second in $(seq 3); do
    sleep 1
    now=$(look "$@")
    if [ "$now" -gt "$first" ]; then echo "$2: $3 grows"; exit 0; fi
done
echo "$2: $3 stands still"
