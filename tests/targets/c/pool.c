/* The handle pool: a shared library, as a program would use one. It keeps no count of its own. */
#include "pool.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct handle {
	size_t size;
	char name[40];
};

static atomic_int next_number = 1000;

void *pool_open(size_t size)
{
	struct handle *handle;
	if (size == 0)
		return NULL;
	handle = malloc(sizeof *handle);
	if (handle == NULL)
		return NULL;
	handle->size = size;
	memset(handle->name, 'h', sizeof handle->name);
	return handle;
}

void pool_close(void *handle)
{
	free(handle);
}

int pool_number(int fail)
{
	if (fail)
		return -1;
	return atomic_fetch_add(&next_number, 1);
}

void pool_number_close(int handle)
{
	/* Something that the compiler must keep. */
	__asm__ volatile("" : : "r"(handle) : "memory");
}

int pool_fill(void **handle, int fail)
{
	if (fail)
		return 12;
	*handle = malloc(sizeof(struct handle));
	return *handle == NULL ? 12 : 0;
}

__attribute__((noinline)) static void *make(size_t size)
{
	return size == 0 ? NULL : malloc(size + sizeof(struct handle));
}

void *pool_tail(size_t size)
{
	return make(size);
}
