/* Preloaded into the program: kills it when it writes to the disk for the n-th time.
 *
 * CRASH_ARMED names a file; writes count from when it is there. CRASH_AT is a number: 2n kills before
 * the n-th write is made lasting, 2n + 1 after it. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long seen;

static void step(void) {
    const char *at = getenv("CRASH_AT"), *armed = getenv("CRASH_ARMED");
    if (at && armed && access(armed, F_OK) == 0 && atomic_fetch_add(&seen, 1) == atol(at)) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
}

int fdatasync(int fd) {
    step();
    int done = (int)syscall(SYS_fdatasync, fd);
    step();
    return done;
}

int fsync(int fd) {
    step();
    int done = (int)syscall(SYS_fsync, fd);
    step();
    return done;
}
