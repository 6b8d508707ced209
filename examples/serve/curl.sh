#!/usr/bin/env bash
# Restore a photo with curl: examples/serve/curl.sh rainy.jpg restored.jpg [http://127.0.0.1:8000]
set -euo pipefail
photo=$1 restored=$2 server=${3:-http://127.0.0.1:8000}
answer=$(mktemp -- "$restored.XXXXXX")
trap 'rm -f -- "$answer"' EXIT
# --retry waits as long as Retry-After says while the server is full (503); an error is one line of JSON, never the photo
if ! curl --fail-with-body --silent --show-error --retry 5 --data-binary "@$photo" \
    --header 'Content-Type: application/octet-stream' "$server/v1/restore?strength=1" --output "$answer"; then
    cat -- "$answer" >&2
    exit 1
fi
chmod =rw -- "$answer" # as the umask says; mktemp's is for its owner alone
mv -- "$answer" "$restored"
