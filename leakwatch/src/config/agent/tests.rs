//! What a configuration may say, and what the errors say.

use std::time::Duration;

use leakwatch_common::RuntimeKind;

use super::{key::Key, *};

/// Every key with its section.
fn keys() -> impl Iterator<Item = (&'static Section, &'static Key)> {
    SECTIONS.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)))
}

fn debug(options: &Options) -> String {
    format!("{options:?}")
}

fn read(text: &str) -> Options {
    agent("f", text).expect(text).options
}

#[test]
fn what_is_printed_is_the_default() {
    let printed = agent_defaults();
    assert_eq!(debug(&read(&printed)), debug(&Options::default()));
    let is_set = |line: &str| {
        keys().any(|(_, key)| {
            matches!(key.default, Default::Is(_)) && line.starts_with(&format!("#{} = ", key.name))
        })
    };
    let uncommented: Vec<&str> =
        printed.lines().map(|line| if is_set(line) { line.trim_start_matches('#') } else { line }).collect();
    let written = uncommented.iter().filter(|line| line.contains(" = ") && !line.starts_with('#')).count();
    assert_eq!(written, keys().filter(|(_, key)| matches!(key.default, Default::Is(_))).count());
    assert_eq!(debug(&read(&uncommented.join("\n"))), debug(&Options::default()));
}

#[test]
fn dumps_and_redaction_exclude_each_other() {
    let dump =
        "[[rule]]\npreset = \"leak\"\n[[action]]\nkind = \"dump\"\ndir = \"/var/lib/leakwatch/dumps\"\n";
    assert!(agent("f", dump).is_ok());
    for key in ["symbols", "stacks"] {
        let error = agent("f", &format!("{dump}[redact]\n{key} = true\n")).expect_err("refused");
        assert!(error.to_string().contains("[redact]"), "{error}");
    }
}

#[test]
fn examples_of_keys_without_a_default_are_right() {
    for (section, key) in keys() {
        if let Default::Unset(example) = key.default {
            let text = match key.name {
                "tls_cert" | "tls_key" => "[http]\ntls_cert = \"/c\"\ntls_key = \"/k\"".to_owned(),
                name => format!("[{}]\n{name} = {example}", section.name),
            };
            assert_ne!(debug(&read(&text)), debug(&Options::default()), "{}", key.name);
        }
    }
    for section in &SECTIONS {
        assert!(!section.keys.is_empty(), "{}", section.name);
    }
}

#[test]
fn examples_of_rules_and_actions_are_right() {
    let printed = agent_defaults();
    let (_, examples) = printed.rsplit_once("For example:").expect("examples");
    let file = agent("f", &examples.replace("\n#", "\n")).expect(examples);
    assert_eq!((file.alarms.rules.len(), file.alarms.actions.len()), (2, 1));
}

