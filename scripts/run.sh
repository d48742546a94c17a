#!/usr/bin/env bash
# Serves ./data: what a first user of the binary would type. Arguments go to `runstone serve`.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
scripts/build.sh
exec "$CARGO_TARGET_DIR/debug/runstone" serve --data "$ROOT/data" "$@"
