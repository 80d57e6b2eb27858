//! Who a caller is, and whether he may call.
//!
//! On the unix socket the file's permissions decide; the kernel tells the caller's user. On TCP a caller shows a token
//! (`Authorization: Bearer …` or `X-Auth-Token: …`) or a certificate, or comes from a network that needs neither.

mod tokens;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};

pub(crate) use self::tokens::Tokens;
pub use self::tokens::TokensError;
use crate::{
    config::{GatewayConfig, Network},
    problem::Problem,
};

/// The header that OpenStack's clients use.
const AUTH_TOKEN: &str = "x-auth-token";
/// Where the calls of cStor's plugin are.
const CSTOR: &str = "/latest/";
/// Longest token that is looked at, in bytes.
const TOKEN_SIZE_MAX: usize = 4096;

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process of this host, on the unix socket.
    Local {
        /// Its user; the kernel says so.
        uid: Option<u32>,
    },
    /// A host.
    Network {
        /// Its address.
        address: IpAddr,
        /// The names in its certificate, which the authority signed; none without.
        certificate: Vec<String>,
    },
}

impl Peer {
    /// What its requests are counted by while it is not known who calls.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Local { uid: Some(uid) } => format!("uid {uid}"),
            Self::Local { uid: None } => "socket".to_owned(),
            Self::Network { address, .. } => address.to_string(),
        }
    }
}

/// Who calls, as the audit log names him and as his requests are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A user of this host.
    User(Option<u32>),
    /// The name that stands with a token.
    Token(String),
    /// The name in a certificate.
    Certificate(String),
    /// A host that needs to show nothing.
    Host(IpAddr),
}

impl Caller {
    /// Whether he may call what is at a path. cStor's plugin is what can show nothing: of other hosts that show nothing, nothing
    /// else is answered.
    pub(crate) fn may_call(&self, path: &str) -> Result<(), Problem> {
        match self {
            Self::Host(address) if !address.is_loopback() && !path.starts_with(CSTOR) => {
                Err(Problem::new(
                    StatusCode::FORBIDDEN,
                    "a host that shows neither a token nor a certificate may call /latest/ only",
                ))
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(Some(uid)) => write!(f, "uid {uid}"),
            Self::User(None) => f.write_str("a user of this host"),
            Self::Token(name) => write!(f, "token {name}"),
            Self::Certificate(name) => write!(f, "certificate {name}"),
            Self::Host(address) => write!(f, "host {address}"),
        }
    }
}

/// The rules of one gateway.
#[derive(Debug)]
pub(crate) struct Access {
    tokens: Option<Tokens>,
    certificates: Vec<String>,
    networks: Vec<Network>,
}

impl Access {
    /// Reads what the configuration names.
    pub(crate) fn read(config: &GatewayConfig) -> Result<Self, TokensError> {
        let rules = &config.authentication;
        let tokens = rules.tokens_file.clone().map(Tokens::read).transpose()?;
        Ok(Self {
            tokens,
            certificates: rules.allow_certificates.clone(),
            networks: rules.allow_without_authentication.clone(),
        })
    }

    /// Reads again what the configuration names and somebody has changed, where it decides about a request.
    pub(crate) async fn refresh(&self, headers: &HeaderMap) {
        if let Some(tokens) = &self.tokens
            && token(headers).is_some()
        {
            tokens.refresh().await;
        }
    }

    /// Who calls; a problem when he may not.
    pub(crate) fn caller(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
        let caller = self.known(peer, headers)?;
        // What is in front may have looked at another one (RFC 9112, section 3.2).
        if headers.get_all(header::HOST).iter().count() > 1 {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "the request has more than one Host",
            ));
        }
        // A page whose name was led here needs no leave of its browser to read. Its name is all that tells it.
        if matches!(caller, Caller::Host(_)) && headers.get(header::HOST).is_some_and(is_name) {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "who shows neither a token nor a certificate has to call by an address or localhost",
            ));
        }
        // A browser tells whose page calls. Pages of others must not use what this one's user may do.
        match headers.get(header::ORIGIN) {
            Some(origin) if !is_own_page(origin, headers, &caller) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "a page of another site may not call",
            )),
            _ => Ok(caller),
        }
    }

    fn known(&self, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
        let (address, certificate) = match peer {
            Peer::Local { uid } => return Ok(Caller::User(*uid)),
            Peer::Network {
                address,
                certificate,
            } => (*address, certificate),
        };
        let shown = token(headers);
        if let (Some(tokens), Some(shown)) = (&self.tokens, shown)
            && let Some(name) = tokens.name_of(shown)
        {
            return Ok(Caller::Token(name));
        }
        let mut names = certificate.iter();
        if let Some(name) = names.find(|name| self.certificates.contains(name)) {
            return Ok(Caller::Certificate(name.clone()));
        }
        // Clients that know no authentication send made-up tokens: they are no worse than none.
        if self
            .networks
            .iter()
            .any(|network| network.contains(address))
        {
            return Ok(Caller::Host(address));
        }
        Err(match (shown, certificate.first()) {
            (Some(_), _) if self.tokens.is_some() => unauthorized("the token is not known"),
            (_, Some(name)) => Problem::new(
                StatusCode::FORBIDDEN,
                format!(
                    "the certificate of {name} is not among those of `authentication.allowCertificates`"
                ),
            ),
            _ => {
                unauthorized("show a token: `Authorization: Bearer TOKEN` or `X-Auth-Token: TOKEN`")
            }
        })
    }
}

