/// Finds the process that listens on `port` in what `netstat -ano` prints.
///
/// The state is a word of the system's language, so that a listener is known by the address of its peer, which is none.
pub(super) fn listener(text: &str, port: u16) -> Option<u32> {
    let suffix = format!(":{port}");
    text.lines().find_map(|line| {
        // protocol, local address, remote address, state, process
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [protocol, local, remote, .., process] = columns.as_slice() else { return None };
        let listens = *protocol == "TCP" && local.ends_with(&suffix) && remote.ends_with(":0");
        listens.then(|| process.parse().ok())?
    })
}

/// Returns the name of the program in what `tasklist /FO CSV /NH` prints of one process.
pub(super) fn program(text: &str) -> Option<&str> {
    // Where no process is found, a sentence without quotes says so.
    text.trim_start().strip_prefix('"')?.split('"').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\r\nAktive Verbindungen\r\n\r\n  Proto  Lokale Adresse  Remoteadresse  Status  PID\r\n\
        \x20 TCP    127.0.0.1:8484    127.0.0.1:50000   HERGESTELLT  1\r\n\
        \x20 TCP    127.0.0.1:18484   0.0.0.0:0         ABHÖREN      2\r\n\
        \x20 TCP    127.0.0.1:8484    0.0.0.0:0         ABHÖREN      4711\r\n\
        \x20 TCP    [::1]:9000        [::]:0            ABHÖREN      12\r\n\
        \x20 UDP    0.0.0.0:5353      *:*                            3\r\n";

    #[test]
    fn a_listener_is_found_by_its_port() {
        assert_eq!(listener(TABLE, 8484), Some(4711));
        assert_eq!(listener(TABLE, 9000), Some(12));
        assert_eq!(listener(TABLE, 5353), None);
        assert_eq!(listener(TABLE, 84), None);
        assert_eq!(listener("TCP :84", 84), None);
    }

    #[test]
    fn a_program_is_named_where_there_is_one() {
        assert_eq!(program("\r\n\"hub.exe\",\"4711\",\"Console\",\"1\",\"9,999 K\"\r\n"), Some("hub.exe"));
        assert_eq!(program("INFO: No tasks are running which match the specified criteria.\r\n"), None);
        assert_eq!(program("\""), None);
    }
}
