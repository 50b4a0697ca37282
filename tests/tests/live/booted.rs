//! The package on a host that boots: Debian's kernel, which is older than this machine's, systemd as process 1, and the unit with all
//! that it closes.
//!
//! Everything is one test, since a machine that is emulated takes its time: each part goes on where the one before it ended.

mod certificates;
mod clock;
mod kernels;

use std::fs;

use leakwatch_tests::machine::Linux;
use leakwatch_tests::receivers::Collector;
use leakwatch_tests::rights::of_the_unit;
use leakwatch_tests::{Machine, Server, Target, gate, machine, matrix, need};

use crate::folder::Folder;

/// Of the target alone, once a second; probes as soon as something grows.
const PROMPT: &str = "[sampling]\ninterval = \"1s\"\ncpu_percent = 50\n[promote]\ngrowth_per_min = 30\nhold = \"1m\"\n\
                      [discover]\ninclude = [{ comm = \"target\" }]\nrescan = \"1s\"\n\
                      [budget]\nprocess_percent = 100\nhost_percent = 100\n";

/// How the service stands, and how often it was started again.
const STATE: [&str; 4] = ["ActiveState", "Result", "ExecMainStatus", "NRestarts"];

/// A sum of the target's code, as it is in its memory.
const CODE: &str = "pid=$(pidof target) && grep --max-count 1 ' r-xp .*/target$' /proc/$pid/maps | { IFS='- ' read -r from to _; \
                    dd status=none iflag=skip_bytes,count_bytes skip=$((16#$from)) count=$((16#$to - 16#$from)) bs=1M \
                    if=/proc/$pid/mem | sha256sum; }";

/// What systemd says of the service.
#[track_caller]
fn of_the_service<const COUNT: usize>(machine: &Machine, properties: [&str; COUNT]) -> [String; COUNT] {
    properties.map(|name| machine.have(&format!("systemctl show --property {name} --value leakwatch-agent")))
}

#[test]
fn the_package_on_a_host_that_boots() {
    let newest = matrix::any_go_target().path;
    need!(gate::root(), gate::file(&newest), machine::gate(), machine::package().map(drop));
    let folder = Folder::new("booted");
    let package = machine::package().expect("the gate has looked");
    fs::copy(package, folder.below("root/opt/test").join("leakwatch.deb")).expect("copied");
    let machine = Machine::boot(Linux::Own, folder.path(), &[("target", &newest)]);
    machine.have("systemctl start target");
    let mut target = Target::start_command(&mut machine.target("target"));

    installed(&machine);
    ready(&machine);
    confined(&machine);
    let code = machine.have(CODE);
    counted(&machine, &mut target);
    assert_ne!(machine.have(CODE), code, "there are probes in it");
    stopped(&machine, &mut target);
    assert_eq!(machine.have(CODE), code, "nothing is left in it");
    let collector = Collector::start(clock::TOKEN);
    without_tracefs(&machine, &mut target, &clock::config(&collector));
    clock::stepped(&machine, &mut target, &collector);
    killed_when_it_hangs(&machine, &mut target);
    upgraded(&machine, &mut target);
    purged(&machine);
    target.check();
}

/// Nothing is started by the package itself.
#[track_caller]
fn installed(machine: &Machine) {
    machine.have("dpkg --install /opt/test/leakwatch.deb");
    assert_eq!(machine.run("systemctl is-enabled leakwatch-agent").1, "disabled");
    assert_eq!(machine.run("systemctl is-active leakwatch-agent").1, "inactive");
    machine.have("leakwatch doctor && leakwatch agent --check-config");
}

/// systemd waits for the agent's word that it is ready, and from then on for its signs of life.
#[track_caller]
fn ready(machine: &Machine) {
    machine.have("systemctl enable --now leakwatch-agent");
    assert_eq!(of_the_service(machine, STATE), ["active", "success", "0", "0"]);
    let host = machine.agent();
    assert_eq!(host.get("/readyz", &[]).status, 200, "systemd says that it is ready");
    let unit = of_the_service(machine, ["Type", "NotifyAccess", "WatchdogUSec"]);
    assert_eq!(unit, ["notify", "main", "1min"]);
    let about = host.about();
    for feature in about["features"].as_array().expect("features") {
        assert!(feature["on"] == true, "{feature:#}");
    }
    machine.have("journalctl --unit leakwatch-agent | grep 'answers on http://127.0.0.1:9464/'");
}

/// What the unit closes is closed for the process that runs.
#[track_caller]
fn confined(machine: &Machine) {
    let [pid] = of_the_service(machine, ["MainPID"]);
    let status = machine.have(&format!("cat /proc/{pid}/status"));
    let line = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key}: {status}")).trim().to_owned()
    };
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        let bits = u64::from_str_radix(&line(set), 16).expect("a set");
        assert_eq!(bits.count_ones() as usize, of_the_unit().len(), "{status}");
    }
    assert_eq!((&*line("CapAmb:"), &*line("NoNewPrivs:")), ("0000000000000000", "1"));
    // systemd's filters, and the agent's own one.
    assert!(line("Seccomp_filters:").parse::<u32>().expect("a number") > 1, "{status}");
    let sees = |script: &str| machine.run(&format!("nsenter --mount --target {pid} sh -c '{script}'"));
    machine.have("touch /tmp/others /home/others");
    assert_ne!(sees("ls /tmp/others || ls /home/others").0, 0, "others' files are seen");
    assert_ne!(sees("touch /usr/x || touch /etc/x || touch /sys/kernel/x").0, 0, "it may write");
    assert_eq!(sees("touch /var/lib/leakwatch/x && rm /var/lib/leakwatch/x").0, 0);
    machine.have("systemd-analyze security --threshold=29 leakwatch-agent");
}

