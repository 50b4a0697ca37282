package main

import (
	"bytes"
	"context"
	"io"
	"math"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"

	"corpus/lib"
)

// Every shape here looks like a leak to somebody, and is none.
func init() {
	fine("fixed pool", fixedPool)
	fine("idle pool", idlePool)
	fine("bounded ramp", boundedRamp)
	fine("fixed tickers", fixedTickers)
	fine("accept loop", acceptLoop)
	fine("long polls", longPolls)
	fine("websockets with churn", websockets)
	fine("requests that double", requestsDouble)
	fine("requests that rise for minutes", requestsRise)
	fine("day curve", dayCurve)
	fine("warm-up", warmUp)
	fine("batch jobs", batchJobs)
	fine("work under collection", underCollection)
	fine("connection pool filling up", connectionPool)
	fine("long lives that end", longLives)
	fine("cache refreshers", cacheRefreshers)
	fine("fan out and in", fanOutIn)
	fine("pipeline per request", pipelinePerRequest)
	fine("contexts that are cancelled", contextsCancelled)
	fine("timers that are stopped", timersStopped)
	fine("bounded by a semaphore", boundedBySemaphore)
	fine("subscribers that leave", subscribersLeave)
	fine("retries that end", retriesEnd)
	fine("autoscaled pool", autoscaledPool)
	fine("one in a hundred is slow", oneInHundredSlow)
	fine("keep-alive connections", keepAlive, "net/http.(*Server).Serve", "net/http.(*conn).serve", "net/http.(*connReader).startBackgroundRead")
	fine("lazy pool", lazyPool)
	fine("contended lock", contendedLock)
	fine("library that joins", libraryJoins, "corpus/lib.Map")
	fine("replaced leader", replacedLeader)
	fine("queue under pressure", queueUnderPressure)
}

func fixedPool() {
	jobs := make(chan int)
	for i := 0; i < 64; i++ {
		go func() {
			for range jobs {
				time.Sleep(between(0.001, 0.02))
			}
		}()
	}
	forever(300, func() { jobs <- 1 })
}

func idlePool() {
	jobs := make(chan int)
	for i := 0; i < 48; i++ {
		go func() {
			for range jobs {
			}
		}()
	}
	// Without anybody who could send they would be stuck for good, and proven so.
	time.Sleep(24 * time.Hour)
	jobs <- 1
}

func boundedRamp() {
	jobs := make(chan int, 100)
	go func() {
		for {
			jobs <- 1
			time.Sleep(2 * time.Millisecond)
		}
	}()
	for i := 0; i < 50; i++ {
		go func() {
			for range jobs {
				time.Sleep(5 * time.Millisecond)
			}
		}()
		time.Sleep(400 * time.Millisecond)
	}
	select {}
}

func fixedTickers() {
	for i := 0; i < 30; i++ {
		period := between(0.2, 8)
		go func() {
			for range time.NewTicker(period).C {
			}
		}()
	}
	select {}
}

func acceptLoop() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go acceptLoopServe(connection)
		}
	}()
	forever(20, func() {
		go func() {
			connection, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				return
			}
			_, _ = connection.Write([]byte("hello"))
			time.Sleep(between(0.01, 0.5))
			_ = connection.Close()
		}()
	})
}

func acceptLoopServe(connection net.Conn) {
	_, _ = io.Copy(io.Discard, connection)
	_ = connection.Close()
}

func longPolls() {
	forever(4, func() {
		event := never()
		go func() {
			select {
			case <-event:
			case <-time.After(10 * time.Second):
			}
		}()
	})
}

func websockets() {
	forever(2, func() {
		closed := make(chan struct{})
		messages := make(chan int)
		go func() {
			for {
				select {
				case <-messages:
				case <-closed:
					return
				}
			}
		}()
		go func() {
			until := time.Now().Add(between(2, 14))
			for time.Now().Before(until) {
				time.Sleep(between(0.1, 1))
				messages <- 1
			}
			close(closed)
		}()
	})
}

