#!/usr/bin/env bash
# Builds a release, and prints what it does beside a reference: bench/bench.py says what. Arguments go there.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

case $(stat --file-system --format %T "${TMPDIR:-/tmp}") in
tmpfs | ramfs) die "${TMPDIR:-/tmp} is memory, where a sync does nothing: set TMPDIR to a directory on a disk" ;;
esac
scripts/setup.sh --bench
[[ " $* " != *" --stores "* ]] || scripts/setup.sh --stores
[[ -x $CARGO_TARGET_DIR/release/runstone ]] || note "the first release build takes some twenty minutes on two cores"
started=$SECONDS
cargo build --release "${SELECTION[@]}" --bins --example dynamo_rate --example postgres_rate
if [[ " $* " == *" --stores "* ]]; then
  # As it is shipped: docs/logger.md.
  cargo build --profile shipping --locked -p runstone-lambda --features logger --bin logger
  set -- --logger "$CARGO_TARGET_DIR/shipping/logger" "$@"
fi
note "built in $(minutes $((SECONDS - started)))"
exec "$CACHE/venv/bin/python" bench/bench.py --runstone "$CARGO_TARGET_DIR/release/runstone" \
  --load "$CARGO_TARGET_DIR/release/runstone-bench" "$@"
