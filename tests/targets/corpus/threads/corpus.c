// Shapes of threads and child processes that leak, and shapes that only look so, each with its truth beside it.
//
// `corpus list` prints every shape with its truth as one line of JSON; `corpus run NAME...` runs them until standard input
// ends. A shape's threads run, or are made by, a function whose name begins with the shape's.
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    static struct timespec began;
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    if (!began.tv_sec) began = at;
    return (double)(at.tv_sec - began.tv_sec) + (double)(at.tv_nsec - began.tv_nsec) / 1e9;
}

static double random_share(void) {
    static _Thread_local unsigned seed;
    if (!seed) seed = (unsigned)gettid();
    return rand_r(&seed) / ((double)RAND_MAX + 1);
}

// Sleeps for a random time from low to high, in seconds.
static void rest(double low, double high) {
    double seconds = low + random_share() * (high - low);
    struct timespec time = {(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)};
    while (nanosleep(&time, &time) && errno == EINTR) {}
}

// A day in so many seconds: from 0 to 1 and back.
static double wave(double at, double day) { return (1 - cos(2 * M_PI * at / day)) / 2; }

static pthread_attr_t detached_attributes;

static void set_detached(void) {
    pthread_attr_init(&detached_attributes);
    pthread_attr_setstacksize(&detached_attributes, 64 << 10);
    pthread_attr_setdetachstate(&detached_attributes, PTHREAD_CREATE_DETACHED);
}

static pthread_attr_t *detached(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_detached);
    return &detached_attributes;
}

// A detached thread. No function: who starts threads is the shape's.
#define spawn(body, argument)                                                                 \
    do {                                                                                      \
        pthread_t thread;                                                                     \
        if (pthread_create(&thread, detached(), body, argument)) perror("pthread_create");    \
    } while (0)

// Does so many times a second, jittered, for ever. RATE may use `at`, the program's age.
#define VARYING(RATE, DO)                                \
    do {                                                 \
        double owed = random_share(), last = now();      \
        for (;;) {                                       \
            rest(0.02, 0.06);                            \
            double at = now();                           \
            owed += (at - last) * (RATE);                \
            for (last = at; owed >= 1; owed -= 1) { DO; } \
        }                                                \
    } while (0)

// --- leaks: their threads, or a share of them, never end ---

static pthread_mutex_t lost = PTHREAD_MUTEX_INITIALIZER;
static void *lost_mutex_body(void *none) { pthread_mutex_lock(&lost); pthread_mutex_unlock(&lost); return none; }
static void lost_mutex(void) { pthread_mutex_lock(&lost); VARYING(2, spawn(lost_mutex_body, NULL)); }

static pthread_mutex_t cond_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static void *cond_never_body(void *none) {
    pthread_mutex_lock(&cond_lock);
    for (;;) pthread_cond_wait(&cond, &cond_lock);
    return none;
}
static void cond_never(void) { VARYING(2, spawn(cond_never_body, NULL)); }

static sem_t never_posted;
static void *sem_never_body(void *none) { while (sem_wait(&never_posted)) {} return none; }
static void sem_never(void) { sem_init(&never_posted, 0, 0); VARYING(2, spawn(sem_never_body, NULL)); }

static void *pipe_never_body(void *argument) {
    char byte;
    return read((int)(long)argument, &byte, 1) < 0 ? NULL : argument;
}
static void pipe_never(void) {
    VARYING(1, { int ends[2]; if (!pipe(ends)) spawn(pipe_never_body, (void *)(long)ends[0]); });
}

static void *poller_for_ever_body(void *none) { for (;;) rest(0.2, 0.5); return none; }
static void poller_for_ever(void) { VARYING(1.2, spawn(poller_for_ever_body, NULL)); }

static sem_t one_in_50_gate;
static void *one_in_50_body(void *argument) {
    rest(0.005, 0.1);
    while (argument && sem_wait(&one_in_50_gate)) {}
    return NULL;
}
static void one_in_50(void) {
    long number = 0;
    sem_init(&one_in_50_gate, 0, 0);
    VARYING(40, spawn(one_in_50_body, (void *)(long)(++number % 50 == 0)));
}

static void *bursts_body(void *none) { pause(); return none; }
static void bursts(void) { for (;;) { for (int i = 0; i < 15; i++) spawn(bursts_body, NULL); rest(20, 20); } }

static sem_t stopped_gate;
static void *stopped_growing_body(void *none) { while (sem_wait(&stopped_gate)) {} return none; }
static void stopped_growing(void) { sem_init(&stopped_gate, 0, 0); VARYING(at < 12 ? 6 : 0, spawn(stopped_growing_body, NULL)); }

static void *joiner_body(void *none) { pause(); return none; }
static void *never_joined_body(void *none) {
    pthread_t inner;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    if (!pthread_create(&inner, &attributes, joiner_body, none)) pthread_join(inner, NULL);
    return none;
}
static void never_joined(void) { VARYING(0.8, spawn(never_joined_body, NULL)); }

static void children_never_end(void) {
    // They end with the program all the same.
    VARYING(0.5, { if (!fork()) { prctl(PR_SET_PDEATHSIG, SIGKILL); for (;;) pause(); } });
}

static void children_never_reaped(void) {
    VARYING(0.5, { if (!fork()) _exit(0); });
}

