//! Whom the agent believes that it talks to: a receiver over TLS whose certificate an authority of the machine signed, for the
//! name that the agent was told, and that is valid now. Nobody else learns anything, not even the token.

use std::fs;
use std::time::Duration;

use leakwatch_tests::process::eventually;
use leakwatch_tests::receivers::Collector;
use leakwatch_tests::{HostAgent, Server, agent, gate, need};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::folder::Folder;

/// How long something may take to come.
const PATIENCE: Duration = Duration::from_mins(2);

const TOKEN: &str = "the token of the receiver";

/// An authority of somebody's own.
pub(crate) fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A receiver whose certificate is for this name, signed by this authority, valid from and until these years.
fn receiver(authority: &CertifiedIssuer<'static, KeyPair>, name: &str, years: [i32; 2]) -> Collector {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(years[0], 1, 1);
    params.not_after = rcgen::date_time_ymd(years[1], 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("signed");
    Collector::start_over_tls(TOKEN, &certificate.pem(), &key.serialize_pem())
}

#[test]
fn over_grpc_to_whom_an_authority_of_the_machine_vouches_for() {
    need!(gate::live());
    let folder = Folder::new("trust");
    let (ours, other) = (authority("ours"), authority("another"));
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, ours.pem()).expect("written");
    let token = folder.secret("token", TOKEN);
    let start = |name: &str, receiver: &Collector| {
        let config = format!(
            "[discover]\ninclude = [{{ comm = \"nobody\" }}]\n[sampling]\ninterval = \"1s\"\n[export]\ninterval = \"1s\"\n\
             [export.otlp]\nendpoint = \"https://localhost:{}\"\nprotocol = \"grpc\"\nbearer_token_file = \"{token}\"\n",
            receiver.address().port()
        );
        HostAgent::start_with(name, &config, |config| {
            let mut command = agent::command(["agent", "--config"]);
            command.arg(config).env("SSL_CERT_FILE", &roots);
            command
        })
    };
    let figure = |host: &Server, name: &str| -> u64 {
        let metrics = host.get("/metrics", &[]).body;
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name}: {metrics}"))
    };
    let good = receiver(&ours, "localhost", [2020, 2100]);
    let host = start("trust-good", &good);
    assert!(eventually(PATIENCE, || !good.metrics().is_empty()), "nothing comes");
    assert_eq!(figure(&host, "leakwatch_export_requests_failed_total"), 0);
    drop(host);
    for (what, receiver) in [
        ("another name", receiver(&ours, "elsewhere.example", [2020, 2100])),
        ("expired", receiver(&ours, "localhost", [2020, 2021])),
        ("not valid yet", receiver(&ours, "localhost", [2099, 2100])),
        ("another authority", receiver(&other, "localhost", [2020, 2100])),
    ] {
        let host = start("trust-bad", &receiver);
        host.wait_until(what, |host| figure(host, "leakwatch_export_requests_failed_total") >= 1);
        assert_eq!(figure(&host, "leakwatch_export_requests_sent_total"), 0, "{what}");
        assert!(receiver.metrics().is_empty() && receiver.refused() == 0, "{what}: it learnt something");
        let outcome = host.terminate();
        assert!(!outcome.stderr.contains(TOKEN), "{}", outcome.stderr);
    }
}
