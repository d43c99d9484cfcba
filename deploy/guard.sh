#!/bin/sh
# Leave a station safe when its program is gone, however it went.
#     labctl-guard hold LOCK COMMAND...   run a command that holds the lock
#     labctl-guard watch LOCK STATION     leave the station safe each time the holder has gone
# A container that is killed takes its own watchdog process along. The kernel then frees the lock,
# and the guard, a container by itself, has it at once. While the guard works the lock is its: a
# program that starts again waits until the bench is safe. LOCK.used says that there was a holder;
# it stays until all was left safe, so that what failed is tried again, also by the next guard.
set -eu
mode=$1 lock=$2
shift 2
case $mode in
hold)
    # The command takes the place of flock, so that signals reach it; the first word is the $0.
    exec flock --no-fork "$lock" sh -c 'touch "$0.used"; exec "$@"' "$lock" "$@"
    ;;
watch)
    while :; do
        if [ -e "$lock.used" ]; then
            flock "$lock" sh -c 'labctl safe "$1" && rm "$0.used"' "$lock" "$1" ||
                echo "labctl-guard: not all is safe, see above; trying again" >&2
        fi
        sleep 0.2
    done
    ;;
*)
    echo "labctl-guard: expected hold or watch, got $mode" >&2
    exit 2
    ;;
esac