#[test]
fn a_whole_one() {
    let text = "
[http]
listen = \"[::1]:9000\"
bearer_token_file = \"/etc/token\"
metrics = \"auth\"
[budget]
host_percent = 3
[discover]
runtimes = [\"thread\"]
include = [{ comm = \"nats.*\", user = \"root\" }, { container = \"\" }]
exclude = [{ exe = \"/usr/bin/ssh\" }]
[sampling]
interval = \"1m 30s\"
";
    let options = read(text);
    assert_eq!(options.http.listen, Some("[::1]:9000".parse().expect("an address")));
    assert_eq!(options.http.metrics, Access::Auth);
    assert!((options.budget.host_percent - 3.0).abs() < 1e-9);
    assert_eq!(options.discover.runtimes, [RuntimeKind::Thread]);
    let [first, second] = &options.discover.filter.include[..] else { panic!("two") };
    assert_eq!(first.uid, Some(0));
    assert!(first.comm.as_ref().is_some_and(|comm| comm.is_match("nats-server") && !comm.is_match("a nats")));
    assert!(second.container.as_ref().is_some_and(|container| container.is_match("")));
    assert_eq!(options.sampling.interval, Duration::from_secs(90));
}

#[track_caller]
fn refused(text: &str, expect: &str) {
    let error = agent("agent.toml", text).expect_err("refused").to_string();
    assert_eq!(error, expect);
}

#[test]
fn errors_name_the_line_and_what_is_allowed() {
    refused("[http]\nlisten = 9464\n", "agent.toml:2: `listen` is a text in quotes, not of the type integer");
    refused(
        "\n[http]\nlisten = \"localhost\"\n",
        "agent.toml:3: `listen` is an address and port such as \"127.0.0.1:9464\", or \"off\", not \"localhost\"",
    );
    refused(
        "[budget]\nhost_percnt = 1\n",
        "agent.toml:2: unknown key of [budget] `host_percnt` (did you mean `host_percent`?); there are host_percent, \
         process_percent, period",
    );
    refused(
        "[budgets]\n",
        "agent.toml:1: unknown section `budgets` (did you mean `budget`?); there are http, budget, discover, sampling, \
         promote, prove, redact, export, rule, action",
    );
    refused(
        "[http]\nlisten = \"off\"\n[[action]]\nname = \"breaker\"\nkind = \"hold\"\n",
        "agent.toml: nobody can ask the action `breaker`: [http] does not answer /api/v1/hold; give it `file` or `listen`",
    );
    refused("budget = 1\n", "agent.toml:1: `budget` is a section: [budget]");
    refused(
        "[budget]\nhost_percent = 0\n",
        "agent.toml:2: `host_percent` is a percentage above 0 and up to 100, not 0",
    );
    refused(
        "[budget]\nhost_percent = nan\n",
        "agent.toml:2: `host_percent` is a number that is not negative, not nan",
    );
    refused(
        "[sampling]\ninterval = \"fast\"\n",
        "agent.toml:2: `interval` is a time such as \"10s\" or \"5m\", at least a tenth of a second, not \"fast\"",
    );
    refused(
        "[prove]\nlargest = \"1GB\"\n",
        "agent.toml:2: `largest` is a size such as \"256MiB\" or \"2GiB\", not \"1GB\"",
    );
    refused(
        "[discover]\nruntimes = [\"java\"]\n",
        "agent.toml:2: `runtimes` is a list of \"go\", \"tokio\" and \"thread\", and there is \"java\" in it",
    );
    refused(
        "[discover]\ninclude = [{ com = \"x\" }]\n",
        "agent.toml:2: `include` is a list of tables; unknown key `com` (did you mean `comm`?); there are comm, exe, \
         cgroup, container, image, pod, namespace, pod_labels, user",
    );
    refused(
        "[discover]\nexclude = [{ user = \"nobody-at-all\" }]\n",
        "agent.toml:2: `exclude` is a list of tables, and there is no user \"nobody-at-all\" on this machine",
    );
    refused(
        "[discover]\ninclude = [{ pod_labels = \"app=web;tier=x\" }]\n",
        "agent.toml:2: `include` is a list of tables; pod_labels is to have values that a label can have, and there is \
         \"web;tier\"",
    );
    refused(
        "[discover]\nreport_labels = [\"team\", \"a b\"]\n",
        "agent.toml:2: `report_labels` is a list of keys of labels such as \"app.kubernetes.io/name\", and there is \"a b\" in it",
    );
    refused(
        "[discover]\nreport_labels = [\"a.b\", \"a-b\"]\n",
        "agent.toml:2: `report_labels` is a list of keys, and a-b and a.b would be one label in metrics: label_a_b",
    );
    refused("[http]\ntls_cert = \"/c\"\n", "agent.toml: [http] tls_cert and tls_key go together: give both");
    refused(
        "[http]\napi = \"auth\"\n",
        "agent.toml: [http] api = \"auth\" lets nobody in: give bearer_token_file or basic_users_file",
    );
    refused("[promote]\nhold = \"1h\"\n", "agent.toml: [promote] longest is shorter than hold");
    refused(
        "[discover]\nmax_processes = 0\n",
        "agent.toml:2: `max_processes` is a whole number from 1 to 16383",
    );
    assert!(agent("f", "[http\n").expect_err("no TOML").to_string().starts_with("f:1: not TOML: "));
    assert!(
        agent("f", "[discover]\ninclude = [{ comm = \"(\" }]")
            .expect_err("no pattern")
            .to_string()
            .contains("comm")
    );
}
