#!/usr/bin/env bash
# Runs a command, and ends with one line that adds up the results of all test binaries that it ran:
#
#     tests/sum.sh cargo test --workspace
set -uo pipefail

output=$(mktemp)
trap 'rm -f "$output"' EXIT
"$@" | tee "$output"
status=${PIPESTATUS[0]}

# test result: ok. 3 passed; 0 failed; 0 ignored; ...
sum=$(awk '
  /^test result: / { passed += $4; failed += $6; ignored += $8 }
  END {
    printf "%d passed, %d failed", passed, failed
    if (ignored) printf ", %d ignored", ignored
  }
' "$output")
if [ "$status" != 0 ]; then
  sum+="; ended with status $status"
fi
echo "$sum"
exit "$status"
