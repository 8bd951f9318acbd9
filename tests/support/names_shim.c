/* LD_PRELOAD: getaddrinfo knows every name that ends in ".local" as 127.0.0.1, as mDNS (avahi) would by nsswitch; nobody
   else does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>

typedef int (*lookup)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    static lookup real;
    if (!real) real = (lookup)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *end = name ? strrchr(name, '.') : 0;
    return real(end && !strcmp(end, ".local") ? "127.0.0.1" : name, service, hints, found);
}
