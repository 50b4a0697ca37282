package main

import (
	"context"
	"errors"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"corpus/lib"
)

// Every shape here leaks: its goroutines, or some of them, never end.
func init() {
	leak("send with no receiver", sendNoReceiver)
	leak("receive never sent", receiveNeverSent)
	leak("nil channel", nilChannel)
	leak("range never closed", rangeNeverClosed)
	leak("select without done", selectWithoutDone)
	leak("context never cancelled", contextNeverCancelled)
	leak("context not passed on", contextNotPassedOn)
	leak("ticker never stopped", tickerNeverStopped)
	leak("time.After in a loop", timeAfterInLoop)
	leak("AfterFunc that blocks", afterFuncBlocks)
	leak("WaitGroup mismatch", waitGroupMismatch)
	leak("double lock", doubleLock)
	leak("lock order", lockOrder)
	leak("cond without signal", condWithoutSignal)
	leak("body never closed", bodyNeverClosed, "net/http.(*Transport).dialConn")
	leak("silent clients", silentClients, "main.acceptSilent")
	leak("writer of a dead reader", writerOfDeadReader)
	leak("early return", earlyReturn)
	leak("worker per log line", workerPerLogLine)
	leak("per request, following traffic", perRequest)
	leak("one in 500", oneIn500)
	leak("on errors only", onErrorsOnly)
	leak("bursts every 20 s", burstsEvery20s)
	leak("stopped growing", stoppedGrowing)
	leak("masked by a healthy pool", maskedByPool)
	leak("generic function", genericFunction, "main.spawnGeneric")
	leak("closure of closure", closureOfClosure)
	leak("inside a library", insideLibrary, "corpus/lib.Watch")
	leak("reader of a lost lock", readerOfLostLock)
	leak("semaphore never released", semaphoreNeverReleased)
	leak("results never collected", resultsNeverCollected)
	leak("abandoned pipeline", abandonedPipeline)
	leak("subscriber never gone", subscriberNeverGone)
	leak("retry for ever", retryForEver)
	leak("heartbeat of a dead connection", heartbeatOfDead)
	leak("timeout without a buffer", timeoutWithoutBuffer)
	leak("pool per request", poolPerRequest)
	leak("pipe without reader", pipeWithoutReader)
	leak("once that hangs", onceThatHangs)
	leak("slow and steady", slowAndSteady)
	leak("works, then hangs", worksThenHangs)
}

func sendNoReceiver() { forever(5, func() { c := never(); go func() { c <- 1 }() }) }

func receiveNeverSent() { forever(3, func() { c := never(); go func() { <-c }() }) }

func nilChannel() { forever(2, func() { var c chan int; go func() { <-c }() }) }

func rangeNeverClosed() {
	forever(4, func() {
		jobs := make(chan int, 1)
		go func() {
			for range jobs {
			}
		}()
		jobs <- 1
	})
}

func selectWithoutDone() {
	forever(3, func() {
		a, b := never(), never()
		go func() {
			for {
				select {
				case <-a:
				case <-b:
				}
			}
		}()
	})
}

func contextNeverCancelled() {
	forever(3, func() {
		ctx, cancel := context.WithCancel(context.Background())
		_ = cancel
		go func() { <-ctx.Done() }()
	})
}

func contextNotPassedOn() {
	forever(3, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = ctx
		inner := context.TODO()
		answer := never()
		go func() {
			select {
			case <-inner.Done():
			case <-answer:
			}
		}()
	})
}

func tickerNeverStopped() {
	forever(1.5, func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		go func() {
			for range ticker.C {
			}
		}()
	})
}

func timeAfterInLoop() {
	forever(1.5, func() {
		events := never()
		go func() {
			for {
				select {
				case <-events:
				case <-time.After(700 * time.Millisecond):
				}
			}
		}()
	})
}

func afterFuncBlocks() {
	forever(2, func() { c := never(); time.AfterFunc(20*time.Millisecond, func() { c <- 1 }) })
}

func waitGroupMismatch() {
	forever(2, func() {
		var group sync.WaitGroup
		group.Add(3)
		for i := 0; i < 2; i++ {
			go func() { time.Sleep(between(0.01, 0.1)); group.Done() }()
		}
		go func() { group.Wait() }()
	})
}

func doubleLock() { forever(2, func() { lock := new(sync.Mutex); go func() { lock.Lock(); lock.Lock() }() }) }

func lockOrder() {
	forever(2, func() {
		a, b := new(sync.Mutex), new(sync.Mutex)
		take := func(first, second *sync.Mutex) {
			first.Lock()
			time.Sleep(50 * time.Millisecond)
			second.Lock()
			second.Unlock()
			first.Unlock()
		}
		go take(a, b)
		go take(b, a)
	})
}

func condWithoutSignal() {
	forever(2, func() {
		cond := sync.NewCond(new(sync.Mutex))
		go func() { cond.L.Lock(); cond.Wait(); cond.L.Unlock() }()
	})
}

func bodyNeverClosed() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 100000))
	}))
	forever(2, func() {
		if answer, err := http.Get(server.URL); err == nil {
			_, _ = answer.Body.Read(make([]byte, 10))
		}
	})
}

func silentClients() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() { acceptSilent(listener) }()
	var kept []net.Conn
	forever(2, func() {
		if connection, err := net.Dial("tcp", listener.Addr().String()); err == nil {
			kept = append(kept, connection)
		}
	})
}

func acceptSilent(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go silentClientsServe(connection)
	}
}

func silentClientsServe(connection net.Conn) { _, _ = io.ReadAll(connection) }

