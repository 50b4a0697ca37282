//! Tells Alertmanager what fires: at once, again and again while it fires, and that it is over.
//!
//! What is sent is what fires now, not what happened: an address that does not answer for an hour costs no memory and misses
//! nothing but the hour. <https://github.com/prometheus/alertmanager/blob/v0.27.0/api/v2/openapi.yaml>

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::SignedDuration;
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Action, Means, Webhook, tally::Tally};
use crate::export::to_alertmanager;
use crate::http::{self, Authorization, backoff};
use crate::report::alerting::{AlertReport, AlertState};

/// Alerts that are remembered.
const MOST: usize = 1_000;
/// Alerts in one request.
const CHUNK: usize = 100;
/// Bytes of an answer that are looked at.
const ANSWER: usize = 1 << 10;
/// An alert that was not heard of for so many resends is over for Alertmanager: leakwatch may have been killed.
const OVER_AFTER: i32 = 3;

/// What fires, and what is over and was not told yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    letters: Mutex<BTreeMap<u64, Letter>>,
    changed: Notify,
}

#[derive(Clone, Debug)]
struct Letter {
    alert: Arc<AlertReport>,
    /// It was delivered as it is.
    told: bool,
    /// It was delivered at all: what was never told of need not be told to be over.
    ever: bool,
}

impl Outbox {
    /// Takes in that an alert fires or is over.
    pub(super) fn put(&self, alert: Arc<AlertReport>, tally: &Tally) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let before = letters.get(&alert.id).map(|letter| letter.ever);
        match (before, alert.state) {
            (None, AlertState::Firing) if letters.len() >= MOST => tally.dropped(),
            // It had no place when it fired.
            (None, AlertState::Resolved) => {}
            (ever, _) => {
                let letter = Letter { told: false, ever: ever.unwrap_or(false), alert };
                letters.insert(letter.alert.id, letter);
            }
        }
        tally.wait(letters.values().filter(|letter| !letter.told).count());
        drop(letters);
        self.changed.notify_one();
    }

    /// What is to be sent: all, or what was not delivered yet.
    fn letters(&self, all: bool) -> Vec<Arc<AlertReport>> {
        let letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.values().filter(|letter| all || !letter.told).map(|letter| letter.alert.clone()).collect()
    }

    /// These were delivered.
    fn delivered(&self, alerts: &[Arc<AlertReport>], tally: &Tally) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        for alert in alerts {
            let Some(letter) = letters.get_mut(&alert.id) else { continue };
            letter.ever = true;
            // It may have changed meanwhile.
            if letter.alert.state != alert.state {
                continue;
            }
            letter.told = true;
            if alert.state == AlertState::Resolved {
                letters.remove(&alert.id);
            }
        }
        tally.wait(letters.values().filter(|letter| !letter.told).count());
    }

    /// What is over and could not be told is given up; what fires is tried again with the next resend.
    fn give_up(&self, tally: &Tally) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.retain(|_, letter| letter.alert.state == AlertState::Firing || letter.ever);
        tally.wait(letters.values().filter(|letter| !letter.told).count());
    }
}

/// Why a request failed.
struct Failure {
    what: String,
    /// It may go better another time.
    again: bool,
    /// And not before this long, as it was answered.
    after: Option<Duration>,
}

