#!/usr/bin/env bash
# The floor: epoll, and one send() for each subscriber of each message. No queues, nothing else that a server needs. Raw dialect.
set -euo pipefail
home="$(cd "$(dirname "$0")/../.." && pwd)/target/peers/floor"
case "$1" in
about) echo "raw|/|a send() loop in C" ;;
install)
    mkdir -p "$home" && cd "$home"
    cat >floor.c <<'C'
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* SHA-1 of a key and the websocket's word, in base64: RFC 6455 4.2.2. */
static uint32_t rol(uint32_t x, int n) { return x << n | x >> (32 - n); }
static void sha1(const unsigned char *data, size_t len, unsigned char out[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char block[128] = {0};
    size_t blocks = (len + 9 + 63) / 64;
    memcpy(block, data, len);
    block[len] = 0x80;
    for (int i = 0; i < 8; i++) block[blocks * 64 - 1 - i] = (unsigned char)((len * 8) >> (8 * i));
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80], v[5];
        for (int i = 0; i < 16; i++) { unsigned char *p = block + b * 64 + i * 4; w[i] = (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }
        for (int i = 16; i < 80; i++) w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        memcpy(v, h, sizeof h);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20 ? (v[1] & v[2]) | (~v[1] & v[3]) : i < 40 ? v[1] ^ v[2] ^ v[3] : i < 60 ? (v[1] & v[2]) | (v[1] & v[3]) | (v[2] & v[3]) : v[1] ^ v[2] ^ v[3];
            uint32_t k = i < 20 ? 0x5A827999 : i < 40 ? 0x6ED9EBA1 : i < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
            uint32_t t = rol(v[0], 5) + f + v[4] + k + w[i];
            v[4] = v[3]; v[3] = v[2]; v[2] = rol(v[1], 30); v[1] = v[0]; v[0] = t;
        }
        for (int i = 0; i < 5; i++) h[i] += v[i];
    }
    for (int i = 0; i < 20; i++) out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}
static void accept_key(const char *key, char *out) {
    static const char *digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[64]; unsigned char sum[21] = {0};
    snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1((unsigned char *)text, 60, sum);
    for (int i = 0; i < 21; i += 3) {
        uint32_t w = (uint32_t)sum[i] << 16 | sum[i + 1] << 8 | sum[i + 2];
        for (int j = 0; j < 4; j++) *out++ = digits[w >> (18 - 6 * j) & 63];
    }
    out[-1] = '='; *out = 0;
}

struct channel { char name[64]; int *fds, count, room; };
static struct channel *channels; static int channel_count;
static struct channel *channel_of(const char *name, size_t len) {
    for (int i = 0; i < channel_count; i++) if (strlen(channels[i].name) == len && !memcmp(channels[i].name, name, len)) return &channels[i];
    channels = realloc(channels, ++channel_count * sizeof *channels);
    struct channel *one = &channels[channel_count - 1];
    memset(one, 0, sizeof *one); memcpy(one->name, name, len);
    return one;
}
struct conn { int is_open; size_t len; unsigned char *in; };
static struct conn conns[70000];

static size_t head_of(unsigned char *out, size_t len) {
    out[0] = 0x81;
    if (len < 126) { out[1] = len; return 2; }
    out[1] = 126; out[2] = len >> 8; out[3] = len; return 4;
}
static void message(int fd, char *text, size_t len) {
    static unsigned char frame[1 << 17];
    if (text[0] == 'S') {
        struct channel *c = channel_of(text + 2, len - 2);
        if (c->count == c->room) c->fds = realloc(c->fds, (c->room = c->room * 2 + 16) * sizeof(int));
        c->fds[c->count++] = fd;
        size_t head = head_of(frame, len);
        memcpy(frame + head, text, len); frame[head] = 's';
        send(fd, frame, head + len, MSG_NOSIGNAL);
    } else {
        char *space = memchr(text + 2, ' ', len - 2);
        struct channel *c = channel_of(text + 2, space - text - 2);
        size_t payload = len - (space + 1 - text), head = head_of(frame, payload);
        memcpy(frame + head, space + 1, payload);
        for (int i = 0; i < c->count; i++) send(c->fds[i], frame, head + payload, MSG_NOSIGNAL);
    }
}
static void drop(int fd) {
    for (int i = 0; i < channel_count; i++) for (int j = 0; j < channels[i].count;) if (channels[i].fds[j] == fd) channels[i].fds[j] = channels[i].fds[--channels[i].count]; else j++;
    free(conns[fd].in); memset(&conns[fd], 0, sizeof conns[fd]); close(fd);
}
static void readable(int fd) {
    struct conn *c = &conns[fd];
    static unsigned char scratch[1 << 16];
    ssize_t got = recv(fd, scratch, sizeof scratch, MSG_DONTWAIT);
    if (got <= 0) { if (got == 0) drop(fd); return; }
    c->in = realloc(c->in, c->len + got + 1);
    memcpy(c->in + c->len, scratch, got); c->len += got; c->in[c->len] = 0;
    size_t at = 0;
    if (!c->is_open) {
        char *end = strstr((char *)c->in, "\r\n\r\n"), *key = strcasestr((char *)c->in, "sec-websocket-key: ");
        if (!end || !key) return;
        char accept[32], answer[256]; accept_key(key + 19, accept);
        int n = snprintf(answer, sizeof answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
        send(fd, answer, n, MSG_NOSIGNAL); c->is_open = 1; at = end + 4 - (char *)c->in;
    }
    for (;;) {
        if (c->len - at < 6) break;
        unsigned char *f = c->in + at; size_t head = 6, len = f[1] & 127;
        if (len == 126) { if (c->len - at < 8) break; len = f[2] << 8 | f[3]; head = 8; }
        if (c->len - at < head + len) break;
        for (size_t i = 0; i < len; i++) f[head + i] ^= f[head - 4 + i % 4];
        if ((f[0] & 15) == 8) { drop(fd); return; }
        if ((f[0] & 15) == 1) message(fd, (char *)f + head, len);
        at += head + len;
    }
    memmove(c->in, c->in + at, c->len - at); c->len -= at;
    if (!c->len) { free(c->in); c->in = NULL; }
}
int main(int argc, char **argv) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, poll = epoll_create1(0);
    (void)argc;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&to, sizeof to) || listen(listener, 4096)) { perror("listen"); return 1; }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) { readable(fd); continue; }
            int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            if (client < 0) continue;
            setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            struct epoll_event in = {.events = EPOLLIN, .data.fd = client};
            epoll_ctl(poll, EPOLL_CTL_ADD, client, &in);
        }
    }
}
C
    cc -O2 -Wall -o floor floor.c
    ;;
start) exec "$home/floor" "$2" ;;
esac
