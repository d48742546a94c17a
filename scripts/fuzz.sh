#!/usr/bin/env bash
# Feeds every fuzz target for so many seconds (60 unless given), from the corpus in the repository. What is found stays in
# fuzz/artifacts; `cargo fuzz run TARGET FILE` plays it again.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

seconds=${1:-60}
scripts/setup.sh --fuzz
# Our own code is safe Rust: there is nothing for a sanitizer to see, and without one the pinned compiler does.
run() { cargo fuzz "$1" --sanitizer none --codegen-units 16 "${@:2}"; }
export CARGO_TARGET_DIR=$CARGO_TARGET_DIR/fuzz RUSTFLAGS=${RUSTFLAGS:-}
note "the first build takes some twenty minutes on two cores: everything under the targets is instrumented"
started=$SECONDS
run build
note "built in $(minutes $((SECONDS - started)))"
failed=()
for target in frame segment record body parameters sql; do
  new=$(mktemp -d)
  status=0
  # What it finds goes into the first directory; the repository's corpus is read only.
  run run "$target" "$new" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 >"$new.log" 2>&1 || status=$?
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$new.log")
  found=$(find "$new" -type f | wc -l)
  if ((status)); then
    failed+=("$target")
    tail -30 "$new.log"
  fi
  note "$(printf '%-12s %10s inputs, %5s of them new ways' "$target" "${runs:-0}" "$found")"
  rm -rf "$new" "$new.log"
done
[[ ${#failed[@]} == 0 ]] || die "these targets failed: ${failed[*]}"
