/* A disk that fails and a clock that is wrong, slipped under a node with LD_PRELOAD.
 *
 * CHAOS_PAGE names a file of one page that the test and the node share. Its bytes 8 to 15 are a number: so many
 * milliseconds the wall clock goes ahead. The monotonic clock stays right, as on a machine whose time somebody sets.
 * The first byte says how the disk is now:
 *
 *   0  as the real one is
 *   1  fsync, fdatasync, sync_file_range and msync end with EIO
 *   2  they say that all is well and do nothing: the control, what was acknowledged is not durable
 *   3  they and every write to a file end with EIO
 *
 * Sockets and pipes are left alone: a write fails only on regular files. (libfaketime is not used: its absolute sleeps on
 * the monotonic clock end with EINVAL, and Python's are such.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SOUND, SYNC_FAILS, SYNC_LIES, ALL_FAILS };

static volatile const unsigned char *state;

__attribute__((constructor)) static void begin(void)
{
    const char *name = getenv("CHAOS_PAGE");
    int file = name ? open(name, O_RDONLY) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED)
        state = page;
    close(file);
}

static int disk(void)
{
    return state ? *state : SOUND;
}

static int is_file(int descriptor)
{
    struct stat found;
    return fstat(descriptor, &found) == 0 && S_ISREG(found.st_mode);
}

static int fails_to_write(int descriptor)
{
    return disk() == ALL_FAILS && is_file(descriptor);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define SYNCING(name, parameters, arguments)                                                                           \
    int name parameters                                                                                                \
    {                                                                                                                  \
        int how = disk();                                                                                              \
        if (how == SYNC_FAILS || how == ALL_FAILS) {                                                                   \
            errno = EIO;                                                                                               \
            return -1;                                                                                                 \
        }                                                                                                              \
        return how == SYNC_LIES ? 0 : NEXT(name) arguments;                                                            \
    }

SYNCING(fsync, (int descriptor), (descriptor))
SYNCING(fdatasync, (int descriptor), (descriptor))
SYNCING(msync, (void *start, size_t size, int flags), (start, size, flags))
SYNCING(sync_file_range, (int descriptor, off64_t offset, off64_t size, unsigned flags),
        (descriptor, offset, size, flags))

#define WRITING(name, parameters, arguments)                                                                           \
    ssize_t name parameters                                                                                            \
    {                                                                                                                  \
        if (fails_to_write(descriptor)) {                                                                              \
            errno = EIO;                                                                                               \
            return -1;                                                                                                 \
        }                                                                                                              \
        return NEXT(name) arguments;                                                                                   \
    }

WRITING(write, (int descriptor, const void *data, size_t size), (descriptor, data, size))
WRITING(pwrite, (int descriptor, const void *data, size_t size, off_t offset), (descriptor, data, size, offset))
WRITING(pwrite64, (int descriptor, const void *data, size_t size, off64_t offset), (descriptor, data, size, offset))
WRITING(writev, (int descriptor, const struct iovec *parts, int count), (descriptor, parts, count))

static int64_t ahead_ms(void)
{
    return state ? *(volatile const int64_t *)(state + 8) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = NEXT(clock_gettime)(clock, now);
    int64_t ahead = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? ahead_ms() : 0;
    if (failed || !ahead)
        return failed;
    int64_t all = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + ahead * 1000000;
    now->tv_sec = all / 1000000000;
    now->tv_nsec = all % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec found;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &found))
        return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where)
{
    struct timespec found;
    if (clock_gettime(CLOCK_REALTIME, &found))
        return (time_t)-1;
    if (where)
        *where = found.tv_sec;
    return found.tv_sec;
}
