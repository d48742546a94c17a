#!/usr/bin/env bash
# Removes build products: the shared target directory, and ./target where plain cargo commands build. Tools stay.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cargo clean
CARGO_TARGET_DIR=$ROOT/target cargo clean