func writerOfDeadReader() {
	forever(2, func() {
		messages := make(chan int, 4)
		go func() {
			for i := 0; i < 3; i++ {
				<-messages
			}
		}()
		go func() {
			for i := 0; ; i++ {
				messages <- i
				time.Sleep(20 * time.Millisecond)
			}
		}()
	})
}

func earlyReturn() {
	forever(3, func() {
		results := make(chan error)
		for i := 0; i < 2; i++ {
			i := i
			go func() {
				time.Sleep(between(0.001, 0.01))
				results <- map[bool]error{true: errors.New("x")}[i == 0]
			}()
		}
		if <-results != nil {
			return
		}
		<-results
	})
}

func workerPerLogLine() {
	sink := make(chan string)
	go func() {
		for range sink {
			time.Sleep(200 * time.Millisecond)
		}
	}()
	forever(12, func() { go func() { sink <- "line" }() })
}

func perRequest() {
	varying(func(at float64) float64 { return 4 + 16*wave(at, 40) }, func() {
		c := never()
		go func() {
			time.Sleep(between(0.01, 0.3))
			if rand.Intn(3) == 0 {
				<-c
			}
		}()
	})
}

func oneIn500() {
	number := 0
	forever(250, func() {
		number++
		hangs := number%500 == 0
		go func() {
			time.Sleep(between(0.001, 0.05))
			if hangs {
				<-never()
			}
		}()
	})
}

func onErrorsOnly() {
	forever(20, func() {
		result := make(chan int)
		fails := rand.Intn(20) == 0
		go func() { time.Sleep(between(0.005, 0.05)); result <- 1 }()
		if !fails {
			go func() { <-result }()
		}
	})
}

func burstsEvery20s() {
	for {
		for i := 0; i < 30; i++ {
			c := never()
			go func() { <-c }()
		}
		time.Sleep(20 * time.Second)
	}
}

func stoppedGrowing() {
	varying(func(at float64) float64 {
		if at < 12 {
			return 12
		}
		return 0
	}, func() { c := never(); go func() { <-c }() })
}

func maskedByPool() {
	jobs := make(chan int)
	start := func(hangs bool) {
		go func() {
			for range jobs {
				time.Sleep(2 * time.Millisecond)
				if hangs {
					<-never()
				}
			}
		}()
	}
	for i := 0; i < 200; i++ {
		start(false)
	}
	go func() {
		for {
			jobs <- 1
			time.Sleep(time.Millisecond)
		}
	}()
	forever(1, func() { start(true) })
}

func spawnGeneric[T any](c chan T) { go func() { <-c }() }

func genericFunction() {
	forever(3, func() { spawnGeneric(make(chan int)); spawnGeneric(make(chan string)) })
}

func closureOfClosure() {
	outer := func() func() {
		return func() {
			inner := func() { <-never() }
			go inner()
		}
	}
	forever(3, outer())
}

func insideLibrary() { forever(3, func() { lib.Watch(func(int) {}) }) }

func readerOfLostLock() {
	lock := new(sync.RWMutex)
	lock.Lock()
	forever(2, func() { go func() { lock.RLock(); lock.RUnlock() }() })
}

func semaphoreNeverReleased() {
	semaphore := make(chan struct{}, 3)
	forever(2, func() { go func() { semaphore <- struct{}{} }() })
}

func resultsNeverCollected() {
	forever(2, func() {
		results := make(chan int, 1)
		for i := 0; i < 3; i++ {
			go func() { results <- 1 }()
		}
	})
}

func abandonedPipeline() {
	forever(1, func() {
		numbers, squares := make(chan int), make(chan int)
		go func() {
			for i := 0; ; i++ {
				numbers <- i
			}
		}()
		go func() {
			for n := range numbers {
				squares <- n * n
			}
		}()
		<-squares
	})
}

func subscriberNeverGone() {
	var lock sync.Mutex
	var all []chan int
	go func() {
		for {
			time.Sleep(300 * time.Millisecond)
			lock.Lock()
			for _, c := range all {
				select {
				case c <- 1:
				default:
				}
			}
			lock.Unlock()
		}
	}()
	forever(1.5, func() {
		c := make(chan int, 1)
		lock.Lock()
		all = append(all, c)
		lock.Unlock()
		go func() {
			for range c {
			}
		}()
	})
}

func retryForEver() {
	forever(1.5, func() {
		go func() {
			for {
				time.Sleep(400 * time.Millisecond)
			}
		}()
	})
}

func heartbeatOfDead() {
	forever(1.5, func() {
		done := never()
		go func() {
			ticker := time.NewTicker(300 * time.Millisecond)
			for {
				select {
				case <-ticker.C:
				case <-done:
					return
				}
			}
		}()
	})
}

func timeoutWithoutBuffer() {
	forever(5, func() {
		result := make(chan int)
		go func() { time.Sleep(between(0, 0.02)); result <- 1 }()
		select {
		case <-result:
		case <-time.After(10 * time.Millisecond):
		}
	})
}

func poolPerRequest() {
	forever(0.5, func() {
		jobs := make(chan int)
		for i := 0; i < 4; i++ {
			go func() {
				for range jobs {
				}
			}()
		}
		jobs <- 1
	})
}

func pipeWithoutReader() {
	forever(2, func() {
		r, w := io.Pipe()
		go func() { _, _ = w.Write(make([]byte, 1000)) }()
		_, _ = r.Read(make([]byte, 10))
	})
}

func onceThatHangs() {
	once := new(sync.Once)
	forever(2, func() { go func() { once.Do(func() { <-never() }) }() })
}

func slowAndSteady() { forever(0.3, func() { c := never(); go func() { <-c }() }) }

func worksThenHangs() {
	forever(2, func() {
		go func() {
			for i := 0; i < 20; i++ {
				time.Sleep(100 * time.Millisecond)
			}
			<-never()
		}()
	})
}
