#!/bin/sh
# An authority and a certificate for each name, for trying out: make-certificates.sh FOLDER NAME…
set -eu
folder=$1; shift
mkdir -p "$folder"; cd "$folder"
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
[ -f ca.crt ] || openssl req -x509 $key -keyout ca.key -out ca.crt -days 30 -subj /CN=authority -addext keyUsage=critical,keyCertSign 2>/dev/null
for name in "$@"; do
  openssl req $key -keyout "$name.key" -subj "/CN=$name" -addext "subjectAltName=DNS:$name" 2>/dev/null |
    openssl x509 -req -CA ca.crt -CAkey ca.key -days 30 -copy_extensions copy -out "$name.crt" 2>/dev/null
done
