//! What leaves the agent: by gRPC as the report has it, without names and stacks where they are to stay, and over TLS to whom it
//! is for alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leakwatch_tests::process::eventually;
use leakwatch_tests::receivers::{Collector, Sink};
use leakwatch_tests::{Agent, HostAgent, Target, gate, matrix, need};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use rustls::pki_types::{CertificateDer, ServerName};

use crate::folder::Folder;

/// How long something may take to come.
const PATIENCE: Duration = Duration::from_mins(2);

/// Lets in whom it is for.
const TOKEN: &str = "the token of the receiver";

/// Once a second, of one program.
fn watching(exe: &Path) -> String {
    format!(
        "[discover]\ninclude = [{{ exe = \"{}\" }}]\n[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n\
         [promote]\nenabled = false\n",
        exe.display()
    )
}

/// An attribute as a text.
fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|one| one.key == key)?.value.clone()?.value?;
    Some(match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

/// The newest figures that a collector has of a process, by metric and site's function.
fn newest_of(collector: &Collector, pid: u32) -> BTreeMap<(String, String), f64> {
    let mut figures = BTreeMap::new();
    let Some(request) = collector.metrics().pop() else { return figures };
    for resource in request.resource_metrics {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        if attribute(&attributes, "process.pid") != Some(pid.to_string()) {
            continue;
        }
        assert_eq!(attribute(&attributes, "host.name").as_deref(), Some("node-7"));
        for metric in resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
            let points = match metric.data {
                Some(Data::Gauge(gauge)) => gauge.data_points,
                Some(Data::Sum(sum)) => sum.data_points,
                _ => continue,
            };
            for point in points {
                let Some(number_data_point::Value::AsDouble(value)) = point.value else { continue };
                let function = attribute(&point.attributes, "function").unwrap_or_default();
                figures.insert((metric.name.clone(), function), value);
            }
        }
    }
    figures
}

/// Names, states and bodies of the alerts that a collector has.
fn alerts(logs: &[ExportLogsServiceRequest]) -> Vec<(String, String, String)> {
    let records = logs.iter().flat_map(|request| &request.resource_logs).flat_map(|one| &one.scope_logs);
    let told = records.flat_map(|scope| &scope.log_records).map(|record| {
        let of = |key: &str| attribute(&record.attributes, key).unwrap_or_default();
        let body = record.body.clone().and_then(|body| body.value);
        let Some(any_value::Value::StringValue(body)) = body else { panic!("no body: {record:?}") };
        (of("leakwatch.alert.name"), of("leakwatch.alert.state"), body)
    });
    told.collect()
}

#[test]
fn a_receiver_of_grpc_gets_what_the_report_says() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("grpc");
    let program = folder.copy("served");
    let mut target = Target::start(&program);
    target.command("spawn chan 20");
    let collector = Collector::start(TOKEN);
    let token = folder.secret("token", "another one\n");
    let config = format!(
        "{}[export]\ninterval = \"1s\"\n[export.otlp]\nendpoint = \"http://{}\"\nprotocol = \"grpc\"\n\
         bearer_token_file = \"{token}\"\n[[rule]]\nname = \"many\"\nwhen = \"tasks.live > 100\"\n",
        watching(&program),
        collector.address()
    );
    let host = HostAgent::start_with("grpc", &config, |config| {
        let mut command = leakwatch_tests::agent::command(["agent", "--host-name", "node-7", "--config"]);
        command.arg(config);
        command
    });
    // Nobody is let in without the right token, and nothing is given up for it.
    assert!(eventually(PATIENCE, || collector.refused() > 0), "nobody asks");
    assert!(collector.metrics().is_empty() && collector.logs().is_empty());
    folder.secret("token", TOKEN);

    let truth = target.check();
    let live = |collector: &Collector, function: &str| {
        let name = if function.is_empty() { "leakwatch_tasks_live" } else { "leakwatch_site_tasks_live" };
        newest_of(collector, target.pid()).get(&(name.to_owned(), function.to_owned())).copied()
    };
    let (function, site) = truth.sites.iter().find(|(_, site)| site.live == 20).expect("the site");
    let number = |count: u64| Some(f64::from(u32::try_from(count).expect("small")));
    let came = eventually(PATIENCE, || {
        live(&collector, "") == number(truth.num_goroutine) && live(&collector, function) == number(site.live)
    });
    assert!(came, "{truth:?}\n{:?}", newest_of(&collector, target.pid()));
    // Everything that is a number in /metrics of this process, at rest, came as it is there.
    let metrics = host.get("/metrics", &[]).body;
    let pid = format!("pid=\"{}\"", target.pid());
    let mut compared = 0;
    for ((name, function), value) in newest_of(&collector, target.pid()) {
        let of_it = |line: &&str| {
            line.contains(&pid)
                && line.starts_with(&name)
                && line.contains(&format!("function=\"{function}\""))
        };
        if ["leakwatch_tasks_live", "leakwatch_site_tasks_live", "leakwatch_site_leaking"]
            .contains(&name.as_str())
            && !function.is_empty()
        {
            let line =
                metrics.lines().find(of_it).unwrap_or_else(|| panic!("no {name} of {function}: {metrics}"));
            let there: f64 = line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("a number");
            assert!((there - value).abs() < 1e-9, "{name} of {function}: {value}, and {line}");
            compared += 1;
        }
    }
    assert!(compared > 0, "no site came");

    target.command("spawn chan 200");
    assert!(eventually(PATIENCE, || !collector.logs().is_empty()), "no alert comes");
    target.command("finish chan 200");
    assert!(eventually(PATIENCE, || collector.logs().len() >= 2), "it does not resolve");
    let told = alerts(&collector.logs());
    let states: Vec<(&str, &str)> = told.iter().map(|(name, state, _)| (&**name, &**state)).collect();
    assert_eq!(states, [("many", "firing"), ("many", "resolved")]);
    let subject = format!("(pid {})", target.pid());
    assert!(told.iter().all(|(_, _, body)| body.contains(&subject)), "{told:?}");
    drop(host);
}

