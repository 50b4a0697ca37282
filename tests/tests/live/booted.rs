//! The package on a host that boots: Debian's kernel, which is older than this machine's, systemd as process 1, and the unit with all
//! that it closes.
//!
//! Everything is one test, since a machine that is emulated takes its time to boot; each part leaves the service as it found it.

use std::fs;

use leakwatch_tests::rights::of_the_unit;
use leakwatch_tests::{Machine, Target, gate, machine, matrix, need};

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
    let machine = Machine::boot(folder.path(), &newest);
    machine.have("systemctl start target");
    let mut target = Target::start_command(&mut machine.target());

    installed(&machine);
    ready(&machine);
    confined(&machine);
    let code = machine.have(CODE);
    counted(&machine, &mut target);
    assert_ne!(machine.have(CODE), code, "there are probes in it");
    stopped(&machine, &mut target);
    assert_eq!(machine.have(CODE), code, "nothing is left in it");
    purged(&machine);
    drop(target);
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

/// Everything is counted exactly, by memory and by probes.
#[track_caller]
fn counted(machine: &Machine, target: &mut Target) {
    configure(machine, PROMPT);
    let pid = target.ready().pid;
    machine.agent().counts_exactly(pid, target, 2_000);
}

/// Another configuration, which the service reads when it is told to; it goes on as it was.
#[track_caller]
fn configure(machine: &Machine, config: &str) {
    let pid = of_the_service(machine, ["MainPID"]);
    machine.have(&format!(
        "cat >/etc/leakwatch/agent.toml <<'end'\n{config}end\nsystemctl reload leakwatch-agent"
    ));
    assert_eq!(of_the_service(machine, ["MainPID"]), pid);
}

/// It ends when it is told to; of what it placed nothing is left, and the programs never noticed.
#[track_caller]
fn stopped(machine: &Machine, target: &mut Target) {
    machine.have("systemctl stop leakwatch-agent");
    assert_eq!(of_the_service(machine, STATE), ["inactive", "success", "0", "0"]);
    machine.have("test -z \"$(ls -A /sys/fs/bpf; cat /sys/kernel/tracing/uprobe_events /sys/kernel/tracing/kprobe_events)\"");
    target.check();
}

/// Nothing is left of the package.
#[track_caller]
fn purged(machine: &Machine) {
    machine.have("systemctl start leakwatch-agent && dpkg --purge leakwatch");
    assert_eq!(machine.run("pidof leakwatch").0, 1, "it runs on");
    let left = machine.have("find / -xdev -iname '*leakwatch*' -not -path '/opt/test/*' -not -path '/tmp/*'");
    assert_eq!(left, "");
}
