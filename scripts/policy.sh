#!/usr/bin/env bash
# Holds the dependency tree to deny.toml. Licences, bans and sources need only the lock file and the registry; advisories
# need a database that lives on GitHub: where it can't be fetched the last copy serves, and without one this says so and goes on.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

cargo deny --workspace --locked check --hide-inclusion-graph bans licenses sources

databases=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
if ! GIT_TERMINAL_PROMPT=0 timeout 60 cargo deny --workspace --locked fetch db >/dev/null 2>&1; then
  newest=$(find "$databases" -name FETCH_HEAD -printf '%TY-%Tm-%Td\n' 2>/dev/null | sort | tail -1)
  if [[ -z $newest ]]; then
    note "advisories NOT checked: the advisory database could not be fetched and no copy is cached"
    exit
  fi
  note "advisories: the database could not be fetched; using the copy of $newest"
fi
cargo deny --workspace --locked check --disable-fetch --hide-inclusion-graph advisories