func requestsDouble() {
	varying(func(at float64) float64 {
		if int(at/30)%2 == 0 {
			return 30
		}
		return 60
	}, func() { go func() { time.Sleep(between(0.2, 2)) }() })
}

func requestsRise() {
	varying(func(at float64) float64 { return 5 + at }, func() {
		answer := make(chan int)
		go func() { <-answer }()
		time.AfterFunc(between(0.5, 3), func() { close(answer) })
	})
}

func dayCurve() {
	varying(func(at float64) float64 { return 60 * wave(at, 45) }, func() {
		go func() { time.Sleep(between(0.3, 2)) }()
	})
}

func warmUp() {
	jobs := make(chan int)
	go func() {
		for {
			jobs <- 1
			time.Sleep(time.Millisecond)
		}
	}()
	for have := 0; ; {
		for want := int(120 * (1 - math.Exp(-now()/6))); have < want; have++ {
			go func() {
				for range jobs {
					time.Sleep(time.Millisecond)
				}
			}()
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func batchJobs() {
	for {
		var batch sync.WaitGroup
		for i := 0; i < 60; i++ {
			batch.Add(1)
			go func() { time.Sleep(between(1, 4)); batch.Done() }()
		}
		batch.Wait()
		time.Sleep(8 * time.Second)
	}
}

var kept atomic.Value

func underCollection() {
	forever(10, func() {
		go func() {
			for i := 0; i < 20; i++ {
				kept.Store(bytes.Repeat([]byte("x"), 100000))
				time.Sleep(between(0, 0.02))
			}
		}()
	})
}

// connectionPool grows when all are busy, and keeps what it has.
func connectionPool() {
	var lock sync.Mutex
	idle := []chan int{}
	have := 0
	varying(func(at float64) float64 { return math.Min(40, 4*at) }, func() {
		lock.Lock()
		defer lock.Unlock()
		if len(idle) > 0 {
			c := idle[len(idle)-1]
			idle = idle[:len(idle)-1]
			c <- 1
			return
		}
		if have == 40 {
			return
		}
		have++
		c := make(chan int, 1)
		go func() {
			for range c {
				time.Sleep(between(0.2, 1))
				lock.Lock()
				idle = append(idle, c)
				lock.Unlock()
			}
		}()
		c <- 1
	})
}

func longLives() {
	forever(1.5, func() {
		done := make(chan struct{})
		go func() { <-done }()
		time.AfterFunc(between(30, 38), func() { close(done) })
	})
}

// cacheRefreshers has one refresher for each of the keys in use; keys are dropped as others come.
func cacheRefreshers() {
	type entry struct{ stop chan struct{} }
	var keys []entry
	forever(1, func() {
		stop := make(chan struct{})
		keys = append(keys, entry{stop})
		go func() {
			ticker := time.NewTicker(700 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
				case <-stop:
					return
				}
			}
		}()
		if len(keys) > 15 {
			close(keys[0].stop)
			keys = keys[1:]
		}
	})
}

func fanOutIn() {
	forever(5, func() {
		results := make(chan int)
		for i := 0; i < 8; i++ {
			go func() { time.Sleep(between(0.01, 0.5)); results <- 1 }()
		}
		go func() {
			for i := 0; i < 8; i++ {
				<-results
			}
		}()
	})
}

func pipelinePerRequest() {
	forever(5, func() {
		numbers, squares := make(chan int), make(chan int)
		go func() {
			for i := 0; i < 10; i++ {
				numbers <- i
			}
			close(numbers)
		}()
		go func() {
			for n := range numbers {
				time.Sleep(20 * time.Millisecond)
				squares <- n * n
			}
			close(squares)
		}()
		go func() {
			for range squares {
			}
		}()
	})
}

func contextsCancelled() {
	forever(8, func() {
		ctx, cancel := context.WithCancel(context.Background())
		go func() { <-ctx.Done() }()
		time.AfterFunc(between(0.1, 4), cancel)
	})
}

func timersStopped() {
	forever(5, func() {
		go func() {
			ticker := time.NewTicker(100 * time.Millisecond)
			defer ticker.Stop()
			for i := 0; i < 25; i++ {
				<-ticker.C
			}
		}()
	})
}

func boundedBySemaphore() {
	semaphore := make(chan struct{}, 20)
	varying(func(at float64) float64 { return 40 * wave(at, 30) }, func() {
		semaphore <- struct{}{}
		go func() {
			time.Sleep(between(0.1, 1))
			<-semaphore
		}()
	})
}

func subscribersLeave() {
	forever(3, func() {
		messages := make(chan int)
		go func() {
			for range messages {
			}
		}()
		go func() {
			for i := 0; i < 10; i++ {
				messages <- i
				time.Sleep(between(0.1, 0.6))
			}
			close(messages)
		}()
	})
}

func retriesEnd() {
	forever(4, func() {
		go func() {
			wait := 50 * time.Millisecond
			for i := 0; i < 7; i++ {
				time.Sleep(wait)
				wait = wait * 17 / 10
			}
		}()
	})
}

// autoscaledPool has as many workers as the load asks for.
func autoscaledPool() {
	jobs := make(chan int)
	stop := make(chan struct{})
	go func() {
		for {
			jobs <- 1
			time.Sleep(time.Millisecond)
		}
	}()
	for have := 0; ; time.Sleep(250 * time.Millisecond) {
		want := 5 + int(40*wave(now(), 50))
		for ; have < want; have++ {
			go func() {
				for {
					select {
					case <-jobs:
						time.Sleep(2 * time.Millisecond)
					case <-stop:
						return
					}
				}
			}()
		}
		for ; have > want; have-- {
			stop <- struct{}{}
		}
	}
}

func oneInHundredSlow() {
	forever(40, func() {
		slow := rand.Intn(100) == 0
		go func() {
			if slow {
				time.Sleep(between(4, 9))
			} else {
				time.Sleep(between(0.005, 0.05))
			}
		}()
	})
}

// keepAlive has clients that come, ask a few times over one connection, and go.
func keepAlive() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(between(0, 0.05))
		_, _ = w.Write([]byte("answer"))
	}))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 20, IdleConnTimeout: 3 * time.Second}}
	varying(func(at float64) float64 { return 5 + 40*wave(at, 35) }, func() {
		go func() {
			if answer, err := client.Get(server.URL); err == nil {
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		}()
	})
}

