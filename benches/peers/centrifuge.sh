#!/usr/bin/env bash
# A server made with the centrifuge library (Go), as Centrifugo is: memory broker, JSON. One CPU: GOMAXPROCS=1.
set -euo pipefail
home="$(cd "$(dirname "$0")/../.." && pwd)/target/peers/centrifuge"
case "$1" in
about) echo "centrifuge|/connection/websocket|centrifuge v0.38.0 (Go library of Centrifugo)" ;;
install)
    mkdir -p "$home" && cd "$home"
    [ -x server ] && exit 0
    cat >main.go <<'GO'
package main

import (
	"context"
	"log"
	"net/http"
	"os"

	"github.com/centrifugal/centrifuge"
)

func main() {
	node, err := centrifuge.New(centrifuge.Config{ClientChannelLimit: 1000, ClientQueueMaxSize: 1 << 30})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: "load"}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{}, nil)
		})
		client.OnPublish(func(_ centrifuge.PublishEvent, done centrifuge.PublishCallback) {
			done(centrifuge.PublishReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	http.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{}))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
GO
    [ -f go.mod ] || go mod init peer
    go get github.com/centrifugal/centrifuge@v0.38.0
    go build -o server .
    ;;
start)
    export GOMAXPROCS=1
    exec "$home/server" "$2"
    ;;
esac
