#!/usr/bin/env bash
# The fault tests, over and over with other seeds, and the fuzz targets: hours. `make soak SOAK=10` is ten times as long,
# `make soak SOAK=0` goes through each part once, `make soak PARTS="kills power"` through these parts only. A failure prints
# its seed.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
exec </dev/null 2>&1

times=${SOAK:-1}
table=()
broken=()
SKIPS=$(mktemp)
export SKIPS
trap 'rm -f "$SKIPS"' EXIT

# wanted <part>: nothing is said of parts, or this is one of them
wanted() { [[ -z ${PARTS:-} || " $PARTS " == *" $1 "* ]]; }

# at <n>: so many times, at least once
at() { echo $((times * $1 > 0 ? times * $1 : 1)); }

part() { # <name> <what one run does> <runs> <command>…
  local name=$1 what=$2 runs=$3 started=$SECONDS outcome=ok
  shift 3
  wanted "$name" || return 0
  say "$name: $runs × $what"
  "$@" || outcome=FAILED
  [[ $outcome == ok ]] || broken+=("$name")
  table+=("$(printf '%-12s %7s  %6d × %-58s %s' "$name" "$(minutes $((SECONDS - started)))" "$runs" "$what" "$outcome")")
}

# tests <filter>: all that it names, so many times as the part runs
tests() {
  local report=$ROOT/target/nextest/soak/junit.xml status=0
  rm -f "$report"
  # shellcheck disable=SC2154 # a part's
  cargo nextest run "${SELECTION[@]}" --profile soak --no-fail-fast --stress-count "$runs" -E "$1" || status=$?
  # shellcheck disable=SC2154 # likewise
  [[ ! -s $report ]] || skips "$name" "$report"
  return "$status"
}

# Every part, in order. With names only it is asked which there are.
parts() {
  local part=$1
  RUNSTONE_SEEDS=1000 "$part" simulation "1,000 histories, the first from seed $RUNSTONE_SEED on" "$(at 5)" \
    tests 'test(what_was_promised_is_found_in_every_history)'
  "$part" crashes "a crash at every change of a journal, 200 random lives" "$(at 50)" tests 'binary(it) & package(runstone-journal) & test(crash::)'
  "$part" damage "torn tails at every sector, 2,000 flipped bits" "$(at 25)" tests 'package(runstone-journal) & test(damage::)'
  "$part" flips "3,200 flipped bits of data files: read, merged, verified" "$(at 25)" \
    tests 'package(runstone-store) & (test(/::flips::/) | test(no_merge_carries_a_flipped_bit_on))'
  "$part" faults "every failure of every system call of a journal" "$(at 50)" tests 'package(runstone-journal) & test(faults::)'
  "$part" kills "100 kills under load" "$(at 10)" tests 'test(a_hundred_kills_under_load)'
  "$part" calls "a kill before every system call that changes a file" "$(at 1)" tests 'package(runstone-cli) & test(/^system_calls::/)'
  "$part" power "20 power cuts under load" "$(at 25)" tests 'test(power_cuts_under_load)'
  "$part" lake "a power cut, a kill, a failure at every step of the lake" "$(at 10)" \
    tests 'package(runstone-store) & test(/::(power|crash|damage|faults|full)::/)'
  "$part" disk "full and read-only disks, no descriptors, failed syncs" "$(at 10)" \
    tests 'package(runstone-cli) & test(/^(disk|full|read_only)::/)'
  "$part" border "readers across the border of a lake whose servers are killed" "$(at 10)" \
    tests 'package(runstone-cli) & (test(/^border::/) | test(kills_under_load))'
  "$part" writers "two writers, foreign writers, storage that fails" "$(at 5)" \
    tests '(package(runstone-cli) & test(/^(storage_faults|writers)::/)) | (package(runstone-store) & test(/::commits::/))'
  "$part" copies "a delivery 100 times, copies of a directory, two servers" "$(at 10)" \
    tests '(package(runstone-cli) & (test(/^(identity|copies|directories)::/) | test(a_second_server_on_one_directory)))
      | (package(runstone-store) & test(/::copies::/)) | (package(runstone-server) & test(/^intake::/))'
  "$part" signals "SIGTERM and SIGSTOP under load, a sync that stalls" "$(at 10)" tests 'package(runstone-cli) & test(/^(process|stalls)::/)'
  "$part" input "bad input, damaged at random, slow clients" "$(at 25)" \
    tests 'package(runstone-cli) & test(/^(bad_input|framing|slow_readers|damage|gateway)::/)'
  "$part" queries "hostile SQL, wrong parameters, tables of others" "$(at 5)" \
    tests 'package(runstone-cli) & test(/^(queries|parameters|tables)::/)'
  "$part" runs "random orders of a run's records" "$(at 25)" tests 'package(runstone-record) | (package(runstone-server) & test(/^runs::/))'
  "$part" others "formats of earlier versions, clocks, the lake away, followers" "$(at 25)" \
    tests 'test(/(^|::)(golden|basics|clean|protocols|settle)::/) | package(runstone-cli) & test(/^(ages|follow|lake_trouble|loghub_like)::/)'
  "$part" memory "a server in 256 MiB that is asked for everything" "$(at 10)" tests 'package(runstone-cli) & test(/^pressure::/)'
  "$part" targets "DynamoDB, PostgreSQL and CloudWatch fail at every step" "$(at 10)" \
    tests 'package(runstone-sinks) & binary(it) & test(/::(faults|contract)::/)'
  "$part" fed "servers and their targets are killed, locked, away" "$(at 10)" \
    tests 'package(runstone-cli) & test(/^(fed|dynamo|cloudwatch)::/)'
  RUNSTONE_AWAY_S=$((times > 0 ? 3600 : 60)) "$part" absence "PostgreSQL is away for an hour, 5,000 records a second" 1 \
    tests 'package(runstone-cli) & test(/^absence::/)'
  "$part" fuzz "six targets, $(at 60) s each" 1 scripts/fuzz.sh "$(at 60)"
}

name_of() { known+=("$1"); }

# Where seeds begin; each repetition of a test begins elsewhere, and says where.
export RUNSTONE_SEED=${RUNSTONE_SEED:-$((RANDOM << 15 | RANDOM))}
known=()
parts name_of
for name in ${PARTS:-}; do
  [[ " ${known[*]} " == *" $name "* ]] || die "no part has the name $name; there are ${known[*]}"
done
scripts/setup.sh
note "RUNSTONE_SEED=$RUNSTONE_SEED"
parts part

say "summary"
printf '   %s\n' "${table[@]}"
note "total        $(minutes $SECONDS)"
sed 's/^/   /' "$SKIPS"
[[ ${#broken[@]} == 0 ]] || die "failed parts: ${broken[*]}"
