//! Asks a Prometheus what the agents of all hosts saw: the worst sites, by version, image and site, and what is new.
//!
//! Everything that was measured is the agents'; here it is asked for and put together. It must never ask for what grows with
//! the number of hosts: Prometheus sums up.

mod join;
mod queries;

use std::time::Duration;

use reqwest::{Client, Url};

use self::{join::Answers, queries::Queries};
use crate::export::{NoVector, VectorSample, read_vector};
use crate::http::{self, Authorization};
use crate::report::fleet::FleetReport;

/// Most bytes of an answer.
const ANSWER: usize = 64 << 20;

/// What to ask, and whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the Prometheus, without `/api/v1`.
    pub prometheus: String,
    /// Who we are to it.
    pub authorization: Authorization,
    /// Label matchers that every series must meet, as between braces; may be empty.
    pub matching: String,
    /// How far the past is looked at.
    pub since: Duration,
    /// Sites that are listed at most.
    pub sites: usize,
    /// An answer may take so long.
    pub timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The address is none.
    #[error("--prometheus {0}")]
    Address(String),
    /// No client can be had.
    #[error("cannot ask anybody by HTTP: {0}")]
    Client(String),
    /// Who we are cannot be said.
    #[error("cannot ask {place}: {why}")]
    Authorization {
        /// Whom.
        place: String,
        /// Why not.
        why: String,
    },
    /// A question was not answered.
    #[error("{place} does not answer what {what}: {why}")]
    Question {
        /// Who.
        place: String,
        /// What was asked.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// No agent is known there.
    #[error(
        "{place} knows no agent of leakwatch{narrowed}: have it scrape the agents' /metrics, or have them send to it (docs/agent.md)"
    )]
    NoAgents {
        /// Who.
        place: String,
        /// By what it was narrowed.
        narrowed: String,
    },
}

/// Asks.
///
/// # Errors
/// When the address is none, nobody answers, an answer is none, or no agent is known there.
pub async fn ask(options: &Options) -> Result<FleetReport, FleetError> {
    let asker = Asker::new(options)?;
    let queries = Queries::new(&options.matching, options.since);
    let agents = asker.ask("agents there are", &queries.agents(), None).await?;
    // All questions are about the moment of the first.
    let Some(at_s) = agents.first().map(|sample| sample.at_s) else {
        let narrowed =
            if options.matching.is_empty() { String::new() } else { format!(" with {}", options.matching) };
        return Err(FleetError::NoAgents { place: asker.place(), narrowed });
    };
    let ask = async |what, query: String| asker.ask(what, &query, Some(at_s)).await;
    let answers = Answers {
        agents,
        processes: ask("processes there are", queries.processes()).await?,
        live: ask("sites there are", queries.live()).await?,
        leak_rate: ask("leaks", queries.leak_rate()).await?,
        verdict: ask("is a leak", queries.verdict()).await?,
        proven: ask("is proven", queries.proven()).await?,
        processes_of_sites: ask("processes have a site", queries.processes_of_sites()).await?,
        hosts_of_sites: ask("hosts have a site", queries.hosts_of_sites()).await?,
        leaking_processes: ask("processes leak", queries.leaking_processes()).await?,
        versions: ask("versions there were", queries.versions()).await?,
        suspicious: ask("was suspect", queries.suspicious()).await?,
    };
    Ok(join::report(&answers, &asker.place(), options.since.as_secs_f64(), options.sites))
}

/// Asks one Prometheus.
struct Asker<'a> {
    client: Client,
    url: Url,
    authorization: &'a Authorization,
}

impl<'a> Asker<'a> {
    fn new(options: &'a Options) -> Result<Self, FleetError> {
        let address = http::url(&options.prometheus).map_err(FleetError::Address)?;
        let url = http::below(&address, "/api/v1/query");
        let client = http::client(options.timeout).map_err(FleetError::Client)?;
        Ok(Self { client, url, authorization: &options.authorization })
    }

    /// The Prometheus, in messages.
    fn place(&self) -> String {
        http::place(&self.url).trim_end_matches("/api/v1/query").to_owned()
    }

    async fn ask(
        &self,
        what: &'static str,
        query: &str,
        at_s: Option<f64>,
    ) -> Result<Vec<VectorSample>, FleetError> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("query", query);
        if let Some(at_s) = at_s {
            url.query_pairs_mut().append_pair("time", &at_s.to_string());
        }
        let request = self.authorization.apply(self.client.get(url));
        let request = request.map_err(|why| FleetError::Authorization { place: self.place(), why })?;
        let failed = |why| FleetError::Question { place: self.place(), what, why };
        let reply = http::send(request, ANSWER).await.map_err(failed)?;
        read_vector(&reply.body).map_err(|error| {
            failed(match error {
                // By this alone it is known to be a Prometheus that said so, and not a page on the way to it.
                NoVector::Refused(why) => format!("it refuses the question: {why}"),
                NoVector::Strange(_) if !reply.status.is_success() => reply.said(),
                NoVector::Strange(_) if !reply.is_whole => {
                    format!("the answer was cut, or has more than {} MiB", ANSWER >> 20)
                }
                NoVector::Strange(why) => format!("this is no answer of a Prometheus: {why}"),
            })
        })
    }
}