// --- fine ---

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t pool_cond = PTHREAD_COND_INITIALIZER;
static int pool_jobs;
static void *fixed_pool_body(void *none) {
    for (;;) {
        pthread_mutex_lock(&pool_lock);
        while (!pool_jobs) pthread_cond_wait(&pool_cond, &pool_lock);
        pool_jobs--;
        pthread_mutex_unlock(&pool_lock);
        rest(0.01, 0.2);
    }
    return none;
}
static void fixed_pool(void) {
    for (int i = 0; i < 24; i++) spawn(fixed_pool_body, NULL);
    VARYING(60, { pthread_mutex_lock(&pool_lock); pool_jobs++; pthread_cond_signal(&pool_cond); pthread_mutex_unlock(&pool_lock); });
}

static sem_t idle_gate;
static void *idle_pool_body(void *none) { for (;;) sem_wait(&idle_gate); return none; }
static void idle_pool(void) { sem_init(&idle_gate, 0, 0); for (int i = 0; i < 32; i++) spawn(idle_pool_body, NULL); }

static void *request_threads_body(void *none) { rest(0.1, 1); return none; }
static void request_threads(void) { VARYING(10, spawn(request_threads_body, NULL)); }

static void *requests_rise_body(void *none) { rest(0.2, 1.5); return none; }
static void requests_rise(void) { VARYING(2 + at / 4, spawn(requests_rise_body, NULL)); }

static void *day_curve_body(void *none) { rest(0.3, 2); return none; }
static void day_curve(void) { VARYING(20 * wave(at, 45), spawn(day_curve_body, NULL)); }

static void *batch_body(void *none) { rest(1, 4); return none; }
static void batch(void) { for (;;) { for (int i = 0; i < 30; i++) spawn(batch_body, NULL); rest(12, 12); } }

static void *long_lives_body(void *none) { rest(30, 38); return none; }
static void long_lives(void) { VARYING(0.8, spawn(long_lives_body, NULL)); }

static void *bounded_ramp_body(void *none) { for (;;) rest(0.1, 0.9); return none; }
static void bounded_ramp(void) { for (int i = 0; i < 30; i++) { spawn(bounded_ramp_body, NULL); rest(0.6, 0.7); } }

static atomic_int wanted;
static void *autoscaled_body(void *number) { while (wanted > (long)number) rest(0.05, 0.5); return NULL; }
static void autoscaled(void) {
    for (long have = 0;; rest(0.6, 0.7)) {
        wanted = 4 + (int)(20 * wave(now(), 50));
        for (; have < wanted; have++) spawn(autoscaled_body, (void *)have);
        have = wanted;
    }
}

static void children_reaped(void) {
    VARYING(1, { pid_t child = fork(); if (!child) { rest(0.1, 0.8); _exit(0); } while (waitpid(-1, NULL, WNOHANG) > 0) {} });
}

static const struct shape {
    const char *name;
    int leaks;
    const char *function;
    void (*run)(void);
} shapes[] = {
    {"mutex never unlocked", 1, "lost_mutex", lost_mutex},
    {"condition never signalled", 1, "cond_never", cond_never},
    {"semaphore never posted", 1, "sem_never", sem_never},
    {"pipe never written", 1, "pipe_never", pipe_never},
    {"poller for ever", 1, "poller_for_ever", poller_for_ever},
    {"one in 50", 1, "one_in_50", one_in_50},
    {"bursts every 20 s", 1, "bursts", bursts},
    {"stopped growing", 1, "stopped_growing", stopped_growing},
    {"join of one that never ends", 1, "never_joined", never_joined},
    {"children that never end", 1, "children_never_end", children_never_end},
    {"children never reaped", 1, "zombies", children_never_reaped},
    {"fixed pool", 0, "fixed_pool", fixed_pool},
    {"idle pool", 0, "idle_pool", idle_pool},
    {"thread per request", 0, "request_threads", request_threads},
    {"requests that rise", 0, "requests_rise", requests_rise},
    {"day curve", 0, "day_curve", day_curve},
    {"batch", 0, "batch", batch},
    {"long lives that end", 0, "long_lives", long_lives},
    {"bounded ramp", 0, "bounded_ramp", bounded_ramp},
    {"autoscaled", 0, "autoscaled", autoscaled},
    {"children that are reaped", 0, "children_reaped", children_reaped},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void *driver(void *shape) {
    ((const struct shape *)shape)->run();
    return NULL;
}

int main(int count, char **words) {
    now();
    if (count == 2 && !strcmp(words[1], "list")) {
        for (int i = 0; i < SHAPES; i++)
            printf("%s{\"name\":\"%s\",\"leaks\":%s,\"functions\":[\"%s\"]}", i ? "," : "[", shapes[i].name,
                   shapes[i].leaks ? "true" : "false", shapes[i].function);
        puts("]");
        return 0;
    }
    if (count < 3 || strcmp(words[1], "run")) {
        fputs("corpus list | corpus run NAME...\n", stderr);
        return 2;
    }
    for (int word = 2; word < count; word++) {
        int i = 0;
        while (i < SHAPES && strcmp(shapes[i].name, words[word])) i++;
        if (i == SHAPES) {
            fprintf(stderr, "no shape %s\n", words[word]);
            return 2;
        }
        spawn(driver, (void *)&shapes[i]);
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}