#[test]
fn names_and_stacks_that_are_redacted_leave_by_no_way() {
    need!(gate::live(), gate::file(&matrix::any_go_target().path));
    let folder = Folder::new("redact");
    let program = folder.copy("served");
    let mut target = Target::start(&program);
    target.command("spawn chan 20");
    target.command("spawn method 9");
    let (sink, collector) = (Sink::start(), Collector::start(TOKEN));
    let key = folder.secret("key", "0123456789abcdef\n");
    let token = folder.secret("token", TOKEN);
    let config = format!(
        "[http]\nbearer_token_file = \"{token}\"\n{}[redact]\nsymbols = true\nstacks = true\nkey_file = \"{key}\"\n\
         [export]\ninterval = \"1s\"\n\
         [export.remote_write]\nurl = \"http://{sink}/write\"\nqueue_dir = \"{}\"\n\
         [export.otlp]\nendpoint = \"http://{}\"\nprotocol = \"grpc\"\nbearer_token_file = \"{token}\"\n\
         [[rule]]\nname = \"each\"\nper = \"site\"\nwhen = \"live > 1\"\n\
         [[action]]\nkind = \"webhook\"\nurl = \"http://{sink}\"\n[[action]]\nkind = \"log\"\n",
        watching(&program),
        folder.path().join("queue").display(),
        collector.address(),
        sink = sink.address(),
    );
    let host = HostAgent::start("redact", &config);
    let truth = target.check();
    host.wait_live(target.pid(), truth.num_goroutine);
    let alerted = || (sink.posted("/api/v2/alerts"), alerts(&collector.logs()));
    let came = eventually(PATIENCE, || {
        let (posted, logged) = alerted();
        !posted.is_empty()
            && !logged.is_empty()
            && !sink.posted("/write").is_empty()
            && !collector.metrics().is_empty()
    });
    assert!(came, "something is not sent");

    // The counts stay what they are; only what the sites are called does not.
    let functions = host.report(target.pid()).expect("watched").process(target.pid()).by_function();
    let mut counts: Vec<u64> =
        functions.values().map(|counts| counts.live).filter(|&live| live > 0).collect();
    let mut known: Vec<u64> = truth.sites.values().map(|site| site.live).filter(|&live| live > 0).collect();
    // The main goroutine, which the book leaves out, and which is not known by its name here.
    known.push(1);
    counts.sort_unstable();
    known.sort_unstable();
    assert_eq!(counts, known, "{functions:?}");

    let mut all: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for path in ["/metrics", "/api/v1/report", "/api/v1/processes", "/api/v1/alerts"] {
        let answer = host.get(path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        all.insert(path, answer.body.into_bytes());
    }
    // Nor are there dumps, not even for who gives the token.
    let dump = host.raw(&format!(
        "POST /api/v1/dump?pid={} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
        target.pid()
    ));
    assert_eq!(dump.status, 404, "{}", dump.headers);
    let written = sink
        .posted("/write")
        .into_iter()
        .flat_map(|posted| snap::raw::Decoder::new().decompress_vec(&posted.body).expect("snappy"));
    all.insert("remote write", written.collect());
    all.insert("Alertmanager", alerted().0.into_iter().flat_map(|posted| posted.body).collect());
    all.insert("OTLP metrics", format!("{:?}", collector.metrics()).into_bytes());
    all.insert("OTLP logs", format!("{:?}", collector.logs()).into_bytes());
    let outcome = host.terminate();
    all.insert("the log", outcome.stderr.into_bytes());
    for (way, bytes) in &all {
        let text = String::from_utf8_lossy(bytes);
        for function in truth.sites.keys() {
            assert!(!text.contains(function.as_str()), "{way} tells of {function}");
        }
        for part in ["main.leak", "main.(*server)", ".go:", ".go\"", "runtime.gopark", "0123456789abcdef"] {
            assert!(!text.contains(part), "{way} tells of {part}");
        }
        assert!(*way == "/api/v1/processes" || text.contains("hidden-"), "{way} has no sites at all");
    }
}

/// Asks over TLS, believing this certificate alone.
pub(crate) fn ask(
    address: &str,
    certificate: &CertificateDer<'static>,
    path: &str,
    headers: &str,
) -> Result<String, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection =
        rustls::ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let socket = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let mut stream = rustls::StreamOwned::new(connection, socket);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    Ok(answer)
}

