#!/usr/bin/env bash
# Status 0 where the process of this container is ready: it asks /readyz at the address that MINICPMV_ADMIN_LISTEN, which
# the process reads too, says. Bash alone, as the image holds no HTTP client.
#
#     MINICPMV_ADMIN_LISTEN=127.0.0.1:9464 deploy/health.sh
set -euo pipefail

listen=${MINICPMV_ADMIN_LISTEN:?says where the admin port is}
host=${listen%:*} port=${listen##*:}
[ "$host" = 0.0.0.0 ] && host=127.0.0.1
exec 3<>"/dev/tcp/$host/$port"
printf 'GET /readyz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$host" >&3
read -r -t 4 _ status _ <&3
echo "$status"
[ "$status" = 200 ]
