//! Every shape here looks like a leak to somebody, and is none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch, Mutex, Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::pace::{between, forever, now, pause, random, varying, wave};

crate::shapes! { false:
    "worker pool" => worker_pool,
    "idle pool" => idle_pool,
    "bounded ramp" => bounded_ramp,
    "fixed intervals" => fixed_intervals,
    "accept loop" => accept_loop,
    "long polls" => long_polls,
    "requests that double" => requests_double,
    "requests that rise" => requests_rise,
    "day curve" => day_curve,
    "warm-up" => warm_up,
    "batch in a JoinSet" => batch_in_join_set,
    "connection pool filling up" => connection_pool,
    "long lives that end" => long_lives,
    "websockets with churn" => websockets,
    "bounded by a semaphore" => bounded_by_semaphore,
    "aborted tasks" => aborted,
    "contended mutex" => contended,
    "one in a hundred is slow" => one_in_hundred_slow,
    "autoscaled" => autoscaled,
}

async fn worker_pool() {
    let (sender, receiver) = mpsc::channel::<u64>(64);
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..32 {
        let receiver = Arc::clone(&receiver);
        tokio::spawn(async move {
            loop {
                let Some(_) = receiver.lock().await.recv().await else { return };
                pause(0.001, 0.05).await;
            }
        });
    }
    for number in 0.. {
        sleep(Duration::from_millis(4)).await;
        let _ = sender.send(number).await;
    }
}

async fn idle_pool() {
    let notify = Arc::new(Notify::new());
    for _ in 0..40 {
        let notify = Arc::clone(&notify);
        tokio::spawn(async move {
            loop {
                notify.notified().await;
            }
        });
    }
    std::future::pending().await
}

async fn bounded_ramp() {
    for _ in 0..50 {
        tokio::spawn(async move {
            loop {
                pause(0.1, 0.9).await;
            }
        });
        sleep(Duration::from_millis(400)).await;
    }
}

async fn fixed_intervals() {
    for _ in 0..30 {
        let period = between(0.2, 8.0);
        tokio::spawn(async move {
            let mut ticks = interval(period);
            loop {
                ticks.tick().await;
            }
        });
    }
}

async fn accept_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 64];
                while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    forever(15.0, || {
        tokio::spawn(async move {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                let _ = stream.write_all(b"hello").await;
                pause(0.01, 0.8).await;
            }
        });
    })
    .await;
}

async fn long_polls() {
    forever(4.0, || {
        tokio::spawn(async move { timeout(Duration::from_secs(10), std::future::pending::<()>()).await });
    })
    .await;
}

async fn requests_double() {
    varying(|at| if (at / 30.0) as u64 % 2 == 0 { 30.0 } else { 60.0 }, || {
        tokio::spawn(async move { pause(0.2, 2.0).await });
    })
    .await;
}

async fn requests_rise() {
    varying(|at| 5.0 + at, || {
        let (sender, receiver) = oneshot::channel::<()>();
        tokio::spawn(async move { receiver.await });
        tokio::spawn(async move {
            pause(0.5, 3.0).await;
            drop(sender);
        });
    })
    .await;
}

async fn day_curve() {
    varying(|at| 60.0 * wave(at, 45.0), || {
        tokio::spawn(async move { pause(0.3, 2.0).await });
    })
    .await;
}

async fn warm_up() {
    let mut have = 0;
    loop {
        let want = 120.0 * (1.0 - (-now() / 6.0).exp());
        while f64::from(have) < want {
            have += 1;
            tokio::spawn(async move {
                loop {
                    pause(0.05, 0.6).await;
                }
            });
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn batch_in_join_set() {
    loop {
        let mut set = JoinSet::new();
        for _ in 0..60 {
            set.spawn(async move { pause(1.0, 4.0).await });
        }
        while set.join_next().await.is_some() {}
        sleep(Duration::from_secs(8)).await;
    }
}

async fn connection_pool() {
    let pool = Arc::new(Mutex::new(Vec::<mpsc::Sender<u64>>::new()));
    let number = AtomicU64::new(0);
    varying(|at| f64::min(40.0, 4.0 * at), || {
        let Ok(mut idle) = pool.try_lock() else { return };
        let next = number.fetch_add(1, Ordering::Relaxed);
        if let Some(sender) = idle.pop() {
            let _ = sender.try_send(next);
            return;
        }
        static HAVE: AtomicU64 = AtomicU64::new(0);
        if HAVE.load(Ordering::Relaxed) >= 40 {
            return;
        }
        HAVE.fetch_add(1, Ordering::Relaxed);
        let (sender, mut jobs) = mpsc::channel::<u64>(1);
        let _ = sender.try_send(next);
        let pool = Arc::clone(&pool);
        tokio::spawn(async move {
            let mut done = 0;
            while let Some(number) = jobs.recv().await {
                pause(0.2, 1.0).await;
                done += number;
                pool.lock().await.push(sender.clone());
            }
            done
        });
    })
    .await;
}

async fn long_lives() {
    forever(1.5, || {
        tokio::spawn(async move { pause(30.0, 38.0).await });
    })
    .await;
}

async fn websockets() {
    forever(2.0, || {
        let (sender, mut receiver) = mpsc::channel::<u64>(4);
        tokio::spawn(async move { while receiver.recv().await.is_some() {} });
        tokio::spawn(async move {
            let until = now() + 2.0 + 12.0 * random();
            while now() < until {
                pause(0.1, 1.0).await;
                let _ = sender.send(1).await;
            }
        });
    })
    .await;
}

async fn bounded_by_semaphore() {
    let semaphore = Arc::new(Semaphore::new(20));
    varying(|at| 40.0 * wave(at, 30.0), || {
        let semaphore = Arc::clone(&semaphore);
        tokio::spawn(async move {
            let _permit = semaphore.acquire_owned().await;
            pause(0.1, 0.8).await;
        });
    })
    .await;
}

async fn aborted() {
    forever(6.0, || {
        let task = tokio::spawn(async { std::future::pending::<u32>().await });
        tokio::spawn(async move {
            pause(0.2, 3.0).await;
            task.abort();
        });
    })
    .await;
}

async fn contended() {
    let mutex = Arc::new(Mutex::new(0));
    forever(15.0, || {
        let mutex = Arc::clone(&mutex);
        tokio::spawn(async move {
            let mut held = mutex.lock().await;
            pause(0.01, 0.08).await;
            *held += 1;
        });
    })
    .await;
}

async fn one_in_hundred_slow() {
    forever(40.0, || {
        tokio::spawn(async move {
            if random() < 0.01 {
                pause(4.0, 9.0).await;
            } else {
                pause(0.005, 0.05).await;
            }
        });
    })
    .await;
}

async fn autoscaled() {
    let (sender, receiver) = watch::channel(0_u32);
    let mut have = 0_u32;
    loop {
        let want = 5 + (40.0 * wave(now(), 50.0)) as u32;
        let _ = sender.send(want);
        while have < want {
            let (number, receiver) = (have, receiver.clone());
            have += 1;
            tokio::spawn(async move {
                while *receiver.borrow() > number {
                    pause(0.05, 0.5).await;
                }
            });
        }
        have = want;
        sleep(Duration::from_millis(600)).await;
    }
}