#[test]
fn over_tls_to_whom_it_is_for_alone() {
    need!(gate::live());
    let folder = Folder::new("tls");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let cert = folder.path().join("tls.crt");
    fs::write(&cert, made.cert.pem()).expect("written");
    let key = folder.secret("tls.key", &made.signing_key.serialize_pem());
    let token = folder.secret("token", "0123456789abcdef0123456789abcdef\n");
    // printf %s 'open sesame' | sha256sum
    let hash = "41ef4bb0b23661e66301aac36066912dac037827b4ae63a7b1165a5aa93ed4eb";
    let users = folder.secret("users", &format!("ops:sha256:{hash}\n"));
    let config = folder.path().join("agent.toml");
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\ntls_cert = \"{}\"\ntls_key = \"{key}\"\nmetrics = \"auth\"\napi = \"auth\"\n\
         bearer_token_file = \"{token}\"\nbasic_users_file = \"{users}\"\n[discover]\ninclude = [{{ comm = \"nobody\" }}]\n",
        cert.display()
    );
    fs::write(&config, text).expect("written");
    let mut agent = Agent::start(["agent", "--config", config.to_str().expect("a path")]);
    let line = agent.wait_said("the agent answers on https://");
    let address = line.split("https://").nth(1).expect("an address").trim_end_matches('/').to_owned();
    let own = CertificateDer::from(made.cert.der().to_vec());
    let status = |path: &str, headers: &str| {
        let answer = ask(&address, &own, path, headers).unwrap_or_else(|error| panic!("{path}: {error}"));
        answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).expect("a status")
    };
    assert!(eventually(PATIENCE, || status("/readyz", "") == 200), "it is not ready");
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let basic = |pair: &str| format!("Authorization: Basic {pair}\r\n");
    for (headers, expect) in [
        (String::new(), 401),
        (bearer("0123456789abcdef0123456789abcdef"), 200),
        (bearer("0123456789abcdef0123456789abcdee"), 401),
        (bearer(""), 401),
        // ops:open sesame, ops:open sesamf, dev:open sesame
        (basic("b3BzOm9wZW4gc2VzYW1l"), 200),
        (basic("b3BzOm9wZW4gc2VzYW1m"), 401),
        (basic("ZGV2Om9wZW4gc2VzYW1l"), 401),
    ] {
        for path in ["/metrics", "/api/v1/processes", "/api/v1/report"] {
            assert_eq!(status(path, &headers), expect, "{path} with {headers:?}");
        }
    }
    assert_eq!(status("/healthz", ""), 200);
    // Who trusts somebody else is not served, nor is who speaks no TLS.
    let stranger = CertificateDer::from(other.cert.der().to_vec());
    assert!(ask(&address, &stranger, "/healthz", "").is_err());
    let mut plain = TcpStream::connect(&address).expect("it listens");
    plain.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    // An alert of TLS, or nothing: the connection may just end.
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    // A certificate is renewed in its place, without a restart.
    fs::write(&cert, other.cert.pem()).expect("written");
    folder.secret("tls.key", &other.signing_key.serialize_pem());
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    agent.wait_said("the configuration was read again");
    assert!(ask(&address, &own, "/healthz", "").is_err());
    let renewed = ask(&address, &stranger, "/healthz", "").expect("the new one");
    assert!(renewed.starts_with("HTTP/1.1 200"), "{renewed}");
}
