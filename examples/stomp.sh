#!/bin/sh
# Sends a message and receives it again over STOMP, with nothing but netcat. Needs a broker with
# listeners.stomp.bind = "127.0.0.1:61613"; run `sh examples/stomp.sh`, or with host and port.
set -eu
host=${1:-127.0.0.1} port=${2:-61613}

# Each frame: a command, headers, an empty line, a body, and a NUL at the end.
{
    printf 'CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\n\n\000'
    printf 'SUBSCRIBE\nid:1\ndestination:/queue/hello-stomp\n\n\000'
    printf 'SEND\ndestination:/queue/hello-stomp\ncontent-type:text/plain\n\nHello, STOMP!\000'
    # The broker answers a receipt when it has done what it is for, and closes after a DISCONNECT.
    sleep 1
    printf 'DISCONNECT\nreceipt:done\n\n\000'
} | nc "$host" "$port" | tr '\000' '\n' | sed -n 's/^Hello/received: Hello/p'
