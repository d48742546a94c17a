# shellcheck shell=bash
# Sourced by every script here: where things are, and how they talk.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${RUNSTONE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/runstone}
TOOLS=$CACHE/tools
# Outside the clone, so that a fresh clone starts from what is built already.
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
# What makes and mounts disks is not in everybody's path.
export PATH=$TOOLS/bin:$CACHE/venv/bin:$PATH:/usr/sbin:/sbin
# The build directory may have what was compiled in another clone, which insta would look for snapshots in.
export INSTA_WORKSPACE_ROOT=$ROOT
# A broken connection to a registry is tried again by cargo and pip, not by us.
export CARGO_NET_RETRY=${CARGO_NET_RETRY:-5} PIP_DISABLE_PIP_VERSION_CHECK=1
# One selection everywhere: another would mean other features of the same dependencies, and building all of DataFusion
# once more.
# shellcheck disable=SC2034 # used by those who source this
SELECTION=(--workspace --features "runstone-cli/azure runstone-lambda/logger runstone-sinks/cloudwatch runstone-sinks/dynamo" --locked)
# Tests that kill, cut, fill, damage and flood: docs/faults.md. They may take five minutes of `make test`.
# shellcheck disable=SC2034 # likewise
FAULTS='(package(runstone-journal) & binary(it) & test(/^(crash|damage|faults)::/))
  | (package(runstone-server) & test(/^simulation::/))
  | (package(runstone-store) & (test(/::(power|crash|damage|faults|full|flips)::/) | test(no_merge_carries_a_flipped_bit_on)))
  | (package(runstone-sinks) & test(/^(cloudwatch|dynamo)::faults::/))
  | (package(runstone-cli) & (test(kills_under_load)
    | test(/^(ages|bad_input|border|copies|damage|directories|disk|framing|full|golden|identity|kills|lake_trouble|loghub_like)::/)
    | test(/^(power|pressure|process|read_only|slow_readers|stalls|storage_faults|system_calls|writers)::/)))'
cd "$ROOT" || exit
# The pinned release may be on the machine under the name of its channel only, and rustup unable to fetch it.
if ! rustc --version >/dev/null 2>&1 && rustc +stable --version >/dev/null 2>&1; then export RUSTUP_TOOLCHAIN=stable; fi

say() { printf '\n── %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
# skips <part> <report>: what tests did not do on this machine goes into $SKIPS
skips() { sed -n 's/.*\(skipped: [^<&]*\).*/\1/p' "$2" | sort | uniq -c | sed "s/^ *\([0-9]*\) /$1: \1 × /" >>"${SKIPS:-/dev/stderr}"; }
# 83 → 1m23s
minutes() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }
