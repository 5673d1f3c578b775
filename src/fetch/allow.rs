//! What a reference may name: `fetch.allow`, and what follows from how it was allowed.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use ipnet::IpNet;
use url::{Host, Url};

use super::address::is_public;
use crate::config;
use crate::flow::Location;
use crate::{Error, Result};

/// Where a location's neighbours are: outages and refusals are judged for all of one place together. A bucket, a host, an allowed folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(pub String);

/// How a location came to be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its bucket, host or folder.
    pub place: Place,
    /// Whose successes show that a failure is the item's own fault: the place's where the user named it; those of the whole scheme for a place
    /// that only a wildcard allows, since nobody answers for a stranger's dead host.
    pub yardstick: Place,
    /// True if the user named the place: then it ought to work, and if it does not, that is not the item's fault.
    pub named: bool,
    /// True if the user, and no stranger, named the very location.
    pub trusted: bool,
    /// The allowed folder that a file must lie beneath; `None` = any.
    pub root: Option<PathBuf>,
}

/// Which addresses a host name may turn out to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any: the user named the host.
    Any,
    /// Public ones, and those of the ranges that the user named.
    Public,
    /// Only those of the ranges that the user named.
    Ranges,
}

#[derive(Debug, Clone)]
struct HostPattern {
    host: Host<String>,
    port: Option<u16>,
}

/// `fetch.allow`, read.
#[derive(Debug, Clone, Default)]
pub struct Allow {
    any_s3: bool,
    /// Bucket, key or prefix of the key, and whether it is a prefix.
    s3: Vec<(String, String, bool)>,
    any_file: bool,
    roots: Vec<PathBuf>,
    any_http: bool,
    hosts: Vec<HostPattern>,
    /// With the leading dot, lower-case.
    suffixes: Vec<String>,
    ranges: Vec<IpNet>,
}

impl Allow {
    /// Reads the patterns. Errors: [`Error::Config`] naming the one that cannot be understood.
    pub fn new(config: &config::Allow) -> Result<Self> {
        let mut allow = Self::default();
        for pattern in &config.s3 {
            allow.add_s3(pattern)?;
        }
        for pattern in &config.file {
            if pattern == "*" {
                allow.any_file = true;
                continue;
            }
            let root = std::path::absolute(pattern).map_err(|e| Error::config(format!("fetch.allow.file: \"{pattern}\": {e}")))?;
            // A reference may name the folder as it is written here or as it is called in truth.
            if let Ok(real) = root.canonicalize().map_err(drop).and_then(|r| if r == root { Err(()) } else { Ok(r) }) {
                allow.roots.push(real);
            }
            allow.roots.push(root);
        }
        for pattern in &config.http {
            allow.add_http(pattern)?;
        }
        Ok(allow)
    }

    fn add_s3(&mut self, pattern: &str) -> Result<()> {
        if pattern == "*" {
            self.any_s3 = true;
            return Ok(());
        }
        let wrong = || Error::config(format!("fetch.allow.s3: \"{pattern}\" is not `bucket/*`, `bucket/prefix/*` or `*`"));
        let (bucket, key) = pattern.strip_prefix("s3://").unwrap_or(pattern).split_once('/').ok_or_else(wrong)?;
        if bucket.is_empty() || bucket.contains('*') || key.is_empty() {
            return Err(wrong());
        }
        let (key, prefix) = key.strip_suffix('*').map_or((key, false), |k| (k, true));
        if key.contains('*') {
            return Err(wrong());
        }
        self.s3.push((bucket.into(), key.into(), prefix));
        Ok(())
    }

