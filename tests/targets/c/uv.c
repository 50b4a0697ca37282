/*
 * libuv's uv_queue_work, counted. Commands on standard input as for handles.cc:
 *
 *   queue N     N requests from submit_orders, answered when all are done
 *   hold N      N requests whose work does not end before `release` (they sit in the thread pool and its queue)
 *   release     lets them end, answered when all are done
 *   truth
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

static unsigned long queued, done;
static int queue_line, hold_line;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released = PTHREAD_COND_INITIALIZER;
static int holding;

static void work(uv_work_t *request) { (void)request; }

static void wait_for_release(uv_work_t *request)
{
	(void)request;
	pthread_mutex_lock(&lock);
	while (holding)
		pthread_cond_wait(&released, &lock);
	pthread_mutex_unlock(&lock);
}

/* What a user would name where libuv itself has no symbols. */
__attribute__((noinline)) void after_work(uv_work_t *request, int status)
{
	(void)status;
	done++;
	free(request);
}

__attribute__((noinline)) static void submit_orders(long n)
{
	for (long i = 0; i < n; i++) {
		queue_line = __LINE__ + 1;
		uv_queue_work(uv_default_loop(), malloc(sizeof(uv_work_t)), work, after_work);
		queued++;
	}
}

__attribute__((noinline)) static void hold_orders(long n)
{
	holding = 1;
	for (long i = 0; i < n; i++) {
		hold_line = __LINE__ + 1;
		uv_queue_work(uv_default_loop(), malloc(sizeof(uv_work_t)), wait_for_release, after_work);
		queued++;
	}
}

int main(void)
{
	char line[128];
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("{\"pid\": %d}\n", getpid());
	while (fgets(line, sizeof line, stdin)) {
		char command[32] = "";
		long n = 0;
		sscanf(line, "%31s %ld", command, &n);
		if (!strcmp(command, "queue")) {
			/* A loop that nobody waits for: the queue is run dry in pieces, or it would hold all of them. */
			for (; n > 0; n -= 1000) {
				submit_orders(n > 1000 ? 1000 : n);
				uv_run(uv_default_loop(), UV_RUN_DEFAULT);
			}
		} else if (!strcmp(command, "hold")) {
			hold_orders(n);
		} else if (!strcmp(command, "release")) {
			pthread_mutex_lock(&lock);
			holding = 0;
			pthread_cond_broadcast(&released);
			pthread_mutex_unlock(&lock);
			uv_run(uv_default_loop(), UV_RUN_DEFAULT);
		} else if (!strcmp(command, "refuse")) {
			/* No work to do: libuv refuses, and there is no request. */
			static uv_work_t request;
			for (long i = 0; i < n; i++)
				if (uv_queue_work(uv_default_loop(), &request, NULL, after_work) != UV_EINVAL)
					abort();
		} else if (strcmp(command, "truth")) {
			printf("{\"error\": \"no such command\"}\n");
			continue;
		}
		printf("{\"opened\": %lu, \"closed\": %lu, \"live\": %lu, \"leak_line\": %d, \"request_line\": %d}\n", queued,
		       done, queued - done, hold_line, queue_line);
	}
	return 0;
}
