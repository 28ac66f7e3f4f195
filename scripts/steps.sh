# What the scripts have in common, to be sourced from the root of the repository: installing what is missing, telling what
# goes on, giving up.

has() {
    command -v "$1" >/dev/null 2>&1
}

# Debian's packages, as root or with sudo.
install() {
    has apt-get || fail "missing: $*; install it with your system's package manager"
    if [[ -z ${package_lists_read:-} ]]; then
        as_root apt-get update -qq
        package_lists_read=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

as_root() {
    if [[ $EUID == 0 ]]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail "not root, and no sudo to run: $*"
    fi
}

heading() {
    echo "== $1"
}

# step <name> <command>…
step() {
    local name=$1 started=$SECONDS
    shift
    heading "$name"
    "$@"
    echo "== $name: done in $((SECONDS - started)) s"
}

fail() {
    echo "${BASH_SOURCE[-1]}: $*" >&2
    exit 1
}
