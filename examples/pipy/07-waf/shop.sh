#!/bin/sh
# The shop at work: MariaDB with its goods, and PHP's own server. Takes PHP's port and a folder; ends with what it started.
set -eu
port=${1:-8081} folder=${2:-$(mktemp -d)} here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin
user=$(id -un)
trap 'trap - EXIT; kill ${database:-} ${php:-} 2>/dev/null; wait' EXIT
trap 'exit 0' INT TERM
mkdir -p "$folder"
mariadb-install-db --no-defaults --datadir="$folder/data" --user="$user" --auth-root-authentication-method=normal >/dev/null
mariadbd --no-defaults --datadir="$folder/data" --user="$user" --socket="$folder/mariadb" --skip-networking &
database=$!
until mariadb-admin --no-defaults --socket="$folder/mariadb" --user=root ping >/dev/null 2>&1; do
  kill -0 "$database"
  sleep 0.1
done
mariadb --no-defaults --socket="$folder/mariadb" --user=root <"$here/shop/schema.sql"
SHOP_SOCKET=$folder/mariadb php -d display_errors=0 -S "127.0.0.1:$port" -t "$here/shop" &
php=$!
wait "$php"