/// Everything is counted exactly, by memory and by probes, and goes on when the configuration is read again.
#[track_caller]
fn counted(machine: &Machine, target: &mut Target) {
    configure(machine, PROMPT);
    let [main] = of_the_service(machine, ["MainPID"]);
    machine.have("systemctl reload leakwatch-agent");
    let (host, pid) = (machine.agent(), target.ready().pid);
    host.counts_exactly(pid, target, 2_000);
    let known = host.report(pid).expect("watched").process(pid).tasks();
    configure(machine, &format!("{PROMPT}[[rule]]\nname = \"many\"\nwhen = \"tasks.live > 2\"\n"));
    machine.have("systemctl reload leakwatch-agent");
    host.wait_until("an alert", |host| host.get("/api/v1/alerts", &[]).body.contains("\"firing\""));
    assert_eq!(host.report(pid).expect("watched").process(pid).tasks(), known);
    assert_eq!(host.process(pid).expect("watched")["tier"], "probes");
    assert_eq!(of_the_service(machine, ["MainPID"]), [main]);
}

/// Puts another configuration in its place.
#[track_caller]
fn configure(machine: &Machine, config: &str) {
    machine.have(&format!("cat >/etc/leakwatch/agent.toml <<'end'\n{config}end"));
}

/// It ends when it is told to; of what it placed nothing is left, and the programs never noticed.
#[track_caller]
fn stopped(machine: &Machine, target: &mut Target) {
    machine.have("systemctl stop leakwatch-agent");
    assert_eq!(of_the_service(machine, STATE), ["inactive", "success", "0", "0"]);
    machine.have("test -z \"$(ls -A /sys/fs/bpf; cat /sys/kernel/tracing/uprobe_events /sys/kernel/tracing/kprobe_events)\"");
    target.check();
}

/// Where tracefs is not mounted, systemd mounts it before it starts the agent; where that is not to be had, the agent does without.
#[track_caller]
fn without_tracefs(machine: &Machine, target: &mut Target, more: &str) {
    let unmounted =
        "systemctl stop sys-kernel-tracing.mount sys-kernel-debug.mount && ! ls /sys/kernel/tracing/events";
    let host = machine.agent();
    let probes = |host: &Server| {
        let about = host.about();
        let features = about["features"].as_array().expect("features");
        features.iter().find(|feature| feature["name"] == "probes").expect("told")["on"] == true
    };
    configure(machine, PROMPT);
    machine.have(&format!("{unmounted} && systemctl mask --runtime sys-kernel-tracing.mount"));
    machine.have("systemctl start leakwatch-agent");
    assert!(!probes(host), "there is nobody to tell where tracepoints keep their fields");
    host.wait_live(target.ready().pid, target.check().num_goroutine);
    machine.have("systemctl unmask --runtime sys-kernel-tracing.mount && systemctl stop leakwatch-agent");

    // How long it may be silent, for what comes later.
    machine.have(
        "mkdir /etc/systemd/system/leakwatch-agent.service.d && \
         printf '[Service]\\nWatchdogSec=15\\n' >/etc/systemd/system/leakwatch-agent.service.d/test.conf && \
         systemctl daemon-reload",
    );
    configure(machine, &format!("{PROMPT}{more}"));
    machine.have(&format!("umask 077 && echo {} >/opt/test/token", clock::TOKEN));
    machine.have(&format!("{unmounted}; systemctl start leakwatch-agent"));
    assert!(probes(host), "{:#}", host.about());
}

/// An agent that gives no sign of life is ended and started again.
#[track_caller]
fn killed_when_it_hangs(machine: &Machine, target: &mut Target) {
    machine.have("systemctl kill --signal STOP leakwatch-agent");
    machine.wait_until("journalctl --unit leakwatch-agent | grep 'Watchdog timeout'");
    machine.wait_until("test $(systemctl show --property NRestarts --value leakwatch-agent) = 1");
    machine.wait_until("systemctl is-active leakwatch-agent");
    machine.agent().wait_live(target.ready().pid, target.check().num_goroutine);
}

/// A package over the one that is there: the agent is started again, and the configuration is kept.
#[track_caller]
fn upgraded(machine: &Machine, target: &mut Target) {
    let main = of_the_service(machine, ["MainPID"]);
    machine.have("dpkg --install /opt/test/leakwatch.deb && grep growth_per_min /etc/leakwatch/agent.toml");
    assert_eq!(of_the_service(machine, ["ActiveState"]), ["active"]);
    assert_ne!(of_the_service(machine, ["MainPID"]), main);
    machine.agent().wait_live(target.ready().pid, target.check().num_goroutine);
}

/// Nothing is left of the package.
#[track_caller]
fn purged(machine: &Machine) {
    machine.have("rm -r /etc/systemd/system/leakwatch-agent.service.d && dpkg --purge leakwatch");
    assert_eq!(machine.run("pidof leakwatch").0, 1, "it runs on");
    let left = machine.have("find / -xdev -iname '*leakwatch*' -not -path '/opt/test/*' -not -path '/tmp/*'");
    assert_eq!(left, "");
}
