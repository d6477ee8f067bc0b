use std::{fs, path::Path};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Finds out which program listens on a TCP port: `hub (process 4711)`.
///
/// `None` if no program does, or it belongs to somebody else and the system does not tell.
pub(crate) fn holder_of_port(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listening_inode(table, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.chars().all(|c| c.is_ascii_digit()))
    });
    let mut holders = processes.filter(|process| holds(&process.path(), &socket));
    let process = holders.next()?;
    let name = fs::read_to_string(process.path().join("comm")).ok()?;
    Some(format!("{} (process {})", name.trim(), process.file_name().display()))
}

/// Finds the inode of the socket that listens on `port` in the text of `/proc/net/tcp`.
fn listening_inode(table: &str, port: u16) -> Option<&str> {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        // sl, local address, remote address, state, queues, timer, retransmits, user, timeout, inode
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next()?;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?;
        (local.ends_with(&suffix) && state == LISTEN).then_some(inode)
    })
}

/// Tells whether one of a process' files is this socket.
fn holds(process: &Path, socket: &str) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_this_test() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = holder_of_port(port).unwrap();
        assert!(holder.contains(&format!("(process {})", std::process::id())), "{holder}");
    }

    #[test]
    fn a_connection_is_no_listener() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:2124 0100007F:C001 01 00000000:00000000 00:00000000 00000000  1000        0 7 1\n\
                     1: 0100007F:2124 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 42 1\n";
        assert_eq!(listening_inode(table, 0x2124), Some("42"));
        assert_eq!(listening_inode(table, 0x2125), None);
        assert_eq!(listening_inode("cut\n 1: x", 0x2124), None);
    }
}