/// Delivers what is in the outbox until leakwatch ends, and then once more.
pub(super) async fn deliver(
    webhook: Webhook,
    action: Action,
    outbox: Arc<Outbox>,
    tally: Arc<Tally>,
    means: Means,
    mut stopped: watch::Receiver<bool>,
) {
    let opened = http::client(action.timeout).and_then(|client| Ok((client, endpoint(&webhook.url)?)));
    let (client, url) = match opened {
        Ok(opened) => opened,
        Err(why) => return tally.failed(&why),
    };
    let mut sender = Sender { client, url, webhook, tally, outbox, means };
    let mut resend = interval(sender.webhook.resend);
    resend.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let least = Duration::from_mins(1) / action.per_minute.max(1);
    loop {
        let all = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            _ = resend.tick() => true,
            () = sender.outbox.changed.notified() => false,
        };
        let mut failures = 0;
        let mut pause = least;
        while let Err(failure) = sender.round(all).await {
            sender.tally.failed(&failure.what);
            failures += 1;
            if !failure.again || failures >= action.attempts {
                sender.tally.given_up();
                sender.outbox.give_up(&sender.tally);
                // The next one comes no sooner than it is wanted, either.
                pause = failure.after.unwrap_or_default().max(least);
                break;
            }
            tokio::select! {
                () = sleep(failure.after.unwrap_or_else(|| backoff(failures))) => {}
                _ = stopped.wait_for(|stop| *stop) => break,
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }
    // That everything is over: the last word.
    if let Err(failure) = sender.round(false).await {
        sender.tally.failed(&failure.what);
        sender.tally.given_up();
    }
}

struct Sender {
    client: Client,
    url: Url,
    webhook: Webhook,
    tally: Arc<Tally>,
    outbox: Arc<Outbox>,
    means: Means,
}

impl Sender {
    /// Sends what is to be sent; nothing where there is nothing.
    async fn round(&mut self, all: bool) -> Result<(), Failure> {
        for alerts in self.outbox.letters(all).chunks(CHUNK) {
            self.post(alerts).await?;
            self.tally.done();
            self.outbox.delivered(alerts, &self.tally);
        }
        Ok(())
    }

    async fn post(&self, alerts: &[Arc<AlertReport>]) -> Result<(), Failure> {
        let resend = SignedDuration::try_from(self.webhook.resend).unwrap_or(SignedDuration::MAX);
        let now = (self.means.clock)();
        let ends = resend.checked_mul(OVER_AFTER).and_then(|over| now.checked_add(over).ok()).unwrap_or(now);
        let body = to_alertmanager(
            alerts.iter().map(|alert| &**alert),
            &self.means.host,
            ends,
            self.webhook.generator_url.as_deref(),
        );
        let later = |what| Failure { what, again: true, after: None };
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let authorization = Authorization::bearer_of(self.webhook.bearer_token_file.as_deref());
        let request = authorization.apply(request).map_err(later)?;
        let reply = http::send(request, ANSWER).await.map_err(later)?;
        if reply.status.is_success() {
            return Ok(());
        }
        let again = reply.status.is_server_error()
            || matches!(reply.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        let after = reply.wait((self.means.clock)());
        Err(Failure { what: reply.said(), again, after })
    }
}

/// Where alerts are posted: Alertmanager's own path is added to an address without one.
fn endpoint(text: &str) -> Result<Url, String> {
    const PATH: &str = "/api/v2/alerts";
    let mut url = http::url(text)?;
    let path = url.path().trim_end_matches('/').to_owned();
    if path.ends_with(PATH) {
        url.set_path(&path);
        return Ok(url);
    }
    Ok(http::below(&url, PATH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Kind, tests};

    #[tokio::test]
    async fn a_receiver_says_when_it_wants_to_be_asked_again() {
        let minute = "HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:00 GMT\r\n\
                      Retry-After: Sun, 06 Nov 1994 08:50:00 GMT\r\nConnection: close\r\n\r\n";
        let refused = "HTTP/1.1 400 Bad Request\r\nRetry-After: 9\r\nConnection: close\r\n\r\n";
        let nothing = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n";
        for (answer, again, after) in [
            (minute, true, Some(Duration::from_mins(1))),
            (refused, false, Some(Duration::from_secs(9))),
            (nothing, true, None),
        ] {
            let server = tests::Server::answering(answer);
            let Kind::Webhook(webhook) = tests::webhook(server.address).kind else { panic!("a webhook") };
            let sender = Sender {
                client: http::client(Duration::from_mins(1)).expect("a client"),
                url: endpoint(&webhook.url).expect("an address"),
                webhook,
                tally: Arc::default(),
                outbox: Arc::default(),
                means: tests::means(),
            };
            let failure = sender.post(&[alert(1, AlertState::Firing)]).await.expect_err("it fails");
            assert_eq!((failure.again, failure.after), (again, after), "{}", failure.what);
        }
    }

    fn alert(id: u64, state: AlertState) -> Arc<AlertReport> {
        Arc::new(AlertReport { id, state, ..AlertReport::default() })
    }

    #[test]
    fn what_fires_is_sent_until_it_is_over_and_told() {
        let (outbox, tally) = (Outbox::default(), Tally::default());
        outbox.put(alert(1, AlertState::Firing), &tally);
        outbox.put(alert(2, AlertState::Firing), &tally);
        assert_eq!((outbox.letters(false).len(), tally.counts().waiting), (2, 2));
        let sent = outbox.letters(false);
        // One is over while the request is on its way.
        outbox.put(alert(2, AlertState::Resolved), &tally);
        outbox.delivered(&sent, &tally);
        assert_eq!(outbox.letters(true).len(), 2);
        let left = outbox.letters(false);
        assert_eq!(
            left.iter().map(|alert| (alert.id, alert.state)).collect::<Vec<_>>(),
            [(2, AlertState::Resolved)]
        );
        outbox.delivered(&left, &tally);
        assert_eq!((outbox.letters(true).len(), tally.counts().waiting), (1, 0));
    }

    #[test]
    fn a_dead_address_costs_no_memory() {
        let (outbox, tally) = (Outbox::default(), Tally::default());
        for id in 0..5_000 {
            outbox.put(alert(id, AlertState::Firing), &tally);
        }
        assert_eq!((outbox.letters(true).len(), tally.counts().dropped), (MOST, 5_000 - MOST as u64));
        for id in 0..5_000 {
            outbox.put(alert(id, AlertState::Resolved), &tally);
        }
        outbox.give_up(&tally);
        assert_eq!(outbox.letters(true).len(), 0, "nobody was ever told of them");
    }

    #[test]
    fn addresses() {
        for (text, wanted) in [
            ("http://am:9093", "http://am:9093/api/v2/alerts"),
            ("http://am:9093/", "http://am:9093/api/v2/alerts"),
            ("https://h/alertmanager?key=k", "https://h/alertmanager/api/v2/alerts?key=k"),
            ("https://h/x/api/v2/alerts/", "https://h/x/api/v2/alerts"),
        ] {
            assert_eq!(endpoint(text).map(|url| url.to_string()), Ok(wanted.to_owned()));
        }
    }
}
