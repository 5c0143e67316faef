/* Makes the exerciser open its file with O_DIRECT, which it cannot do by itself: LD_PRELOAD=o_direct.so fsx ...
 * The file under test is the only one it opens for reading and writing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>

int open64(const char *path, int flags, ...)
{
    static int (*next)(const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "open64");
    return next(path, (flags & O_ACCMODE) == O_RDWR ? flags | O_DIRECT : flags, mode);
}
