#!/usr/bin/env bash
# All Rust tests, each in its own process, counted from nextest's report.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

# nextest keeps its reports in the clone, wherever cargo builds.
report=$ROOT/target/nextest/default/junit.xml
rm -f "$report"
status=0
cargo nextest run "${SELECTION[@]}" --no-fail-fast || status=$?
[[ -s $report ]] || exit $((status ? status : 1))

# <testsuites … tests="12" skipped="0" failures="1" errors="0" …>: a time-out or a crash is among the latter two.
count() { sed -nE "/<testsuites /{s/.* $1=\"([0-9]+)\".*/\1/p;q}" "$report"; }
failed=$(($(count failures) + $(count errors)))
echo "rust $(($(count tests) - $(count skipped) - failed)) $failed" >>"${RESULTS:-/dev/stdout}"
exit "$status"
