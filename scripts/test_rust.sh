#!/usr/bin/env bash
# Rust tests, each in its own process, counted from nextest's report: all that a filter names.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
name=${1:-rust} filter=${2:-all()}

# nextest keeps its reports in the clone, wherever cargo builds.
report=$ROOT/target/nextest/default/junit.xml
rm -f "$report"
status=0
cargo nextest run "${SELECTION[@]}" --no-fail-fast -E "$filter" || status=$?
[[ -s $report ]] || exit $((status ? status : 1))

skips "$name" "$report"
# <testsuites … tests="12" skipped="0" failures="1" errors="0" …>: a time-out or a crash is among the latter two.
count() { sed -nE "/<testsuites /{s/.* $1=\"([0-9]+)\".*/\1/p;q}" "$report"; }
failed=$(($(count failures) + $(count errors)))
echo "$name $(($(count tests) - $(count skipped) - failed)) $failed" >>"${RESULTS:-/dev/stdout}"
exit "$status"
