#!/bin/sh
# A throwaway PostgreSQL server that lives as long as this script's standard input stays open.
#
# Prints the address of its administrative database as the first and only line, once it takes connections. The caller
# holds the other end of standard input: when the caller ends, however it ends, kill -9 included, the kernel closes the
# pipe, and the server is stopped and its directory deleted. Used by scripts/test and by the crate itself.
#
#   postgres-server.sh [obedient [LANGUAGE]]
#
# An obedient one takes orders by lines: `stop` kills the server as a crash of the machine would, `start` brings it back.
# It answers each with a line, `done` or what went wrong. Its messages are English, or in LANGUAGE (`de_DE`): the locale is
# compiled into the server's folder, so that none has to be installed.
set -eu

fail() {
    echo "$1" >&2
    exit 1
}

# Debian keeps the server's programs out of PATH; what is in PATH comes first, then the newest version. `runuser` is in a
# folder that root's PATH lacks after a plain `su`.
installed=/usr/sbin:/sbin
for folder in /usr/lib/postgresql/*/bin; do
    [ ! -d "$folder" ] || installed="$folder:$installed"
done
PATH="$PATH:$installed"
for program in initdb pg_ctl; do
    command -v "$program" >/dev/null ||
        fail "PostgreSQL's server programs are missing ($program): run scripts/test, or apt-get install postgresql"
done

# PostgreSQL refuses to run as root. Root's own TMPDIR may be closed to others, so root uses /tmp.
if [ "$(id -u)" = 0 ]; then
    id postgres >/dev/null 2>&1 || fail "root cannot run PostgreSQL, and there is no user postgres: apt-get install postgresql"
    folder=$(mktemp -d /tmp/cryptopay-postgres.XXXXXX)
    chown postgres "$folder"
    unprivileged() { runuser -u postgres -- "$@"; }
else
    folder=$(mktemp -d "${TMPDIR:-/tmp}/cryptopay-postgres.XXXXXX")
    unprivileged() { "$@"; }
fi
# The stop waits for the processes, so that nothing writes into the folder while it is deleted.
stop_and_delete() {
    if [ -e "$folder/data/postmaster.pid" ]; then
        unprivileged pg_ctl -D "$folder/data" -w -m immediate stop >/dev/null 2>&1 || :
    fi
    rm -rf "$folder"
}
trap stop_and_delete EXIT
# Ctrl-C reaches every process of the terminal; the end is announced by the pipe alone. A caller that is gone before the
# address is printed makes that line fail, and the script end in order, instead of killing it.
trap '' HUP INT TERM PIPE
cd "$folder"

# A password, because a superuser of PostgreSQL can run programs and the port is open to everyone on this machine. Sent
# as it is: the hashing of the better method costs a debug build 50 ms for each connection.
password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
(umask 077 && echo "$password" >password)
[ "$(id -u)" != 0 ] || chown postgres password
unprivileged initdb -D "$folder/data" -U postgres -E UTF8 --locale=C --no-sync --auth=password \
    --pwfile="$folder/password" >"$folder/initdb.log" 2>&1 || fail "initdb failed: $(cat "$folder/initdb.log")"

messages=C
if [ -n "${2:-}" ]; then
    [ -e "/usr/share/i18n/locales/$2" ] || fail "the sources of the locale $2 are missing: run scripts/test, or apt-get install locales"
    messages=$2.UTF-8
    mkdir "$folder/locales"
    localedef -i "$2" -f UTF-8 "$folder/locales/$messages" >&2 || fail "the locale $messages cannot be compiled"
    [ "$(id -u)" != 0 ] || chown -R postgres "$folder/locales"
    export LOCPATH="$folder/locales"
fi

# Durability is off: nothing here outlives the tests. 300 connections: each test has a pool of its own.
start() {
    unprivileged pg_ctl -D "$folder/data" -w -t 30 -l "$folder/data/server.log" -o "-p $port \
        -c lc_messages=$messages -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=300 \
        -c fsync=off -c full_page_writes=off -c autovacuum=off" start >/dev/null 2>&1
}
# Below the range from which the kernel hands out ports; another try when somebody has this one.
attempt=0
while :; do
    port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))
    ! start || break
    attempt=$((attempt + 1))
    [ "$attempt" -lt 5 ] || fail "PostgreSQL did not start: $(cat "$folder/data/server.log")"
done

echo "postgres://postgres:$password@127.0.0.1:$port/postgres"
if [ "${1:-}" = obedient ]; then
    while read -r order; do
        case $order in
            stop) unprivileged pg_ctl -D "$folder/data" -w -m immediate stop >/dev/null 2>&1 && echo done ;;
            start) start && echo done ;;
            *) false ;;
        esac || echo "PostgreSQL did not $order"
    done
fi
# The caller may be gone by the time of the stop: hold none of its pipes.
exec >/dev/null 2>&1
while read -r _; do :; done
