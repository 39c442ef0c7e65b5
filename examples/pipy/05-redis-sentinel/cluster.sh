#!/bin/sh
# Three Redis servers, the first of them the master, and three sentinels. Takes six ports and a folder; ends with what it started.
set -eu
master=${1:-6381} second=${2:-6382} third=${3:-6383} a=${4:-26379} b=${5:-26380} c=${6:-26381} folder=${7:-$(mktemp -d)}
started=
stop() {
  trap - INT TERM EXIT
  for pid in $started; do
    # One that is paused does not hear that it should end; one may have ended before.
    kill "$pid" 2>/dev/null && kill -CONT "$pid" || true
  done
  wait
}
trap stop EXIT
trap 'exit 0' INT TERM

for port in "$master" "$second" "$third"; do
  mkdir -p "$folder/$port"
  of=; [ "$port" = "$master" ] || of="--replicaof 127.0.0.1 $master"
  redis-server --bind 127.0.0.1 --port "$port" --dir "$folder/$port" --save '' --repl-diskless-sync-delay 0 $of &
  started="$started $!"
  echo $! >"$folder/$port/pid"
done

# Sentinels ask a master for its replicas every ten seconds: let there be some when they ask first.
until [ "$(redis-cli -p "$master" info replication | grep -c state=online)" = 2 ]; do sleep 0.1; done

for port in "$a" "$b" "$c"; do
  mkdir -p "$folder/$port"
  cat >"$folder/$port/sentinel.conf" <<CONF
bind 127.0.0.1
port $port
dir $folder/$port
sentinel monitor mymaster 127.0.0.1 $master 2
sentinel down-after-milliseconds mymaster 1000
sentinel failover-timeout mymaster 5000
CONF
  redis-sentinel "$folder/$port/sentinel.conf" &
  started="$started $!"
done
wait
