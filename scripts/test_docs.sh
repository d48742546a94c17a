#!/usr/bin/env bash
# The examples in doc comments, compiled and run; and the documentation itself, where no link may be broken.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --doc "${SELECTION[@]}" --no-fail-fast 2>&1 | tee "$log" || status=$?
# One line a crate: test result: ok. 5 passed; 0 failed; 0 ignored; …
sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' "$log" |
  awk '{ passed += $1; failed += $2 } END { print "doctests", passed + 0, failed + 0 }' >>"${RESULTS:-/dev/stdout}"
RUSTDOCFLAGS="-D warnings" cargo doc "${SELECTION[@]}" --no-deps --quiet || status=$?
exit "$status"
