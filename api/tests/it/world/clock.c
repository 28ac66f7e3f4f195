/* The time of day of a machine whose clock is wrong by CLOCK_OFFSET_SECS, for the process that this is loaded into. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    const char *offset = getenv("CLOCK_OFFSET_SECS");
    if (result == 0 && clock == CLOCK_REALTIME && offset)
        now->tv_sec += atol(offset);
    return result;
}
