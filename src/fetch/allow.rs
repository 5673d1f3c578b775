//! What references from strangers may name. Pure.

use std::path::{Component, Path, PathBuf};

use ipnet::IpNet;
use url::{Host, Url};

use super::address::is_public;
use crate::config;
use crate::{Error, Result};

/// How a location is allowed: by a name that the operator wrote down, or only by a `*`. It decides whether its failure is the operator's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// The bucket, root or host itself is named.
    Named,
    /// A wildcard covers it.
    Wildcard,
}

/// The rules of `fetch.allow`.
#[derive(Debug, Clone, Default)]
pub struct Allow {
    s3: Vec<Bucket>,
    all_files: bool,
    roots: Vec<PathBuf>,
    http: Vec<HostRule>,
    nets: Vec<IpNet>,
}

#[derive(Debug, Clone)]
struct Bucket {
    /// `None` is every bucket.
    name: Option<String>,
    prefix: String,
}

#[derive(Debug, Clone)]
struct HostRule {
    /// `*`, `*.example.com`, or a host.
    host: String,
    port: Option<u16>,
}

impl Allow {
    /// Reads the rules; an error names the one that cannot be read.
    pub fn new(config: &config::Allow) -> Result<Self> {
        let mut allow = Self::default();
        for rule in &config.s3 {
            let (name, prefix) = rule.split_once('/').unwrap_or((rule, "*"));
            let Some(prefix) = prefix.strip_suffix('*') else {
                return Err(Error::config(format!("fetch.allow.s3: `{rule}` must end in *: bucket/* or bucket/prefix/*")));
            };
            let name = (name != "*").then(|| name.to_owned());
            if name.as_ref().is_some_and(|n| n.is_empty() || n.contains('*')) || prefix.contains('*') {
                return Err(Error::config(format!("fetch.allow.s3: `{rule}`: a * may stand for a whole bucket name, and at the end")));
            }
            allow.s3.push(Bucket { name, prefix: prefix.to_owned() });
        }
        for rule in &config.file {
            match rule.as_str() {
                "*" => allow.all_files = true,
                path => {
                    let root = std::fs::canonicalize(path).map_err(|e| Error::config(format!("fetch.allow.file: {path}: {e}")))?;
                    allow.roots.push(root);
                }
            }
        }
        for rule in &config.http {
            if let Ok(net) = rule.parse::<IpNet>() {
                allow.nets.push(net);
                continue;
            }
            let bracketed = rule.starts_with('[') || rule.matches(':').count() == 1;
            let (host, port) = match rule.rsplit_once(':').filter(|(_, port)| bracketed && !port.ends_with(']')) {
                Some((host, port)) => {
                    let wrong = |_| Error::config(format!("fetch.allow.http: `{rule}`: `{port}` is not a port"));
                    (host, Some(port.parse().map_err(wrong)?))
                }
                None => (rule.as_str(), None),
            };
            let name = host.strip_prefix("*.").unwrap_or(host);
            if name.is_empty() || name.contains('/') || name != "*" && name.contains('*') {
                return Err(Error::config(format!("fetch.allow.http: `{rule}` is not a host, host:port, *.domain, address range or *")));
            }
            allow.http.push(HostRule { host: host.trim_matches(['[', ']']).to_ascii_lowercase(), port });
        }
        Ok(allow)
    }

    /// Whether an object may be read.
    pub fn s3(&self, bucket: &str, key: &str) -> Option<Grant> {
        let fits = |rule: &&Bucket| rule.name.as_ref().is_none_or(|name| name == bucket) && key.starts_with(&rule.prefix);
        let rules: Vec<&Bucket> = self.s3.iter().filter(fits).collect();
        match rules.iter().any(|rule| rule.name.is_some()) {
            true => Some(Grant::Named),
            false => rules.first().map(|_| Grant::Wildcard),
        }
    }

    /// The root that a file lies beneath, by its path alone (the file itself is opened beneath that root); the file system's root where all are allowed.
    pub fn root(&self, path: &Path) -> Option<PathBuf> {
        if path.components().any(|c| matches!(c, Component::ParentDir)) {
            return None;
        }
        let root = self.roots.iter().find(|root| path.starts_with(root)).cloned();
        root.or_else(|| self.all_files.then(|| PathBuf::from("/")))
    }

