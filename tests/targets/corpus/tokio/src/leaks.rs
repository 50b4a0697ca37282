//! Every shape here leaks: its tasks, or some of them, never end.

use std::sync::{Arc, Mutex as Lock};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc, oneshot, watch, Mutex, Notify, RwLock, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::pace::{forever, pause, random, varying, wave};

crate::shapes! { true:
    "pending for ever" => pending_for_ever,
    "sender kept alive" => sender_kept,
    "oneshot never sent" => oneshot_never_sent,
    "JoinSet never drained" => join_set_never_drained,
    "interval without exit" => interval_without_exit,
    "Notify never notified" => notify_never,
    "Mutex held across an await" => mutex_held,
    "loser of select! kept" => loser_kept,
    "spawn in Drop" => spawn_in_drop,
    "semaphore never released" => semaphore_kept,
    "full channel" => full_channel,
    "reader of a silent peer" => silent_peer,
    "watch never changed" => watch_never_changed,
    "broadcast subscriber" => broadcast_subscriber,
    "one in 300" => one_in_300,
    "on errors only" => on_errors_only,
    "bursts every 20 s" => bursts,
    "stopped growing" => stopped_growing,
    "masked by workers" => masked_by_workers,
    "following traffic" => following_traffic,
    "lock for writing" => lock_for_writing,
    "reconnect for ever" => reconnect_for_ever,
}

async fn pending_for_ever() {
    // A bare `pending()` would have no name that tells who spawned it.
    forever(4.0, || drop(tokio::spawn(async { std::future::pending::<()>().await }))).await;
}

async fn sender_kept() {
    let mut kept = Vec::new();
    forever(3.0, || {
        let (sender, mut receiver) = mpsc::channel::<u32>(4);
        kept.push(sender);
        tokio::spawn(async move { while receiver.recv().await.is_some() {} });
    })
    .await;
}

async fn oneshot_never_sent() {
    let mut kept = Vec::new();
    forever(3.0, || {
        let (sender, receiver) = oneshot::channel::<u32>();
        kept.push(sender);
        tokio::spawn(async move { receiver.await.is_ok() });
    })
    .await;
}

async fn join_set_never_drained() {
    let mut set = JoinSet::new();
    let gate = Arc::new(Notify::new());
    forever(3.0, || {
        let gate = Arc::clone(&gate);
        set.spawn(async move {
            sleep(Duration::from_millis(50)).await;
            gate.notified().await;
        });
    })
    .await;
}

async fn interval_without_exit() {
    forever(1.5, || {
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(400));
            loop {
                ticks.tick().await;
            }
        });
    })
    .await;
}

async fn notify_never() {
    let notify = Arc::new(Notify::new());
    forever(3.0, || {
        let notify = Arc::clone(&notify);
        tokio::spawn(async move { notify.notified().await });
    })
    .await;
}

async fn mutex_held() {
    let mutex = Arc::new(Mutex::new(0));
    let _held = Arc::clone(&mutex).lock_owned().await;
    forever(3.0, || {
        let mutex = Arc::clone(&mutex);
        tokio::spawn(async move { *mutex.lock().await += 1 });
    })
    .await;
}

async fn loser_kept() {
    forever(3.0, || {
        tokio::spawn(async move {
            let loser = tokio::spawn(async { std::future::pending::<u32>().await });
            tokio::select! {
                _ = loser => {}
                () = pause(0.01, 0.1) => {}
            }
        });
    })
    .await;
}

struct Closes;

impl Drop for Closes {
    fn drop(&mut self) {
        spawn_in_drop_close();
    }
}

fn spawn_in_drop_close() {
    tokio::spawn(async {
        let (_sender, receiver) = oneshot::channel::<()>();
        let kept = _sender;
        let _ = receiver.await;
        drop(kept);
    });
}

async fn spawn_in_drop() {
    forever(3.0, || drop(Closes)).await;
}

async fn semaphore_kept() {
    let semaphore = Arc::new(Semaphore::new(3));
    forever(2.0, || {
        let semaphore = Arc::clone(&semaphore);
        tokio::spawn(async move {
            if let Ok(permit) = semaphore.acquire_owned().await {
                permit.forget();
                std::future::pending::<()>().await;
            }
        });
    })
    .await;
}

