#!/usr/bin/env bash
# Node's `ws`: raw dialect, a Set of sockets for each channel, each message to each with send().
set -euo pipefail
home="$(cd "$(dirname "$0")/../.." && pwd)/target/peers/ws"
case "$1" in
about) echo "raw|/|ws 8.18.3 (Node $(node --version))" ;;
install)
    mkdir -p "$home" && cd "$home"
    [ -d node_modules/ws ] || npm install --no-audit --no-fund --silent ws@8.18.3
    cat >server.cjs <<'JS'
const { WebSocketServer } = require("ws");
const channels = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false, backlog: 4096 });
server.on("connection", (socket) => {
    const mine = [];
    socket.on("message", (message) => {
        const text = message.toString();
        if (text[0] === "S") {
            const name = text.slice(2);
            if (!channels.has(name)) channels.set(name, new Set());
            channels.get(name).add(socket);
            mine.push(name);
            socket.send("s " + name);
        } else {
            const at = text.indexOf(" ", 2);
            const payload = Buffer.from(text.slice(at + 1));
            for (const one of channels.get(text.slice(2, at)) ?? []) one.send(payload, { binary: false });
        }
    });
    socket.on("close", () => { for (const name of mine) channels.get(name).delete(socket); });
    socket.on("error", () => {});
});
JS
    ;;
start) cd "$home" && exec node server.cjs "$2" ;;
esac
