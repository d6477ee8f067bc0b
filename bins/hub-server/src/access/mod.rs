//! Who may call, and from which pages.

mod caller;
mod layer;

pub(crate) use caller::{Caller, KEY_HEADERS};
pub(crate) use layer::{authenticate, guard_browser, is_open};

use std::net::IpAddr;

use hub::config::{LocalAccess, PageOrigin, ServerOptions, host_of, is_loopback_name};

use caller::KeyPolicy;

/// What decides whether a call is let in.
#[derive(Clone, Debug)]
pub struct Access {
    keys: KeyPolicy,
    reach: Reach,
    host: IpAddr,
    origins: Vec<PageOrigin>,
}

/// Who can connect to the address that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Programs on this machine, which includes every page open in a browser here.
    Loopback,
    /// Other machines too.
    Network,
}

impl Access {
    /// Works out who may call a server with these options.
    ///
    /// Where other machines reach the server every caller needs a key, whatever `local` says: behind a proxy on this
    /// machine, all of them look local.
    pub fn new(options: &ServerOptions, local: LocalAccess) -> Self {
        let reach = if options.host.to_canonical().is_loopback() { Reach::Loopback } else { Reach::Network };
        let keys = match (reach, local) {
            (Reach::Loopback, LocalAccess::Allow) => KeyPolicy::Optional,
            (Reach::Loopback, LocalAccess::Require) | (Reach::Network, _) => KeyPolicy::Required,
        };
        Self { keys, reach, host: options.host, origins: options.origins.clone() }
    }

    /// Tells whether other machines can connect.
    pub(crate) fn is_public(&self) -> bool {
        self.reach == Reach::Network
    }

    /// Tells whether every caller needs a key.
    pub(crate) fn wants_keys(&self) -> bool {
        self.keys == KeyPolicy::Required
    }

    /// Tells whether a `Host` header names this server.
    ///
    /// A page of a hostile site can point its own name at the loopback address (DNS rebinding); the name in the header
    /// gives it away. Where other machines reach the server, keys do that work and any name may point at it.
    fn serves_host(&self, header: &str) -> bool {
        let name = host_of(header);
        self.is_public()
            || is_loopback_name(name)
            || name.parse() == Ok(self.host)
            || self.origins.iter().any(|origin| name.eq_ignore_ascii_case(origin.host()))
    }

    /// Tells whether the page at `origin` may call the server that it reached as `host`.
    fn allows_origin(&self, origin: &str, host: Option<&str>) -> bool {
        if self.origins.iter().any(|allowed| allowed.matches(origin)) {
            return true;
        }
        let Ok(origin) = origin.parse::<PageOrigin>() else { return false };
        // A page that this server handed out itself calls it under the name it was reached by.
        origin.is_loopback() || host.is_some_and(|host| origin.authority().eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(host: &str, origins: &[&str]) -> Access {
        let mut options = ServerOptions::default();
        options.host = host.parse().unwrap();
        options.origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
        Access::new(&options, LocalAccess::Allow)
    }

    #[test]
    fn a_rebound_name_is_not_this_server() {
        let local = access("127.0.0.1", &["https://chat.example"]);
        for host in
            ["127.0.0.1:8484", "localhost:8484", "LOCALHOST", "[::1]:8484", "127.8.9.1", "chat.example"]
        {
            assert!(local.serves_host(host), "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example:8484", "localhost.evil.example", "", "[::1", "0x7f.1"]
        {
            assert!(!local.serves_host(host), "{host}");
        }
    }

    #[test]
    fn loopback_pages_and_listed_ones_may_call() {
        let local = access("127.0.0.1", &["https://chat.example"]);
        for origin in
            ["http://localhost:3000", "http://127.0.0.1:1", "http://[::1]:5173", "https://chat.example"]
        {
            assert!(local.allows_origin(origin, Some("127.0.0.1:8484")), "{origin}");
        }
        for origin in
            ["null", "http://chat.example", "https://chat.example:444", "https://evil.example", "file://"]
        {
            assert!(!local.allows_origin(origin, Some("127.0.0.1:8484")), "{origin}");
        }
    }

    #[test]
    fn a_public_server_serves_its_own_pages_and_wants_keys() {
        let public = access("0.0.0.0", &[]);
        assert_eq!(public.keys, KeyPolicy::Required);
        assert!(public.allows_origin("http://box.lan:8484", Some("box.lan:8484")));
        assert!(!public.allows_origin("http://evil.example", Some("box.lan:8484")));
        assert_eq!(access("::1", &[]).keys, KeyPolicy::Optional);
    }
}
