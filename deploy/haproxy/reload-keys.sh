#!/bin/sh
# Gives Yufu's public keys to HAProxy. It reads them as PEM from standard input,
# writes them where haproxy.cfg looks for them, and reloads HAProxy if they have
# changed.
#
#   yufu keys export --pem | reload-keys.sh
#
# Run it from a timer every few minutes: Yufu publishes a key for longer than that
# before it signs with it. After `yufu keys retire KID --now`, run it at once. The
# script skips keys for algorithms other than ES256. If the input does not have one to
# six keys, it changes nothing.
#
#   KEYS     the folder, /etc/haproxy/yufu
#   CHECK    a command that checks whether HAProxy accepts the keys
#   RELOAD   a command that reloads HAProxy
set -eu

keys=${KEYS:-/etc/haproxy/yufu}
check=${CHECK:-haproxy -c -q -f /etc/haproxy/haproxy.cfg}
reload=${RELOAD:-systemctl reload haproxy}
slots=6

mkdir -p "$keys"
new=$(mktemp -d "$keys/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT

# Write one key per file: key1.pem, key2.pem, … All P-256 keys begin with the same
# characters (RFC 5480).
awk -v dir="$new" '
  /^-----BEGIN PUBLIC KEY-----/ { inside = 1; key = ""; next }
  /^-----END PUBLIC KEY-----/ {
    if (!inside) exit 1
    inside = 0
    if (key ~ /^MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/) {
      file = dir "/key" (++n) ".pem"
      printf "-----BEGIN PUBLIC KEY-----\n%s-----END PUBLIC KEY-----\n", key > file
      close(file)
    }
  }
  inside { key = key $0 "\n" }
  END { exit inside }
' || { echo "reload-keys.sh: the input is cut short; nothing was changed" >&2; exit 1; }

n=0
while [ -e "$new/key$((n + 1)).pem" ]; do n=$((n + 1)); done
if [ "$n" -lt 1 ] || [ "$n" -gt "$slots" ]; then
  echo "reload-keys.sh: there are $n keys for ES256, but haproxy.cfg has places for 1 to $slots; nothing was changed" >&2
  exit 1
fi
# HAProxy does not start if a file in its configuration is missing.
while [ "$n" -lt "$slots" ]; do
  n=$((n + 1))
  cp "$new/key1.pem" "$new/key$n.pem"
done

# Note the loaded keys last, so that the next run tries again what failed.
cat "$new"/key*.pem >"$new/loaded"
if cmp -s "$new/loaded" "$keys/.loaded"; then exit 0; fi
chmod 644 "$new"/*
mv "$new"/key*.pem "$keys/"
$check
$reload
mv "$new/loaded" "$keys/.loaded"
