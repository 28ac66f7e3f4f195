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
    # Forced, since the test node's package is for one system only. It is no optional package: npm 9 leaves those out without
    # a word if their `engines` ask for a newer Node, which this native program does not need.
    (cd "$folder" && npm ci --force >npm.log 2>&1) || fail "npm could not install what package-lock.json names: $(cat "$folder/npm.log")"
    node compile.js "$folder" "$folder/contracts.json" >&2 || fail "the contracts do not compile"
fi
# The package is for this system only; on others the node comes from PATH.
anvil=anvil
[ "$(uname -sm)" != "Linux x86_64" ] || anvil=$folder/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil
"$anvil" --version >/dev/null 2>"$built/anvil.log" || fail "the test node does not run ($anvil): $(cat "$built/anvil.log")
On x86_64 Linux npm installs it: see $folder/npm.log. Elsewhere install anvil 1.7 of Foundry: https://getfoundry.sh"
echo "$folder"