fn unauthorized(message: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, message)
}

/// Whether a page is the gateway's own: its origin is where the request goes. On the unix socket a name is not enough: its owner
/// can let it lead anywhere.
fn is_own_page(origin: &HeaderValue, headers: &HeaderMap, caller: &Caller) -> bool {
    let origin = small(origin);
    let page = origin
        .as_deref()
        .and_then(|origin| origin.split_once("://"));
    let host = headers.get(header::HOST).and_then(small);
    let (Some((_, page)), Some(host)) = (page, host) else {
        return false;
    };
    let has_shown = matches!(caller, Caller::Token(_) | Caller::Certificate(_));
    page == host && (is_address(&host) || has_shown)
}

/// Whether a `Host` is a name, which whoever owns it can let lead anywhere.
fn is_name(host: &HeaderValue) -> bool {
    !small(host).is_some_and(|host| is_address(&host))
}

/// Whether a `Host` in small letters is an address or this host, with or without a port.
fn is_address(host: &str) -> bool {
    let name = host.strip_prefix("localhost").unwrap_or(host);
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    name.is_empty()
        || name.starts_with(':')
        || bare.unwrap_or(host).parse::<IpAddr>().is_ok()
        || host.parse::<SocketAddr>().is_ok()
}

fn small(value: &HeaderValue) -> Option<String> {
    value.to_str().ok().map(str::to_ascii_lowercase)
}

