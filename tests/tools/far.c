// A long way between two hosts: `far A B MILLISECONDS [A B MILLISECONDS ..]` makes two TUN devices for each triple and carries every packet
// from one to the other so many milliseconds later, in order. Says "ready" when the devices are there, to be moved into their namespaces.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { WAYS_MAX = 16, BYTES_MAX = 2048, WAITING_MAX = 8192 };

struct packet {
    long long due;
    int length;
    char bytes[BYTES_MAX];
};

// One direction.
struct way {
    long long delay;
    unsigned first, count;
    struct packet *waiting;
};

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int device(const char *name) {
    struct ifreq request = {0};
    int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (tun < 0 || ioctl(tun, TUNSETIFF, &request) < 0) {
        fprintf(stderr, "far: %s: %s\n", name, strerror(errno));
        exit(1);
    }
    return tun;
}

int main(int count, char **words) {
    static struct way ways[WAYS_MAX];
    struct pollfd ends[WAYS_MAX] = {0};
    int all = 0;
    if (count < 4 || (count - 1) % 3 || (count - 1) / 3 * 2 > WAYS_MAX) {
        fprintf(stderr, "far A B MILLISECONDS [A B MILLISECONDS ..]\n");
        return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1UL);
    for (int at = 1; at + 2 < count; at += 3) {
        for (int side = 0; side < 2; side++, all++) {
            ends[all].fd = device(words[at + side]);
            ends[all].events = POLLIN;
            ways[all].delay = (long long)(atof(words[at + 2]) * 1e6);
            ways[all].waiting = calloc(WAITING_MAX, sizeof(struct packet));
            if (!ways[all].waiting) return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        long long at = now(), next = at + 1000000000LL;
        for (int end = 0; end < all; end++) {
            struct way *way = &ways[end];
            while (way->count && way->waiting[way->first].due <= at) {
                struct packet *packet = &way->waiting[way->first];
                // A device that is not up yet, or takes no more, loses it, as wires do.
                ssize_t written = write(ends[end ^ 1].fd, packet->bytes, packet->length);
                (void)written;
                way->first = (way->first + 1) % WAITING_MAX;
                way->count--;
            }
            if (way->count && way->waiting[way->first].due < next) next = way->waiting[way->first].due;
        }
        struct timespec pause = {(next - at) / 1000000000LL, (next - at) % 1000000000LL};
        if (ppoll(ends, all, &pause, NULL) < 0 && errno != EINTR) return 1;
        for (int end = 0; end < all; end++) {
            struct way *way = &ways[end];
            while (way->count < WAITING_MAX) {
                struct packet *packet = &way->waiting[(way->first + way->count) % WAITING_MAX];
                packet->length = (int)read(ends[end].fd, packet->bytes, BYTES_MAX);
                if (packet->length <= 0) break;
                packet->due = now() + way->delay;
                way->count++;
            }
        }
    }
}