    fn add_http(&mut self, pattern: &str) -> Result<()> {
        let wrong = || {
            let forms = "a host (`images.example.com`, `*.example.com`), `host:port`, an address range (`10.0.0.0/8`) or `*`";
            Error::config(format!("fetch.allow.http: \"{pattern}\" is not {forms}"))
        };
        if pattern == "*" {
            self.any_http = true;
        } else if let Some(suffix) = pattern.strip_prefix("*.") {
            match Host::parse(suffix) {
                Ok(Host::Domain(domain)) if !domain.contains('*') => self.suffixes.push(format!(".{domain}")),
                _ => return Err(wrong()),
            }
        } else if pattern.contains('*') {
            return Err(wrong());
        } else if pattern.contains('/') {
            self.ranges.push(pattern.parse::<IpNet>().map_err(|_| wrong())?.trunc());
        } else {
            let port = pattern.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
            let (host, port) = match port {
                Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
                None => (pattern, None),
            };
            let host = match host.parse::<IpAddr>() {
                Ok(IpAddr::V6(ip)) => Host::Ipv6(ip),
                _ => Host::parse(host).map_err(|_| wrong())?,
            };
            self.hosts.push(HostPattern { host: without_final_dot(host), port });
        }
        Ok(())
    }

    /// Whether and how `location` is allowed; `trusted` = named by the user himself and not by a topic. `None` = it is not.
    pub fn grant(&self, location: &Location, trusted: bool) -> Option<Grant> {
        let scheme = |s: &str| Place(format!("{s}:*"));
        let grant = |place: Place, scheme: Place, named: bool, root| {
            let yardstick = if named { place.clone() } else { scheme };
            Grant { place, yardstick, named, trusted, root }
        };
        match location {
            Location::S3 { bucket, key } => {
                let named = trusted || self.names_object(bucket, key);
                (named || self.any_s3).then(|| grant(Place(format!("s3://{bucket}")), scheme("s3"), named, None))
            }
            Location::File(path) => {
                if trusted {
                    return Some(grant(Place("file:///".into()), scheme("file"), true, None));
                }
                match self.root(path) {
                    Some(root) => Some(grant(Place(format!("file://{}", root.display())), scheme("file"), true, Some(root.to_owned()))),
                    None => self.any_file.then(|| grant(Place("file:///".into()), scheme("file"), false, None)),
                }
            }
            Location::Http(url) => {
                let reach = self.reach(url);
                // A list of strangers' URLs may be trusted and its hosts still be dead, so trust alone makes no host a named one.
                let named = reach == Some(Reach::Any);
                (trusted || reach.is_some()).then(|| grant(Place(origin(url)), scheme("http"), named, None))
            }
        }
    }

    /// S3 keys are raw text in which `..` means nothing, so a prefix is compared byte for byte. But servers that keep objects as files, and proxies
    /// before them, do resolve it, so such a key counts only where it stays within what is allowed even then.
    fn names_object(&self, bucket: &str, key: &str) -> bool {
        let named = |k: &str, prefix: bool| if prefix { key.starts_with(k) && (k.is_empty() || !has_dots(key)) } else { key == k };
        self.s3.iter().any(|(b, k, prefix)| b == bucket && named(k, *prefix)) && !climbs_out(key)
    }

    /// The narrowest allowed folder that `path` lies beneath, by its name alone.
    fn root(&self, path: &Path) -> Option<&Path> {
        let plain = path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        let beneath = |root: &&PathBuf| path != root.as_path() && path.starts_with(root);
        self.roots.iter().filter(|_| plain).filter(beneath).max_by_key(|r| r.as_os_str().len()).map(PathBuf::as_path)
    }

    /// Whether `url`'s host is allowed, and then which addresses it may have. An address in the URL itself is decided here for good.
    pub fn reach(&self, url: &Url) -> Option<Reach> {
        let host = without_final_dot(url.host()?.to_owned());
        let port = url.port_or_known_default();
        if self.hosts.iter().any(|h| h.host == host && (h.port.is_none() || h.port == port)) {
            return Some(Reach::Any);
        }
        let ip = match &host {
            Host::Domain(name) => {
                if self.any_http || self.suffixes.iter().any(|s| name.ends_with(s.as_str())) {
                    return Some(Reach::Public);
                }
                return (!self.ranges.is_empty()).then_some(Reach::Ranges);
            }
            Host::Ipv4(ip) => IpAddr::V4(*ip),
            Host::Ipv6(ip) => IpAddr::V6(*ip),
        };
        let reach = if self.any_http { Reach::Public } else { Reach::Ranges };
        self.permits(reach, ip).then_some(reach)
    }