/// The token that a request shows.
fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = bearer.or_else(|| headers.get(AUTH_TOKEN)?.to_str().ok())?;
    (!token.is_empty() && token.len() <= TOKEN_SIZE_MAX).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(dir: &std::path::Path, networks: &str) -> Access {
        let file = dir.join("tokens");
        // SHA-256 of "abc".
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        std::fs::write(&file, format!("# who\nops:{hash}\n")).unwrap();
        let text = format!(
            "{{tokensFile: {}, allowCertificates: [backup.example], allowWithoutAuthentication: [{networks}]}}",
            file.display()
        );
        let config = GatewayConfig {
            authentication: serde_saphyr::from_str(&text).unwrap(),
            ..Default::default()
        };
        Access::read(&config).unwrap()
    }

    fn host(address: &str, certificate: &[&str]) -> Peer {
        Peer::Network {
            address: address.parse().unwrap(),
            certificate: certificate.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn shows(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn who_is_let_in() {
        let dir = tempfile::tempdir().unwrap();
        let access = access(dir.path(), "10.0.0.0/8");
        let (none, far) = (HeaderMap::new(), host("192.0.2.1", &[]));
        let local = Peer::Local { uid: Some(7) };
        assert_eq!(access.caller(&local, &none).unwrap(), Caller::User(Some(7)));
        for headers in [
            shows("authorization", "Bearer abc"),
            shows("authorization", "bearer  abc"),
            shows("x-auth-token", "abc"),
        ] {
            let caller = access.caller(&far, &headers).unwrap();
            assert_eq!(caller, Caller::Token("ops".to_owned()), "{headers:?}");
        }
        let certified = host("192.0.2.1", &["x", "backup.example"]);
        assert_eq!(
            access.caller(&certified, &none).unwrap().to_string(),
            "certificate backup.example"
        );
        let near = host("10.1.2.3", &[]);
        let made_up = shows("x-auth-token", "admin:project");
        assert_eq!(
            access.caller(&near, &made_up).unwrap().to_string(),
            "host 10.1.2.3"
        );
    }

    #[test]
    fn who_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let access = access(dir.path(), "");
        let far = host("192.0.2.1", &[]);
        for headers in [
            HeaderMap::new(),
            shows("authorization", "Bearer abd"),
            shows("authorization", "Bearer "),
            shows("authorization", "Basic abc"),
            shows("authorization", "abc"),
            shows("x-auth-token", ""),
            shows("x-auth-token", "ABC"),
        ] {
            let problem = access.caller(&far, &headers).unwrap_err();
            assert_eq!(problem.status, StatusCode::UNAUTHORIZED, "{headers:?}");
        }
        let other = host("192.0.2.1", &["other.example"]);
        let problem = access.caller(&other, &HeaderMap::new()).unwrap_err();
        assert_eq!(problem.status, StatusCode::FORBIDDEN);
        let home = host("127.0.0.1", &[]);
        assert!(access.caller(&home, &HeaderMap::new()).is_err());
    }

    #[test]
    fn other_hosts_that_show_nothing_call_what_cstor_needs_alone() {
        let dir = tempfile::tempdir().unwrap();
        let access = access(dir.path(), "10.0.0.0/8, 127.0.0.0/8, '::1/128'");
        let (none, shown) = (HeaderMap::new(), shows("x-auth-token", "abc"));
        for (from, headers, path, may) in [
            ("10.1.2.3", &none, "/latest/backups", true),
            ("10.1.2.3", &none, "/v3/p/volumes/x", false),
            ("10.1.2.3", &none, "/v1beta/t/profiles", false),
            ("10.1.2.3", &none, "/latest", false),
            ("10.1.2.3", &none, "/latestx/backups", false),
            ("10.1.2.3", &shown, "/v3/p/volumes/x", true),
            ("127.0.0.1", &none, "/v3/p/volumes/x", true),
            ("::1", &none, "/v3/p/volumes/x", true),
        ] {
            let caller = access.caller(&host(from, &[]), headers).unwrap();
            let outcome = caller.may_call(path);
            assert_eq!(outcome.is_ok(), may, "{from} {path}: {outcome:?}");
            assert!(outcome.is_ok() || outcome.unwrap_err().status == StatusCode::FORBIDDEN);
        }
        let local = Caller::User(None);
        local.may_call("/v3/p/volumes/x").unwrap();
    }

    #[test]
    fn pages_of_others_do_not_use_what_a_user_may_do() {
        let dir = tempfile::tempdir().unwrap();
        let access = access(dir.path(), "127.0.0.0/8");
        let near = host("127.0.0.1", &[]);
        for (host, origin, token, is_let_in) in [
            ("127.0.0.1:80", "http://127.0.0.1:80", "", true),
            ("localhost:80", "http://localhost:80", "", true),
            ("localhost", "http://localhost", "", true),
            ("[::1]:80", "http://[::1]:80", "", true),
            ("127.0.0.1:80", "http://evil.example", "", false),
            ("127.0.0.1:80", "null", "", false),
            ("127.0.0.1:80", "http://127.0.0.1:81", "", false),
            ("evil.example:80", "http://evil.example:80", "", false),
            (
                "localhost.evil.example",
                "http://localhost.evil.example",
                "",
                false,
            ),
            (
                "gateway.example:80",
                "http://gateway.example:80",
                "abc",
                true,
            ),
            ("gateway.example:80", "http://evil.example", "abc", false),
            // Reading its own site, a page names no origin.
            ("evil.example:80", "", "", false),
            ("localhost.evil.example", "", "", false),
            ("127.0.0.1.evil.example", "", "", false),
            ("127.0.0.1:80", "", "", true),
            ("127.0.0.1", "", "", true),
            ("LOCALHOST:80", "", "", true),
            ("[::1]", "", "", true),
            ("gateway.example:80", "", "abc", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", HeaderValue::from_static(host));
            if !origin.is_empty() {
                headers.insert("origin", HeaderValue::from_static(origin));
            }
            if !token.is_empty() {
                headers.insert("x-auth-token", HeaderValue::from_static(token));
            }
            let outcome = access.caller(&near, &headers);
            assert_eq!(outcome.is_ok(), is_let_in, "{host} {origin}: {outcome:?}");
        }
    }

    #[test]
    fn a_request_is_for_one_host() {
        let dir = tempfile::tempdir().unwrap();
        let access = access(dir.path(), "127.0.0.0/8");
        let mut headers = HeaderMap::new();
        headers.append("host", HeaderValue::from_static("127.0.0.1"));
        access.caller(&host("127.0.0.1", &[]), &headers).unwrap();
        headers.append("host", HeaderValue::from_static("evil.example"));
        let refused = access.caller(&host("127.0.0.1", &[]), &headers);
        assert!(refused.is_err(), "{refused:?}");
    }
}
