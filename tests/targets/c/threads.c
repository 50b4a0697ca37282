// A program that knows its threads and child processes: started, ended, alive, by the line that makes them.
//
// One command a line on standard input, one line of JSON as the answer, given when the work is done and the kernel's
// list of threads shows it. tests/README.md has the commands.
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct site { const char *function; int line; long live, started, ended; };
static struct site leak = {"leak_thread", 0, 0, 0, 0}, quick = {"quick_thread", 0, 0, 0, 0};
static struct site child = {"fork_child", 0, 0, 0, 0};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long to_end, parked;

static void *waits_for_ever(void *unused) {
	prctl(PR_SET_NAME, "waiter-7");
	pthread_mutex_lock(&mutex);
	parked++;
	pthread_cond_broadcast(&changed);
	while (to_end == 0)
		pthread_cond_wait(&changed, &mutex);
	to_end--;
	parked--;
	pthread_mutex_unlock(&mutex);
	return unused;
}

static void *ends_at_once(void *unused) { return unused; }

static long listed(void) {
	long count = 0;
	DIR *dir = opendir("/proc/self/task");
	for (struct dirent *entry; dir && (entry = readdir(dir));)
		count += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return count;
}

// A thread that was joined may be in the kernel's list for a moment more.
static void settle(void) {
	while (listed() != 1 + leak.live)
		usleep(200);
}

static void die(const char *what) {
	perror(what);
	exit(1);
}

__attribute__((noinline)) static void leak_thread(void) {
	pthread_t thread;
	leak.line = __LINE__ + 1;
	if (pthread_create(&thread, NULL, waits_for_ever, NULL))
		die("pthread_create");
	pthread_detach(thread);
	leak.started++, leak.live++;
}

__attribute__((noinline)) static void quick_thread(void) {
	pthread_t thread;
	quick.line = __LINE__ + 1;
	if (pthread_create(&thread, NULL, ends_at_once, NULL))
		die("pthread_create");
	pthread_join(thread, NULL);
	quick.started++, quick.ended++;
}

__attribute__((noinline)) static pid_t fork_child(const char *program) {
	child.line = __LINE__ + 1;
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		if (*program)
			execlp(program, program, program[0] == 's' ? "1000" : NULL, NULL);
		_exit(0);
	}
	child.started++, child.live++;
	return pid;
}

static void print_site(const struct site *site, const char *end) {
	printf("\"%s\":{\"line\":%d,\"live\":%ld,\"started\":%ld,\"ended\":%ld}%s", site->function, site->line,
	       site->live, site->started, site->ended, end);
}

int main(void) {
	char command[64], word[64];
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_DFL);
	printf("{\"pid\":%d}\n", getpid());
	while (fgets(command, sizeof command, stdin)) {
		long number = 0;
		word[0] = 0;
		if (sscanf(command, "leak %ld", &number) == 1) {
			for (long i = 0; i < number; i++)
				leak_thread();
			pthread_mutex_lock(&mutex);
			while (parked != leak.live)
				pthread_cond_wait(&changed, &mutex);
			pthread_mutex_unlock(&mutex);
			settle();
		} else if (sscanf(command, "quick %ld", &number) == 1) {
			for (long i = 0; i < number; i++)
				quick_thread();
			settle();
		} else if (sscanf(command, "finish %ld", &number) == 1) {
			pthread_mutex_lock(&mutex);
			to_end = number;
			pthread_cond_broadcast(&changed);
			pthread_mutex_unlock(&mutex);
			leak.live -= number, leak.ended += number;
			settle();
		} else if (sscanf(command, "fork %ld %63s", &number, word) >= 1) {
			// Each is collected at once.
			for (long i = 0; i < number; i++) {
				pid_t pid = fork_child(word);
				if (word[0] == 's')
					kill(pid, SIGKILL);
				waitpid(pid, NULL, 0);
				child.live--, child.ended++;
			}
		} else if (sscanf(command, "zombies %ld %63s", &number, word) >= 1) {
			// Each has ended when we answer, and none is collected.
			for (long i = 0; i < number; i++) {
				siginfo_t info;
				waitid(P_PID, (id_t)fork_child(word), &info, WEXITED | WNOWAIT);
				child.live--, child.ended++;
			}
		} else if (sscanf(command, "child %63s", word) == 1) {
			printf("{\"child\":%d}\n", fork_child(word));
			continue;
		} else if (!strncmp(command, "collect", 7)) {
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
		} else if (strncmp(command, "truth", 5)) {
			printf("{\"error\":\"what?\"}\n");
			continue;
		}
		printf("{\"threads\":%ld,\"sites\":{", listed());
		print_site(&leak, ",");
		print_site(&quick, ",");
		print_site(&child, "}}\n");
	}
	return 0;
}
