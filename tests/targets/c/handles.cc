/*
 * A program that knows how many handles it opened and closed. One command a line on standard input, one JSON answer a
 * line on standard output, when the work is done. `kind` is pool, number, fill, tail, job (a C++ object) or method.
 *
 *   open KIND N      opens N handles from leak_orders, and keeps them
 *   close KIND N     closes the N oldest of them
 *   fail KIND N      N attempts that fail
 *   storm KIND N     opens and closes N, one after another, from handle_request
 *   threads T N      T threads, each a storm of N of kind pool
 *   truth KIND       what was opened, closed, failed, and is alive; the lines of the calls
 *   load PATH        dlopen, for symbols that are not there yet
 */
#include "jobs.h"
#include "pool.h"
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <map>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

struct Count {
	std::atomic<unsigned long> opened{0}, closed{0}, failed{0};
	std::deque<void *> kept;
};

static std::map<std::string, Count> counts;
static jobs::Pool methods;
static int leak_line, request_line;

/* The line is that of the call: everything is on it. */
#define OPEN(kind, out) \
	do { \
		void *made = nullptr; \
		if (kind == "pool") made = pool_open(64); \
		else if (kind == "number") made = (void *)(long)pool_number(0); \
		else if (kind == "fill") pool_fill(&made, 0); \
		else if (kind == "tail") made = pool_tail(64); \
		else if (kind == "job") made = new jobs::Job(); \
		else if (kind == "method") made = methods.get(64); \
		else abort(); \
		out = made; \
	} while (0)

static void close_one(const std::string &kind, void *handle)
{
	if (kind == "number") pool_number_close((int)(long)handle);
	else if (kind == "job") delete (jobs::Job *)handle;
	else if (kind == "method") methods.put(handle);
	else pool_close(handle);
}

__attribute__((noinline)) static void leak_orders(const std::string &kind, long n)
{
	leak_line = __LINE__ + 3;
	for (long i = 0; i < n; i++) {
		void *handle;
		OPEN(kind, handle);
		counts[kind].kept.push_back(handle);
		counts[kind].opened++;
	}
}

__attribute__((noinline)) static void handle_request(const std::string &kind, Count &count, long n)
{
	request_line = __LINE__ + 3;
	for (long i = 0; i < n; i++) {
		void *handle;
		OPEN(kind, handle);
		close_one(kind, handle);
	}
	count.opened += n;
	count.closed += n;
}

static void fail(const std::string &kind, long n)
{
	void *none = nullptr;
	for (long i = 0; i < n; i++) {
		if (kind == "pool") none = pool_open(0);
		else if (kind == "number") pool_number(1);
		else if (kind == "fill") pool_fill(&none, 1);
		else if (kind == "tail") none = pool_tail(0);
		else if (kind == "method") none = methods.get(0);
		if (none != nullptr) abort();
	}
	counts[kind].failed += n;
}

int main()
{
	/* Made before threads look at it. */
	for (const char *kind : {"pool", "number", "fill", "tail", "job", "method"}) counts[kind];
	setvbuf(stdout, nullptr, _IOLBF, 0);
	printf("{\"pid\": %d}\n", getpid());
	char line[512];
	while (fgets(line, sizeof line, stdin)) {
		char command[32] = "", word[400] = "";
		long n = 0;
		sscanf(line, "%31s %399s %ld", command, word, &n);
		std::string kind = word;
		if (!strcmp(command, "open")) leak_orders(kind, n);
		else if (!strcmp(command, "close")) {
			for (long i = 0; i < n; i++) {
				close_one(kind, counts[kind].kept.front());
				counts[kind].kept.pop_front();
				counts[kind].closed++;
			}
		} else if (!strcmp(command, "fail")) fail(kind, n);
		else if (!strcmp(command, "storm")) handle_request(kind, counts[kind], n);
		else if (!strcmp(command, "threads")) {
			std::vector<std::thread> threads;
			Count &pool = counts["pool"];
			for (long i = 0; i < atol(word); i++)
				threads.emplace_back([&pool, n] { handle_request("pool", pool, n); });
			for (auto &thread : threads) thread.join();
		} else if (!strcmp(command, "load")) {
			if (!dlopen(word, RTLD_NOW)) {
				printf("{\"error\": \"dlopen\"}\n");
				continue;
			}
		} else if (strcmp(command, "truth")) {
			printf("{\"error\": \"no such command\"}\n");
			continue;
		}
		Count &count = counts[kind];
		printf("{\"opened\": %lu, \"closed\": %lu, \"failed\": %lu, \"live\": %zu, \"leak_line\": %d, "
		       "\"request_line\": %d}\n",
		       count.opened.load(), count.closed.load(), count.failed.load(), count.kept.size(), leak_line,
		       request_line);
	}
	return 0;
}
