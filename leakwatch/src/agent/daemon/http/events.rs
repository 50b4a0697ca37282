//! `/api/v1/events`: what changes, as server-sent events, for who listens.
//!
//! Who reads slowly is told less often, never later: a turn is made when the one before was taken, of what is so then. A
//! stream ends by itself after a while and whoever wants more asks again, so that nobody is told for longer than he may be.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures_util::{StreamExt as _, stream};

use super::{LISTENERS, Shared, text};
use crate::export::live::Told;

/// Streams until it ends, in times of a request's: less than a connection has.
const LASTS: u32 = 5;

pub(super) async fn events(State(state): State<Shared>) -> Response {
    let Ok(place) = Arc::clone(&state.listeners).try_acquire_owned() else {
        let what = format!("{LISTENERS} listen already, and there is no room for more\n");
        return text(StatusCode::SERVICE_UNAVAILABLE, &what);
    };
    let mut snapshots = state.snapshots;
    // What there is now is the first turn.
    snapshots.mark_changed();
    let turns =
        stream::unfold((Told::default(), snapshots, place), |(mut told, mut snapshots, place)| async {
            loop {
                // An error: the agent stops.
                snapshots.changed().await.ok()?;
                let snapshot = snapshots.borrow_and_update().clone();
                if let Some(snapshot) = snapshot {
                    let news = told.news(&snapshot.report, &snapshot.about());
                    let event = Event::default().event("turn").data(news);
                    return Some((Ok::<_, Infallible>(event), (told, snapshots, place)));
                }
            }
        });
    Sse::new(turns.take_until(tokio::time::sleep(state.timeout.saturating_mul(LASTS)))).into_response()
}