async fn full_channel() {
    let (sender, _receiver) = mpsc::channel::<u32>(2);
    forever(3.0, || {
        let sender = sender.clone();
        tokio::spawn(async move { sender.send(1).await.is_ok() });
    })
    .await;
}

async fn silent_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let kept = Arc::new(Lock::new(Vec::new()));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 64];
                while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    loop {
        pause(0.3, 0.7).await;
        if let Ok(stream) = TcpStream::connect(address).await {
            kept.lock().expect("whole").push(stream);
        }
    }
}

async fn watch_never_changed() {
    let (sender, receiver) = watch::channel(0);
    forever(2.0, || {
        let mut receiver = receiver.clone();
        tokio::spawn(async move { while receiver.changed().await.is_ok() {} });
    })
    .await;
    drop(sender);
}

async fn broadcast_subscriber() {
    let (sender, _) = broadcast::channel::<u64>(16);
    let beats = sender.clone();
    tokio::spawn(async move {
        for number in 0.. {
            pause(0.2, 0.5).await;
            let _ = beats.send(number);
        }
    });
    forever(1.5, || {
        let mut receiver = sender.subscribe();
        tokio::spawn(async move {
            let mut last = 0;
            while let Ok(number) = receiver.recv().await {
                last = number;
            }
            last
        });
    })
    .await;
}

async fn one_in_300() {
    let mut number = 0;
    forever(150.0, || {
        number += 1;
        let hangs = number % 300 == 0;
        tokio::spawn(async move {
            pause(0.001, 0.05).await;
            if hangs {
                std::future::pending::<()>().await;
            }
        });
    })
    .await;
}

async fn on_errors_only() {
    forever(20.0, || {
        tokio::spawn(async move {
            let notify = Notify::new();
            if random() < 0.95 {
                notify.notify_one();
            }
            pause(0.005, 0.05).await;
            notify.notified().await;
        });
    })
    .await;
}

async fn bursts() {
    loop {
        for _ in 0..30 {
            tokio::spawn(async { std::future::pending::<u8>().await });
        }
        sleep(Duration::from_secs(20)).await;
    }
}

async fn stopped_growing() {
    varying(|at| if at < 12.0 { 12.0 } else { 0.0 }, || {
        tokio::spawn(async { std::future::pending::<u16>().await });
    })
    .await;
}

async fn masked_by_workers() {
    let (sender, receiver) = mpsc::channel::<u64>(64);
    let receiver = Arc::new(Mutex::new(receiver));
    tokio::spawn(async move {
        for number in 0.. {
            sleep(Duration::from_millis(2)).await;
            let _ = sender.send(number).await;
        }
    });
    let start = |hangs: bool| {
        let receiver = Arc::clone(&receiver);
        tokio::spawn(async move {
            let mut sum = 0_u64;
            loop {
                let next = receiver.lock().await.recv().await;
                sum = sum.wrapping_add(next.unwrap_or(0));
                if hangs {
                    std::future::pending::<()>().await;
                }
                pause(0.001, 0.3).await;
            }
        });
    };
    (0..100).for_each(|_| start(false));
    forever(1.0, || start(true)).await;
}

async fn following_traffic() {
    varying(|at| 3.0 + 12.0 * wave(at, 40.0), || {
        tokio::spawn(async move {
            pause(0.01, 0.4).await;
            if random() < 0.33 {
                std::future::pending::<()>().await;
            }
        });
    })
    .await;
}

async fn lock_for_writing() {
    let lock = Arc::new(RwLock::new(0));
    let _held = Arc::clone(&lock).read_owned().await;
    forever(2.0, || {
        let lock = Arc::clone(&lock);
        tokio::spawn(async move { *lock.write().await += 1 });
    })
    .await;
}

async fn reconnect_for_ever() {
    forever(1.5, || {
        tokio::spawn(async move {
            let mut wait = 0.1;
            loop {
                pause(wait, wait * 1.5).await;
                wait = f64::min(wait * 1.5, 1.0);
            }
        });
    })
    .await;
}
