//! What the file descriptors of a process are: sockets by their addresses, other files by their names.
//!
//! Everything is of a moment: a descriptor that was closed meanwhile has no name, and one that was opened anew has the new
//! one. Must never open a file of the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Most bytes of a table of sockets that are read.
const LARGEST: u64 = 256 << 20;

/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: &str = "0A";

/// What these descriptors of a process are, as far as it can be told now.
pub fn names(pid: u32, descriptors: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let link = |descriptor: &u64| {
        let link = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
        Some((*descriptor, link.to_string_lossy().into_owned()))
    };
    let mut names: BTreeMap<u64, String> = descriptors.iter().filter_map(link).collect();
    let inode = |name: &str| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
    let wanted: BTreeSet<u64> = names.values().filter_map(|name| inode(name)).collect();
    if wanted.is_empty() {
        return names;
    }
    let sockets = sockets(pid, &wanted);
    for name in names.values_mut() {
        if let Some(socket) = inode(name).and_then(|inode| sockets.get(&inode)) {
            name.clone_from(socket);
        }
    }
    names
}

/// Sockets of the process's network namespace, by inode.
fn sockets(pid: u32, wanted: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    for table in ["tcp", "tcp6", "udp", "udp6", "unix"] {
        let Ok(file) = File::open(format!("/proc/{pid}/net/{table}")) else { continue };
        let lines = BufReader::new(file.take(LARGEST)).lines();
        for line in lines.map_while(Result::ok) {
            let parsed = if table == "unix" { unix(&line) } else { inet(table, &line) };
            if let Some((inode, name)) = parsed.filter(|(inode, _)| wanted.contains(inode)) {
                found.insert(inode, name);
            }
        }
    }
    found
}

/// A line of `/proc/net/tcp` and its like (`tcp4_seq_show`, `net/ipv4/tcp_ipv4.c`).
fn inet(protocol: &str, line: &str) -> Option<(u64, String)> {
    let mut words = line.split_ascii_whitespace();
    let (local, remote) = (address(words.nth(1)?)?, address(words.next()?)?);
    let state = words.next()?;
    let inode = words.nth(5)?.parse().ok()?;
    let protocol = protocol.trim_end_matches('6');
    let name = if state == LISTEN && protocol == "tcp" {
        format!("{protocol} {local} listening")
    } else if remote.port() == 0 {
        format!("{protocol} {local}")
    } else {
        format!("{protocol} {local} to {remote}")
    };
    Some((inode, name))
}

/// `0100007F:1F90`: words in the machine's order, the port in ours.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(host.get(at * 8..at * 8 + 8)?, 16).ok();
    let host = if host.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes()))
    } else {
        let mut bytes = [0; 16];
        for (at, into) in bytes.chunks_exact_mut(4).enumerate() {
            into.copy_from_slice(&word(at)?.to_ne_bytes());
        }
        IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
    };
    Some(SocketAddr::new(host, port))
}

/// A line of `/proc/net/unix` (`unix_seq_show`, `net/unix/af_unix.c`).
fn unix(line: &str) -> Option<(u64, String)> {
    let mut words = line.split_ascii_whitespace();
    let inode = words.nth(6)?.parse().ok()?;
    let path = words.next();
    Some((inode, path.map_or_else(|| "unix".to_owned(), |path| format!("unix {path}"))))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
    };

    use super::*;

    #[test]
    fn lines_of_the_kernels_tables() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        assert_eq!(inet("tcp", line), Some((4711, "tcp 127.0.0.1:8080 listening".to_owned())));
        let line = "1: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000200007F:0050 01 0:0 0:0 0 0 0 12 1";
        assert_eq!(inet("tcp6", line), Some((12, "tcp 127.0.0.1:8080 to 127.0.0.2:80".to_owned())));
        let line = "0000000000000000: 00000003 00000000 00000000 0001 03 4712 /run/a.sock";
        assert_eq!(unix(line), Some((4712, "unix /run/a.sock".to_owned())));
        for odd in
            ["", "  sl  local_address rem_address st", "1: zz:1 0:0 0A 0 0 0 0 0 1", "1: 0100007F:1F90"]
        {
            assert_eq!(inet("tcp", odd), None, "{odd}");
        }
        for odd in ["", "Num       RefCount Protocol Flags    Type St Inode Path", "0: 1 2 3 4 5"] {
            assert_eq!(unix(odd), None, "{odd}");
        }
    }

    #[test]
    fn our_own_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = listener.local_addr().expect("an address");
        let client = TcpStream::connect(at).expect("somebody listens");
        let number = |fd: i32| u64::try_from(fd).expect("a descriptor");
        let (listening, connected) = (number(listener.as_raw_fd()), number(client.as_raw_fd()));
        let names = names(std::process::id(), &BTreeSet::from([listening, connected, 1 << 40]));
        assert_eq!(names.len(), 2);
        assert_eq!(names[&listening], format!("tcp {at} listening"));
        let from = client.local_addr().expect("an address");
        assert_eq!(names[&connected], format!("tcp {from} to {at}"));
    }
}
