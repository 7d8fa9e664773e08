/* How large this processor's caches are. They shape the work, never a bit of its results. */
#ifndef RNNCORE_CACHES_H
#define RNNCORE_CACHES_H

#include <stddef.h>
#include <unistd.h>

/* Bytes of a core's own cache, level 1 (data) or 2; a usual size where the system does not tell. */
static ptrdiff_t cache_bytes(int level)
{
    long bytes = 0;
#if defined(_SC_LEVEL1_DCACHE_SIZE) && defined(_SC_LEVEL2_CACHE_SIZE)
    bytes = sysconf(level == 1 ? _SC_LEVEL1_DCACHE_SIZE : _SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? bytes : level == 1 ? 32768 : 524288;
}

#endif
