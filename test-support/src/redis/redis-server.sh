#!/bin/sh
# A throwaway Redis server that lives as long as this script's standard input stays open.
#
#   redis-server.sh [PORT PASSWORD]
#
# Prints its address as the first and only line, once it takes connections. The caller holds the other end of standard
# input: when the caller ends, however it ends, kill -9 included, the kernel closes the pipe, and the server is killed with
# all that it holds. A line on standard input does the same. Used by scripts/test and by the crate itself.
set -eu

fail() {
    echo "$1" >&2
    exit 1
}

command -v redis-cli >/dev/null || fail "Redis is missing (redis-cli): run scripts/test, or apt-get install redis-tools"
folder=$(mktemp -d "${TMPDIR:-/tmp}/cryptopay-redis.XXXXXX")
# Debian's package of tools holds the server too, under the name of another tool: it is one program that looks at how it was
# called. The server's own package adds that name and a service which nobody asked for.
if command -v redis-server >/dev/null; then
    ln -s "$(command -v redis-server)" "$folder/redis-server"
elif command -v redis-check-rdb >/dev/null; then
    ln -s "$(command -v redis-check-rdb)" "$folder/redis-server"
else
    rm -rf "$folder"
    fail "Redis is missing (redis-server): run scripts/test, or apt-get install redis-tools"
fi
server=
# Killed: nothing that it holds is wanted, and a test of a crash gets one.
stop_and_delete() {
    [ -z "$server" ] || kill -9 "$server" 2>/dev/null || :
    [ -z "$server" ] || wait "$server" 2>/dev/null || :
    rm -rf "$folder"
}
trap stop_and_delete EXIT
# Ctrl-C reaches every process of the terminal; the end is announced by the pipe alone.
trap '' HUP INT TERM PIPE
cd "$folder"

# A password, because the port is open to everyone on this machine.
password=${2:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
attempt=0
while :; do
    # Below the range from which the kernel hands out ports; another try when somebody has this one.
    port=${1:-$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))}
    # Nothing is kept: what is in it may be lost at any moment anyway.
    ./redis-server --port "$port" --bind 127.0.0.1 --requirepass "$password" --save '' --appendonly no \
        --dir "$folder" --daemonize no --loglevel warning >server.log 2>&1 &
    server=$!
    asked=0
    while kill -0 "$server" 2>/dev/null; do
        if [ "$(REDISCLI_AUTH=$password redis-cli -h 127.0.0.1 -p "$port" ping 2>/dev/null)" = PONG ]; then
            break 2
        fi
        asked=$((asked + 1))
        [ "$asked" -lt 200 ] || fail "Redis does not answer: $(cat server.log)"
        sleep 0.05
    done
    wait "$server" || :
    attempt=$((attempt + 1))
    [ "$attempt" -lt 5 ] || fail "Redis did not start: $(cat server.log)"
done

echo "redis://:$password@127.0.0.1:$port"
# The caller may be gone by the time of the stop: hold none of its pipes.
exec >/dev/null 2>&1
read -r _ || :
