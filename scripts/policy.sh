#!/usr/bin/env bash
# Holds the dependency tree to deny.toml. Licences, bans and sources need only the lock file and the registry; advisories
# need a database that lives on GitHub: where it can't be fetched the last copy serves, and without one this says so and goes on.
# Then one rule of our own: demo and test share what they build (see docs/decisions/0003).
set -euo pipefail
source "$(dirname "$0")/lib.sh"

deny() { cargo deny --workspace --locked "$@"; }

deny check --hide-inclusion-graph bans licenses sources

# External crates with their features; ours have a path behind them.
features() { cargo tree "${SELECTION[@]}" --prefix none --format '{p} [{f}]' --edges "$1" | grep -v '(/' | sed 's/ (\*)$//' | sort -u; }
tests_only=$(comm -23 <(features normal,build) <(features normal,build,dev))
if [[ -n $tests_only ]]; then
  echo "error: dev-dependencies change the features of these, so that demo and test build them twice; name the features in Cargo.toml:" >&2
  echo "$tests_only" >&2
  exit 1
fi

if GIT_TERMINAL_PROMPT=0 timeout 60 cargo deny --workspace --locked fetch db >/dev/null 2>&1; then
  deny check --hide-inclusion-graph advisories
  exit
fi
for copy in "${CARGO_HOME:-$HOME/.cargo}"/advisory-dbs/advisory-db-*; do
  day=$(git -C "$copy" show -s --format=%cs HEAD 2>/dev/null) || continue
  note "advisories: the database could not be fetched; using the copy of $day"
  deny --offline check --hide-inclusion-graph advisories
  exit
done
note "advisories NOT checked: the advisory database could not be fetched and no copy is cached"
