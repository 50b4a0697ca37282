//! The wall clock of the machine is set across the ends of what certificates are valid for: what `docs/agent.md` says of it.

use std::time::Duration;

use leakwatch_tests::Machine;
use leakwatch_tests::process::eventually;
use leakwatch_tests::receivers::Collector;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::clock::TOKEN;
use super::configure;
use crate::{sent, trust};

/// How long something may take to come.
const PATIENCE: Duration = Duration::from_mins(2);

const HOUR: Duration = Duration::from_hours(1);

/// A certificate for both machines, valid for an hour before and after what the booted one's clock says, and its key; in PEM.
#[track_caller]
fn certificate(machine: &Machine, authority: &CertifiedIssuer<'static, KeyPair>) -> [String; 2] {
    // The machine, as it is seen from inside and from outside, and this machine as it is seen from there.
    let names = ["localhost", "127.0.0.1", "10.0.2.2"].map(str::to_owned);
    let mut params = CertificateParams::new(names.to_vec()).expect("names");
    let since_1970 = machine.have("date +%s").parse().expect("a number");
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since_1970);
    params.not_before = now - HOUR;
    params.not_after = now + HOUR;
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("signed");
    [certificate.pem(), key.serialize_pem()]
}

/// Puts the certificate of the agent's server in its place.
#[track_caller]
fn install(machine: &Machine, [certificate, key]: &[String; 2]) {
    machine.have(&format!(
        "umask 077 && cat >/opt/test/tls.crt <<'end'\n{certificate}end\ncat >/opt/test/tls.key <<'end'\n{key}end"
    ));
}

/// Sets the machine's clock ahead or back, h.
#[track_caller]
fn step(machine: &Machine, hours: i32) {
    machine.have(&format!("date --set '{hours} hours'"));
}

/// What a program in the machine says when it asks the agent's server.
#[track_caller]
fn asked_inside(machine: &Machine) -> String {
    machine.run("SSL_CERT_FILE=/opt/test/roots.pem leakwatch fleet --prometheus https://127.0.0.1:9464").1
}

/// The agent is stopped, and so it is in the end.
#[track_caller]
pub(super) fn crossed(machine: &Machine, config: &str) {
    let authority = trust::authority("ours");
    let valid = certificate(machine, &authority);
    let collector = Collector::start_over_tls(TOKEN, &valid[0], &valid[1]);
    machine.have(&format!(
        "cat >/opt/test/roots.pem <<'end'\n{}end\necho {TOKEN} >/opt/test/token",
        authority.pem()
    ));
    machine.have(
        "mkdir --parents /etc/systemd/system/leakwatch-agent.service.d && \
         printf '[Service]\\nEnvironment=SSL_CERT_FILE=/opt/test/roots.pem\\n' \
         >/etc/systemd/system/leakwatch-agent.service.d/test.conf && systemctl daemon-reload",
    );
    install(machine, &valid);
    configure(
        machine,
        &format!(
            "{config}[http]\ntls_cert = \"/opt/test/tls.crt\"\ntls_key = \"/opt/test/tls.key\"\n[export]\ninterval = \"1s\"\n\
             [export.otlp]\nendpoint = \"https://10.0.2.2:{}\"\nprotocol = \"grpc\"\nbearer_token_file = \"/opt/test/token\"\n",
            collector.address().port()
        ),
    );
    let roots = CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("PEM");
    let figure = |name: &str| -> u64 {
        // By this machine's clock the server's certificate is valid.
        let metrics = sent::ask(machine.agent().address(), &roots, "/metrics", "").expect("it speaks TLS");
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name}: {metrics}"))
    };
    let refuses = |why: &str| {
        let failed = || figure("leakwatch_export_requests_failed_total") > 0;
        assert!(eventually(PATIENCE, failed), "{why}: {}", machine.journal());
        assert_eq!(figure("leakwatch_export_requests_sent_total"), 0, "{why}: {}", machine.journal());
        assert!(machine.journal().contains(why), "{}", machine.journal());
        let said = asked_inside(machine);
        assert!(said.contains(why), "{said}");
    };
    // A server that is reached, though it is no Prometheus.
    let is_believed = || {
        let mut said = String::new();
        let reached = eventually(PATIENCE, || {
            said = asked_inside(machine);
            said.contains("404")
        });
        assert!(reached, "{said}");
    };
    let arrives = || {
        let before = collector.metrics().len();
        assert!(eventually(PATIENCE, || collector.metrics().len() > before + 2), "{}", machine.journal());
    };

    // A machine whose clock is wrong until somebody tells it the time.
    step(machine, -2);
    machine.have("systemctl start leakwatch-agent");
    refuses("not valid yet");
    assert!(collector.metrics().is_empty());
    step(machine, 2);
    arrives();
    is_believed();

    // A connection that stands is not judged anew; one that is made is.
    step(machine, 2);
    arrives();
    machine.have("systemctl restart leakwatch-agent");
    refuses("expired");
    // Renewed, without a restart.
    install(machine, &certificate(machine, &authority));
    machine.have("systemctl reload leakwatch-agent");
    is_believed();
    step(machine, -2);
    arrives();
    machine.have("systemctl stop leakwatch-agent");
    assert_eq!(collector.refused(), 0, "each request had the token");
}
