#!/bin/sh
# twice.sh COMMAND... runs a command, and once more where it fails.
"$@" && exit
echo "=== that failed, and is run once more"
exec "$@"
