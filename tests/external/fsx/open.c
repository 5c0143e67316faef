/* Changes how the exerciser fsx opens the file under test, the only one it opens for reading and writing:
 *   FSX_DIRECT=1         with O_DIRECT, which fsx has no setting for
 *   FSX_REMOUNT="N LINE" runs the shell line before every Nth opening; fsx holds no descriptor at that moment */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>

static void remount(void)
{
    static long openings;
    const char *setting = getenv("FSX_REMOUNT");
    if (!setting)
        return;
    char *line;
    long every = strtol(setting, &line, 10);
    if (++openings % every == 0 && system(line) != 0)
        abort();
}

int open64(const char *path, int flags, ...)
{
    static int (*next)(const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "open64");
    if ((flags & O_ACCMODE) == O_RDWR) {
        remount();
        if (getenv("FSX_DIRECT"))
            flags |= O_DIRECT;
    }
    return next(path, flags, mode);
}