// lazyPool starts a worker when a job finds none free, up to 40.
func lazyPool() {
	jobs := make(chan int)
	have := 0
	varying(func(at float64) float64 { return math.Min(3*at, 100) }, func() {
		select {
		case jobs <- 1:
		default:
			if have < 40 {
				have++
				go func() {
					for {
						time.Sleep(between(0.1, 0.5))
						<-jobs
					}
				}()
			}
		}
	})
}

func contendedLock() {
	var lock sync.Mutex
	forever(15, func() {
		go func() {
			lock.Lock()
			time.Sleep(between(0.01, 0.08))
			lock.Unlock()
		}()
	})
}

func libraryJoins() {
	forever(2, func() {
		go func() {
			lib.Map([]int{1, 2, 3, 4, 5, 6, 7, 8}, 4, func(int) { time.Sleep(between(0.05, 0.6)) })
		}()
	})
}

func replacedLeader() {
	for {
		stop := make(chan struct{})
		go func() { <-stop }()
		time.Sleep(between(3, 7))
		close(stop)
	}
}

// queueUnderPressure has senders that wait up to some seconds for their turn; more of them while the load is high.
func queueUnderPressure() {
	queue := make(chan int)
	go func() {
		for range queue {
			time.Sleep(25 * time.Millisecond)
		}
	}()
	varying(func(at float64) float64 { return 60 * wave(at, 25) }, func() {
		go func() {
			select {
			case queue <- 1:
			case <-time.After(3 * time.Second):
			}
		}()
	})
}
