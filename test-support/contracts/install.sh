#!/bin/sh
# Installs the node and the compiler of package-lock.json, compiles the contracts, and prints the folder that holds both
# as its only line: node_modules and contracts.json. Used by scripts/test and by the crate itself.
#
#   install.sh <folder for what is built>
#
# Nothing is written beside the sources. What is there already is used again, for as long as neither the lock file nor a
# contract changes; several callers at once wait for the first.
set -eu

fail() {
    echo "$1" >&2
    exit 1
}

sources=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/test-contracts"
built=$(cd "$1/test-contracts" && pwd)
for program in node npm; do
    command -v "$program" >/dev/null ||
        fail "$program is missing, which installs the test node and compiles contracts: run scripts/test, or apt-get install nodejs npm"
done

cd "$sources"
folder=$built/$(cat package.json package-lock.json .npmrc compile.js src/*.sol | cksum | tr ' ' -)
# A lock of the kernel's, which nobody's death leaves behind; where there is none, two may do the same work.
exec 9>"$built/lock"
! command -v flock >/dev/null || flock 9
if [ ! -e "$folder/contracts.json" ]; then
    rm -rf "$folder"
    mkdir "$folder"
    cp package.json package-lock.json .npmrc "$folder"
    (cd "$folder" && npm ci >npm.log 2>&1) || fail "npm could not install what package-lock.json names: $(cat "$folder/npm.log")"
    node compile.js "$folder" "$folder/contracts.json" >&2 || fail "the contracts do not compile"
fi
echo "$folder"
