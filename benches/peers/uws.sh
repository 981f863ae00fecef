#!/usr/bin/env bash
# uWebSockets (C++, epoll), in the npm package that ships it for Node: raw dialect, its own pub/sub.
set -euo pipefail
home="$(cd "$(dirname "$0")/../.." && pwd)/target/peers/uws"
dialect=raw name="uWebSockets.js 3.0.6 (npm uwebsockets)"
case "$1" in
about) echo "$dialect|/|$name" ;;
install)
    mkdir -p "$home" && cd "$home"
    [ -d node_modules/uwebsockets ] || npm install --no-audit --no-fund --silent uwebsockets@3.0.6
    cat >server.cjs <<'JS'
const uws = require("uwebsockets");
const app = uws.App();
app.ws("/*", {
    maxPayloadLength: 1 << 20, idleTimeout: 0, maxBackpressure: 1 << 30,
    message(socket, message) {
        const text = Buffer.from(message).toString();
        if (text[0] === "S") {
            socket.subscribe(text.slice(2));
            socket.send("s " + text.slice(2));
        } else {
            const at = text.indexOf(" ", 2);
            app.publish(text.slice(2, at), text.slice(at + 1));
        }
    },
});
app.listen("127.0.0.1", Number(process.argv[2]), (ok) => { if (!ok) process.exit(1); });
JS
    ;;
start) cd "$home" && exec node server.cjs "$2" ;;
esac
