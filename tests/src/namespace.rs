//! Network namespaces as hosts: each has an address of its own, which this one reaches.

use std::ffi::OsStr;
use std::process::{Command, id};

/// A host: a network namespace with one link to this one; gone when dropped.
#[derive(Debug)]
pub struct NetHost {
    name: String,
    address: String,
}

impl NetHost {
    /// Makes one. `number` tells the hosts of a test apart, and is less than 60.
    #[track_caller]
    pub fn new(number: u32) -> Self {
        // Out of the addresses for benchmarks (RFC 2544), four for each link; another test process has others.
        let (third, fourth) = (id() % 250, number * 4);
        let name = format!("lw{}-{number}", id());
        let host = Self { address: format!("198.18.{third}.{}", fourth + 2), name };
        let (name, inner) = (&host.name, format!("{}i", host.name));
        let near = format!("198.18.{third}.{}/30", fourth + 1);
        let far = format!("{}/30", host.address);
        ip(&["netns", "add", name]);
        ip(&["link", "add", name, "type", "veth", "peer", "name", &inner, "netns", name]);
        ip(&["addr", "add", &near, "dev", name]);
        ip(&["link", "set", name, "up"]);
        ip(&["-n", name, "addr", "add", &far, "dev", &inner]);
        ip(&["-n", name, "link", "set", &inner, "up"]);
        host
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A command that runs a program there. Everything but the network is as it is here.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        // `ip netns exec` would hide what is mounted below /sys.
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }
}

impl Drop for NetHost {
    fn drop(&mut self) {
        // The link goes with it. While a test fails there is nothing better to do with an error.
        drop(Command::new("ip").args(["netns", "del", &self.name]).output());
    }
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("the gate has looked");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
