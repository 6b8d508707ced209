/* Forbidden bytes behind every piece of the memory that a caller hands in as one, in builds with AddressSanitizer: a step from
   one piece into the next is then caught as well. Nothing at all in other builds. */
#ifndef MIRL_GUARD_H
#define MIRL_GUARD_H

#include <stddef.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define GUARD 64
#define forbid(from, bytes) __asan_poison_memory_region(from, bytes)
#define allow(from, bytes) __asan_unpoison_memory_region(from, bytes)
#else
#define GUARD 0
#define forbid(from, bytes) ((void)0)
#define allow(from, bytes) ((void)0)
#endif

/* Bytes that a piece takes: whole cache lines, and the guard. */
static inline size_t guarded(size_t bytes) { return ((bytes + 63) & ~(size_t)63) + GUARD; }

#endif
