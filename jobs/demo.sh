#!/usr/bin/env bash
# The example job of jobs/tpch, end to end: what it does when all is well, when it is run twice, and when its input is broken.
# Run by `make demo`. Everything it makes lies in .demo/, which each run of this script makes anew.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD
demo=$PWD/.demo
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/errand/target}
scale_factor=${SCALE_FACTOR:-0.05}
bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

title() { printf '\n%s== %s ==%s\n' "$bold" "$1" "$plain"; }
say() { printf '%s\n' "$@"; }

# try <exit code> <command...>: prints the command, runs it, and ends the demo when it ends in any other way.
try() {
    local expected=$1 code=0
    shift
    printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
    "$@" || code=$?
    if [ "$code" != "$expected" ]; then
        printf 'demo: exit code %s where %s was due\n' "$code" "$expected" >&2
        exit 1
    fi
    if [ "$expected" != 0 ]; then say "(exit code $code)"; fi
}

# What a program that is not Errand reads in the warehouse, of the table that will be attacked and one built on it.
published() { rows state/warehouse.duckdb lineitem q1_pricing_summary; }

# unchanged <what was published before>
unchanged() {
    local now
    now=$(published)
    say '' 'read from the warehouse by another program:' "$now"
    if [ "$now" != "$1" ]; then
        printf 'demo: this was there before\n%s\n' "$1" >&2
        exit 1
    fi
    say 'the same as before this run.'
}

make_job_repository() {
    git init --quiet --initial-branch=main jobs
    # Absolute paths: a checkout of this repository anywhere finds the same warehouse and the same files.
    sed -e "s|path: .errand/|path: $demo/state/|" -e "s|path: data |path: $demo/data |" "$source/errand.yaml" >jobs/errand.yaml
    mkdir -p jobs/jobs
    cp -R "$source/jobs/tpch" jobs/jobs/
    sed -i.bak 's/large_quantity: 300/large_quantity: 310/' jobs/jobs/tpch/job.yaml
    rm jobs/jobs/tpch/job.yaml.bak
    commit 'load TPC-H and answer five of its queries'
    cp "$source/jobs/tpch/job.yaml" jobs/jobs/tpch/job.yaml
    commit 'call orders of more than 300 pieces large'
}

commit() {
    git -C jobs add --all
    git -C jobs -c user.name=Demo -c user.email=demo@example.com -c commit.gpgsign=false commit --quiet --message "$1"
}

# People read this: log lines as text, wherever it runs.
export ERRAND_LOG_FORMAT=text

title 'Build'
say 'The first build on a machine compiles the embedded warehouse, DuckDB, from C++: see the top of README.md.'
cargo build --locked --workspace --bins
PATH=$CARGO_TARGET_DIR/debug:$PATH
rm -rf "$demo"
mkdir -p "$demo/data/tpch" "$demo/state"
cd "$demo"

title 'The input: TPC-H, eight tables in pipe-delimited files'
try 0 tpch --scale-factor "$scale_factor" --out data/tpch
wc -l data/tpch/*.tbl

title 'The job repository: errand.yaml, one job, two commits'
make_job_repository
try 0 git -C jobs --no-pager log --oneline --stat --reverse
try 0 errand validate --repo jobs

repository=file://$demo/jobs
title '1. A run: the commit that main names, for the interval of one day'
try 0 errand run tpch --repo "$repository" --ref main --interval 2026-01-05
try 0 rows state/warehouse.duckdb region nation supplier customer part partsupp orders lineitem q1_pricing_summary \
    q3_shipping_priority q5_local_supplier_volume q6_revenue_change q18_large_orders
say '' 'the report it exported:'
cut -d, -f1-4,10 state/reports/2026-01-05/pricing_summary.csv
before=$(published)

title '2. The same interval again: done already, so nothing is written'
try 0 errand run tpch --repo "$repository" --ref main --interval 2026-01-05
unchanged "$before"

title '3. The next day, with a broken file: one comma for a point'
line=$(($(wc -l <data/tpch/lineitem.tbl) / 2))
mv data/tpch/lineitem.tbl lineitem.sound
# The first point of a record is the one in its price, the sixth field.
sed "${line}s/\./,/" lineitem.sound >data/tpch/lineitem.tbl
say "line $line of lineitem.tbl is now:"
sed -n "${line}p" data/tpch/lineitem.tbl
try 13 errand run tpch --repo "$repository" --ref main --interval 2026-01-06
unchanged "$before"
say '13 is the exit code of rejected input. What needs lineitem did not start. The report of this run:'
failed=$(basename "$(find state/runs -name '*.json' | sort | tail -n 1)" .json)
try 0 errand runs show "$failed" --repo jobs

title '4. The file is corrected: the same interval completes'
mv lineitem.sound data/tpch/lineitem.tbl
try 0 errand run tpch --repo "$repository" --ref main --interval 2026-01-06
try 0 rows state/warehouse.duckdb lineitem q1_pricing_summary

title 'What happened here'
try 0 errand runs --repo jobs
say '' "All of it lies in .demo/: the job repository in jobs/, the warehouse and the reports in state/."
