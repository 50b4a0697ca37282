/* Handles of every kind that a library may give out. The functions' names are what leakwatch is told. */
#ifndef POOL_H
#define POOL_H
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
/* A handle is an address; NULL: it failed. */
void *pool_open(size_t size);
void pool_close(void *handle);
/* A handle is a small number; -1: it failed. */
int pool_number(int fail);
void pool_number_close(int handle);
/* A handle comes through a pointer; the result is 0 or an error number. */
int pool_fill(void **handle, int fail);
/* Ends in a tail call: its exits cannot be enumerated. */
void *pool_tail(size_t size);
#ifdef __cplusplus
}
#endif
#endif
