#!/usr/bin/env bash
# Everything that must hold, in order: the whole of continuous integration. Each part is timed; a part that fails does not
# hide the next. A part that runs tests appends "<name> <passed> <failed>" to $RESULTS.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
exec </dev/null 2>&1

RESULTS=$(mktemp) SKIPS=$(mktemp)
export RESULTS SKIPS
trap 'rm -f "$RESULTS" "$SKIPS"' EXIT
table=()
broken=()

part() { # <name> <command>…
  local name=$1 started=$SECONDS outcome=ok
  shift
  say "$name: $*"
  "$@" || outcome=FAILED
  table+=("$(printf '%-12s %7s  %s' "$name" "$(minutes $((SECONDS - started)))" "$outcome")")
  [[ $outcome == ok ]] && return
  broken+=("$name")
  # A part that fails without a failing test is one failure itself.
  grep -q "^$name [0-9]* [1-9]" "$RESULTS" || echo "$name 0 1" >>"$RESULTS"
}

part setup scripts/setup.sh
[[ ${#broken[@]} == 0 ]] || die "setup failed: nothing else can run"
part format cargo fmt --all --check
part sources scripts/check_sources.sh
part lint cargo clippy "${SELECTION[@]}" --all-targets -- -D warnings
part policy scripts/policy.sh
part rust scripts/test_rust.sh rust "not ($FAULTS)"
part faults scripts/test_rust.sh faults "$FAULTS"
part doctests scripts/test_docs.sh

say "summary"
printf '   %s\n' "${table[@]}"
passed=$(awk '{ n += $2 } END { print n + 0 }' "$RESULTS")
failed=$(awk '{ n += $3 } END { print n + 0 }' "$RESULTS")
note "total        $(minutes $SECONDS)"
# What this machine does not allow is no failure, and must not look like a success either.
sed 's/^/   /' "$SKIPS"
[[ ${#broken[@]} == 0 ]] || note "failed parts: ${broken[*]}"
echo "$passed passed, $failed failed"
# No test at all is not a success.
((passed > 0 && failed == 0))
