/* C++ objects and methods as tasks. */
#ifndef JOBS_H
#define JOBS_H
namespace jobs {

/* Made by its constructor, gone with its destructor. */
class Job {
public:
	Job();
	~Job();

private:
	char state_[32];
};

/* A pool that is asked by a method. */
class Pool {
public:
	void *get(int size);
	void put(void *handle);
};

} // namespace jobs
#endif
