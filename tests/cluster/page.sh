#!/bin/bash
# page.sh [PORT] : the status page of the node-agent at http://127.0.0.1:PORT/ (8085) of this machine, until Ctrl-C.
. "$(dirname "$(readlink -f "$0")")/common.sh"
address=$(k -n velero get pods -l name=node-agent --field-selector status.phase=Running -o jsonpath='{.items[0].status.podIP}')
exec "$PYTHON" "$SRC/page.py" $NS "$address:8085" "${1:-8085}"
