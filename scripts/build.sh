#!/usr/bin/env bash
# Builds the binary for demo and run.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

scripts/setup.sh --build
if [[ ! -x $CARGO_TARGET_DIR/debug/runstone ]]; then
  note "the first build compiles some 400 crates: about ten minutes on two cores, seconds from then on"
fi
started=$SECONDS
cargo build "${SELECTION[@]}" --bin runstone
note "built in $(minutes $((SECONDS - started)))"