    /// Whether a connection to `ip` is within `reach`.
    pub fn permits(&self, reach: Reach, ip: IpAddr) -> bool {
        let in_range = || self.ranges.iter().any(|r| r.contains(&ip.to_canonical()));
        match reach {
            Reach::Any => true,
            Reach::Public => is_public(ip) || in_range(),
            Reach::Ranges => in_range(),
        }
    }
}

fn has_dots(key: &str) -> bool {
    key.split('/').any(|part| matches!(part, "." | ".."))
}

/// Whether a key, read as a path, leaves its bucket.
fn climbs_out(key: &str) -> bool {
    let mut depth = 0i64;
    key.split('/').any(|part| {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    })
}

fn without_final_dot(host: Host<String>) -> Host<String> {
    match host {
        Host::Domain(name) => Host::Domain(name.strip_suffix('.').map(str::to_owned).unwrap_or(name)),
        other => other,
    }
}

/// Scheme, host and port, and nothing secret.
pub fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allow(s3: &[&str], file: &[&str], http: &[&str]) -> Allow {
        let list = |l: &[&str]| l.iter().map(|s| s.to_string()).collect();
        Allow::new(&config::Allow { s3: list(s3), file: list(file), http: list(http) }).unwrap()
    }

    fn s3(bucket: &str, key: &str) -> Location {
        Location::S3 { bucket: bucket.into(), key: key.into() }
    }

    fn reach(allow: &Allow, url: &str) -> Option<Reach> {
        allow.reach(&Url::parse(url).unwrap())
    }

    #[test]
    fn an_empty_list_allows_nothing_and_a_trusted_reference_needs_none() {
        let none = allow(&[], &[], &[]);
        for location in [s3("lake", "a"), Location::File("/etc/passwd".into()), Location::Http(Url::parse("http://example.com/a").unwrap())]
        {
            assert_eq!(none.grant(&location, false), None);
            assert!(none.grant(&location, true).is_some());
        }
        assert!(none.grant(&s3("lake", "a"), true).unwrap().named);
        let url = Location::Http(Url::parse("http://example.com/a").unwrap());
        assert!(!none.grant(&url, true).unwrap().named, "a trusted list may hold dead hosts");
    }

    #[test]
    fn buckets_and_prefixes() {
        let a = allow(&["lake/*", "other/public/*", "one/exact.jpg"], &[], &[]);
        let named = |b: &str, k: &str| a.grant(&s3(b, k), false).map(|g| g.named);
        assert_eq!(named("lake", "any/../thing//at all"), Some(true));
        assert_eq!(named("other", "public/a.jpg"), Some(true));
        assert_eq!(named("other", "public/..a/b...jpg"), Some(true));
        assert_eq!(named("other", "public/../private/a.jpg"), None, "servers over a file system resolve it");
        assert_eq!(named("lake", "a/../../other/private"), None);
        assert_eq!(named("other", "publicity/a.jpg"), None);
        assert_eq!(named("other", "private/a.jpg"), None);
        assert_eq!(named("one", "exact.jpg"), Some(true));
        assert_eq!(named("one", "exact.jpg.bak"), None);
        assert_eq!(named("Lake", "a"), None);
        let g = allow(&["*"], &[], &[]).grant(&s3("b", "k"), false).unwrap();
        assert_eq!((g.named, g.yardstick.0.as_str(), g.place.0.as_str()), (false, "s3:*", "s3://b"));
        for wrong in ["lake", "lake/", "l*ke/*", "lake/*/x", "/x", "lake/a*b*", ""] {
            assert!(Allow::new(&config::Allow { s3: vec![wrong.into()], ..Default::default() }).is_err(), "{wrong}");
        }
    }

    #[test]
    fn folders_are_compared_by_component() {
        let a = allow(&[], &["/data/photos", "/data/photos/deep/"], &[]);
        let root = |p: &str| a.grant(&Location::File(p.into()), false).and_then(|g| g.root);
        assert_eq!(root("/data/photos/a.jpg"), Some("/data/photos".into()));
        assert_eq!(root("/data/photos/deep/a.jpg"), Some("/data/photos/deep".into()));
        for no in
            ["/data/photos", "/data/photos2/a.jpg", "/data/photos/../a.jpg", "/data/photos/deep/../../../a", "data/photos/a", "/etc/passwd"]
        {
            assert_eq!(root(no), None, "{no}");
        }
    }

    #[test]
    fn hosts_ports_suffixes_and_ranges() {
        let a = allow(
            &[],
            &[],
            &["images.example.com", "Internal:8080", "*.cdn.example", "10.0.0.0/8", "[::1]:9000", "127.0.0.1:7070", "bücher.example"],
        );
        assert_eq!(reach(&a, "https://IMAGES.example.com/a"), Some(Reach::Any));
        assert_eq!(reach(&a, "https://images.example.com./a"), Some(Reach::Any));
        assert_eq!(reach(&a, "http://internal:8080/"), Some(Reach::Any));
        assert_eq!(reach(&a, "http://x.y.cdn.example/"), Some(Reach::Public));
        assert_eq!(reach(&a, "http://[::1]:9000/"), Some(Reach::Any));
        assert_eq!(reach(&a, "http://127.0.0.1:7070/"), Some(Reach::Any));
        assert_eq!(reach(&a, "http://xn--bcher-kva.example/"), Some(Reach::Any));
        assert_eq!(reach(&a, "http://10.1.2.3/"), Some(Reach::Ranges));
        // An unknown name may still turn out to lie in a named range, and nowhere else.
        for other in ["http://internal:80/", "http://cdn.example/", "http://evilcdn.example/", "http://example.com/"] {
            assert_eq!(reach(&a, other), Some(Reach::Ranges), "{other}");
        }
        for no in ["http://127.0.0.1/", "http://[::1]/", "http://11.0.0.1/", "http://8.8.8.8/"] {
            assert_eq!(reach(&a, no), None, "{no}");
        }
        for wrong in ["", "a b", "http://x/", "x:y", "10.0.0.0/33", "*.*"] {
            assert!(Allow::new(&config::Allow { http: vec![wrong.into()], ..Default::default() }).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_star_means_public_addresses_however_they_are_written() {
        let a = allow(&[], &[], &["*"]);
        assert_eq!(reach(&a, "http://example.com/"), Some(Reach::Public));
        assert_eq!(reach(&a, "http://8.8.8.8/"), Some(Reach::Public));
        for no in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "http://0/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://169.254.169.254/latest/meta-data",
            "http://①②⑦.0.0.1/",
        ] {
            assert_eq!(reach(&a, no), None, "{no}");
        }
        assert!(!a.permits(Reach::Public, "10.0.0.1".parse().unwrap()));
        let b = allow(&[], &[], &["10.0.0.0/8"]);
        assert!(b.permits(Reach::Ranges, "::ffff:10.0.0.1".parse().unwrap()));
        assert!(!b.permits(Reach::Ranges, "8.8.8.8".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_prefix_pattern_matches_exactly_the_keys_that_begin_so(prefix in "[a-z/.é +]{0,6}", key in "[a-z/.é +]{0,10}") {
            let a = allow(&[&format!("b/{prefix}*")], &[], &[]);
            let full = format!("{prefix}{key}");
            for key in [&key, &full] {
                // The one exception: a key that means something else as a path, judged here by resolving it.
                let resolved = std::path::Path::new(key).components().any(|c| c == Component::ParentDir);
                let dots = resolved || key.split('/').any(|part| part == ".");
                let expected = key.as_bytes().starts_with(prefix.as_bytes());
                let got = a.grant(&s3("b", key), false).is_some();
                if dots { prop_assert!(expected || !got); prop_assert!(prefix.is_empty() || !got); } else { prop_assert_eq!(got, expected); }
            }
            prop_assert!(a.grant(&s3("c", &full), false).is_none());
        }

        #[test]
        fn no_pattern_or_path_panics(pattern in ".{0,20}", path in "(/|\\.\\.|[a-z.])*") {
            let all = config::Allow { s3: vec![pattern.clone()], file: vec!["/data".into()], http: vec![pattern] };
            let _ = Allow::new(&all);
            let a = allow(&[], &["/data"], &[]);
            if let Some(grant) = a.grant(&Location::File(path.clone().into()), false) {
                prop_assert!(path.starts_with("/data/") || path.starts_with("//"), "{}", path);
                prop_assert!(!path.split('/').any(|c| c == ".."));
                prop_assert_eq!(grant.root, Some("/data".into()));
            }
        }
    }
}
