#!/usr/bin/env bash
# All Rust tests, each in its own process, counted from nextest's report.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

report=$CARGO_TARGET_DIR/nextest/default/junit.xml
rm -f "$report"
status=0
cargo nextest run --workspace --locked --no-fail-fast || status=$?
[[ -s $report ]] || exit $((status ? status : 1))

# <testsuites name="…" tests="12" failures="1" errors="0" …>: a time-out or a crash counts as one of the latter two.
read -r tests failures errors < <(
  sed -nE '/<testsuites /{s/.* tests="([0-9]+)" failures="([0-9]+)" errors="([0-9]+)".*/\1 \2 \3/p;q}' "$report"
)
failed=$((failures + errors))
echo "rust $((tests - failed)) $failed" >>"${RESULTS:-/dev/stdout}"
exit "$status"
