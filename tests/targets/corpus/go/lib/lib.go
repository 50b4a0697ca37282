// Package lib is somebody else's code.
package lib

// Watch calls back when something comes, which it never does. There is no way to stop it.
func Watch(call func(int)) {
	events := make(chan int)
	go watch(events, call)
}

func watch(events chan int, call func(int)) {
	for event := range events {
		call(event)
	}
}

// Map runs f on each item, with so many workers of its own, which end.
func Map(items []int, workers int, f func(int)) {
	queue := make(chan int)
	done := make(chan struct{})
	for i := 0; i < workers; i++ {
		go func() {
			for item := range queue {
				f(item)
			}
			done <- struct{}{}
		}()
	}
	for _, item := range items {
		queue <- item
	}
	close(queue)
	for i := 0; i < workers; i++ {
		<-done
	}
}
