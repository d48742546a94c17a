#!/usr/bin/env bash
# A first look in one command: an empty directory, one server, a few jobs that really run here and are logged through the
# public API alone, then four things to try, and the lake, read by somebody else.
#   DEMO_DIR=path   keep the data there (must be empty)      DEMO_ONCE=1   try all of it and stop
set -euo pipefail
source "$(dirname "$0")/lib.sh"

say "build"
scripts/build.sh
runstone=$CARGO_TARGET_DIR/debug/runstone

if [[ -n ${DEMO_DIR:-} ]]; then
  mkdir -p "$DEMO_DIR"
  [[ -z $(ls -A "$DEMO_DIR") ]] || die "choose an empty DEMO_DIR: $DEMO_DIR"
  dir=$(cd "$DEMO_DIR" && pwd)
else
  dir=$(mktemp -d "${TMPDIR:-/tmp}/runstone-demo.XXXXXX")
fi

server=
stop() {
  trap - EXIT INT TERM
  if [[ -n $server ]] && kill -TERM "$server" 2>/dev/null; then
    echo
    note "stopping the server"
    wait "$server" || true
  fi
  if [[ -z ${DEMO_DIR:-} ]]; then rm -rf "$dir"; else note "kept $dir"; fi
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=7867
while taken "$port"; do port=$((port + 1)); done
[[ $port == 7867 ]] || note "port 7867 is taken: using $port"
url=http://127.0.0.1:$port

say "server: $dir"
"$runstone" serve --data "$dir/data" --listen "127.0.0.1:$port" >"$dir/server.log" 2>&1 </dev/null &
server=$!
deadline=$((SECONDS + 30))
until curl -sf -o /dev/null -m 2 "$url/ready"; do
  if ! kill -0 "$server" 2>/dev/null || ((SECONDS > deadline)); then
    cat "$dir/server.log" >&2
    die "the server did not become ready"
  fi
  sleep 0.1
done
note "ready at $url"

# Each job is a real command; `runstone run` logs its start, its output line by line, its result and its end.
job() { # <stage> <expected exit code> <command>…
  local stage=$1 expected=$2 code=0 started=$SECONDS
  shift 2
  "$runstone" run --url "$url" --source-system demo --stage "$stage" --run-id "demo-$stage" -- "$@" >"$dir/$stage.log" 2>&1 </dev/null || code=$?
  printf '   %-13s exit %d  %s  %s\n' "$stage" "$code" "$(minutes $((SECONDS - started)))" "$*"
  [[ $code == "$expected" ]] || { tail -20 "$dir/$stage.log" >&2 && die "expected exit code $expected from: $*"; }
}
say "jobs"
job format 0 cargo fmt --all --check
job dependencies 0 cargo tree --workspace --locked --depth 1
job tests 0 cargo test -p runstone-journal --locked --lib
job inventory 0 python3 scripts/demo_inventory.py Cargo.lock "$dir/crates.csv"
job backfill 1 python3 scripts/demo_inventory.py "$dir/last-month.lock" "$dir/last-month.csv"
"$runstone" send --url "$url" --source-system demo --stage server --run-id demo-server "$dir/server.log" >"$dir/send.log" 2>&1
printf '   %-13s sent           %s\n' server "$dir/server.log"

# It would be in the lake within lake.flush_interval_ms; asked for, it is now.
kill -USR1 "$server"
deadline=$((SECONDS + 30))
until curl -sf -m 2 "$url/metrics" | grep -x 'runstone_lake_lag_records 0' >/dev/null; do
  ((SECONDS <= deadline)) || die "the lake did not get the records: $(tail -3 "$dir/server.log")"
  sleep 0.1
done

say "what happened"
"$runstone" runs --url "$url"

at= # The default address needs no naming.
[[ $port == 7867 ]] || at=" --url $url"
sql="SELECT stage, level, count(*) AS records FROM logs GROUP BY stage, level ORDER BY stage, level"
tries=(
  "$runstone logs$at --stage backfill"
  "$runstone query$at \"$sql\""
  "curl -s '$url/api/v1/runs?state=failed'"
  "curl -s '$url/get/logs/demo-backfill?level=ERROR'"
)
say "$url is up. Four things to try:"
printf '   %s\n' "${tries[@]}"

# Nothing of ours is in the way: a Delta table, read by Polars.
read_lake="import polars as pl
logs = pl.scan_delta(\"$dir/data/lake\")
print(logs.group_by(\"stage\", \"level\").len().sort(\"stage\", \"level\").collect())"
say "and the lake, an open Delta table, in Python (pip install polars deltalake):"
while IFS= read -r line; do printf '   %s\n' "$line"; done <<<"$read_lake"

if [[ -n ${DEMO_ONCE:-} ]]; then
  for try in "${tries[@]}"; do
    say "$try"
    # Each of them shows the job that failed.
    bash -c "$try" | tee "$dir/try.log"
    grep -q backfill "$dir/try.log" || die "nothing about the failed job in the answer"
  done
  say "the lake"
  scripts/setup.sh --polars
  "$CACHE/venv/bin/python" -c "$read_lake" | tee "$dir/try.log"
  grep -q backfill "$dir/try.log" || die "nothing about the failed job in the lake"
  echo
  note "demo ok"
else
  echo
  note "Ctrl-C stops it."
  trap 'exit 0' INT
  wait "$server" || die "the server stopped by itself: $(tail -3 "$dir/server.log")"
fi