    /// Whether a URL's host may be spoken to, before its name is resolved.
    pub fn http(&self, url: &Url) -> Option<Grant> {
        let port = url.port_or_known_default();
        let mut grant = None;
        for rule in self.http.iter().filter(|rule| rule.port.is_none() || rule.port == port) {
            match rule.covers(url.host()?) {
                Some(Grant::Named) => return Some(Grant::Named),
                other => grant = grant.or(other),
            }
        }
        let literal = match url.host()? {
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
            Host::Domain(_) => None,
        };
        if let Some(ip) = literal {
            if self.nets.iter().any(|net| net.contains(&ip)) {
                return Some(Grant::Named);
            }
            return grant.filter(|_| is_public(ip));
        }
        // With an address range alone the name is looked up, and the address decides.
        grant.or_else(|| (!self.nets.is_empty()).then_some(Grant::Wildcard))
    }

    /// Whether a connection to `ip` may be made for `host`, a name that [`Self::http`] let pass.
    pub fn address(&self, host: &str, ip: std::net::IpAddr) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let domain = Host::Domain(host.as_str());
        let grants: Vec<Grant> = self.http.iter().filter_map(|rule| rule.covers(domain.clone())).collect();
        self.nets.iter().any(|net| net.contains(&ip)) || grants.contains(&Grant::Named) || !grants.is_empty() && is_public(ip)
    }
}

impl HostRule {
    fn covers(&self, host: Host<&str>) -> Option<Grant> {
        let name = host.to_string().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        match self.host.strip_prefix('*') {
            Some("") => Some(Grant::Wildcard),
            Some(suffix) => (name.len() > suffix.len() && name.ends_with(suffix)).then_some(Grant::Wildcard),
            None => (name == self.host).then_some(Grant::Named),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(s3: &[&str], http: &[&str]) -> Allow {
        let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        Allow::new(&config::Allow { s3: own(s3), file: vec![], http: own(http) }).unwrap()
    }

    fn http(rules: &[&str], url: &str) -> Option<Grant> {
        allow(&[], rules).http(&Url::parse(url).unwrap())
    }

    #[test]
    fn nothing_is_allowed_unless_named() {
        assert_eq!(allow(&[], &[]).s3("lake", "a"), None);
        assert_eq!(http(&[], "http://example.com/"), None);
        assert_eq!(Allow::default().root(Path::new("/etc/passwd")), None);
    }

    #[test]
    fn buckets_and_prefixes_are_literal() {
        let rules = allow(&["lake/*", "shop/public/*"], &[]);
        assert_eq!(rules.s3("lake", "any/../key"), Some(Grant::Named));
        assert_eq!(rules.s3("shop", "public/a"), Some(Grant::Named));
        assert_eq!(rules.s3("shop", "public"), None);
        assert_eq!(rules.s3("shop", "private/public/a"), None);
        assert_eq!(rules.s3("lakes", "a"), None);
        assert_eq!(allow(&["*"], &[]).s3("any", "a"), Some(Grant::Wildcard));
    }

    #[test]
    fn hosts_are_compared_whole() {
        assert_eq!(http(&["example.com"], "https://EXAMPLE.com./x"), Some(Grant::Named));
        assert_eq!(http(&["example.com"], "https://example.com.evil.net/"), None);
        assert_eq!(http(&["*.example.com"], "https://a.example.com/"), Some(Grant::Wildcard));
        assert_eq!(http(&["*.example.com"], "https://badexample.com/"), None);
        assert_eq!(http(&["example.com:8080"], "http://example.com/"), None);
        assert_eq!(http(&["example.com:8080"], "http://example.com:8080/"), Some(Grant::Named));
    }

    #[test]
    fn a_star_means_public_addresses_only() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/",
        ] {
            assert_eq!(http(&["*"], url), None, "{url}");
        }
        assert_eq!(http(&["*"], "http://93.184.216.34/"), Some(Grant::Wildcard));
        assert_eq!(http(&["10.0.0.0/8"], "http://10.1.2.3/"), Some(Grant::Named));
        assert_eq!(http(&["127.0.0.1:9000"], "http://127.0.0.1:9000/"), Some(Grant::Named));
        let star = allow(&[], &["*"]);
        assert!(!star.address("rebound.example", "127.0.0.1".parse().unwrap()));
        assert!(star.address("rebound.example", "93.184.216.34".parse().unwrap()));
        assert!(allow(&[], &["intern"]).address("intern", "10.0.0.1".parse().unwrap()));
    }
}
