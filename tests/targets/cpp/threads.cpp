// As tests/targets/c/threads.c, by std::thread.
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <sstream>
#include <thread>
#include <unistd.h>

namespace app {

struct Site { const char *function; int line = 0; long live = 0, started = 0, ended = 0; };
Site leak{"leak_thread"}, quick{"quick_thread"};
std::mutex mutex;
std::condition_variable changed;
long to_end = 0, parked = 0;

struct Waiter {
	void operator()() const {
		std::unique_lock lock(mutex);
		parked++;
		changed.notify_all();
		changed.wait(lock, [] { return to_end > 0; });
		to_end--, parked--;
	}
};

long listed() {
	long count = 0;
	for ([[maybe_unused]] auto &entry : std::filesystem::directory_iterator("/proc/self/task"))
		count++;
	return count;
}

void settle() {
	while (listed() != 1 + leak.live)
		std::this_thread::sleep_for(std::chrono::microseconds(200));
}

[[gnu::noinline]] void leak_thread() {
	leak.line = __LINE__ + 1;
	std::thread thread{Waiter{}};
	thread.detach();
	leak.started++, leak.live++;
}

[[gnu::noinline]] void quick_thread() {
	quick.line = __LINE__ + 1;
	std::thread thread([] {});
	thread.join();
	quick.started++, quick.ended++;
}

void print(const Site &site, const char *end) {
	std::printf("\"%s\":{\"line\":%d,\"live\":%ld,\"started\":%ld,\"ended\":%ld}%s", site.function, site.line,
	            site.live, site.started, site.ended, end);
}

} // namespace app

int main() {
	using namespace app;
	std::setvbuf(stdout, nullptr, _IOLBF, 0);
	std::printf("{\"pid\":%d}\n", getpid());
	for (std::string line; std::getline(std::cin, line);) {
		std::istringstream words(line);
		std::string word;
		long number = 0;
		words >> word >> number;
		if (word == "leak") {
			for (long i = 0; i < number; i++)
				leak_thread();
			std::unique_lock lock(mutex);
			changed.wait(lock, [] { return parked == leak.live; });
		} else if (word == "quick") {
			for (long i = 0; i < number; i++)
				quick_thread();
		} else if (word == "finish") {
			std::unique_lock lock(mutex);
			to_end = number;
			changed.notify_all();
			leak.live -= number, leak.ended += number;
		} else if (word != "truth") {
			std::printf("{\"error\":\"what?\"}\n");
			continue;
		}
		settle();
		std::printf("{\"threads\":%ld,\"sites\":{", listed());
		print(leak, ",");
		print(quick, "}}\n");
	}
}
