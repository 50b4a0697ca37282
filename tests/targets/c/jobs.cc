/* A file of its own: a compiler that sees the bodies inlines them, whatever it is told. */
#include "jobs.h"
#include <cstdlib>
#include <cstring>

namespace jobs {

Job::Job() { memset(state_, 'j', sizeof state_); }

Job::~Job() { __asm__ volatile("" : : "r"(this) : "memory"); }

void *Pool::get(int size) { return size == 0 ? nullptr : malloc(size); }

void Pool::put(void *handle) { free(handle); }

} // namespace jobs
