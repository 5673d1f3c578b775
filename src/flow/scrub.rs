//! Secrets in text that could not be read: an input that is no URL cannot be taken apart as one, and may still hold a password or a signature.

use percent_encoding::percent_decode_str;

const STARS: &str = "***";

/// Query parameters that carry a right to read.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("x-amz-")
        || name.starts_with("x-goog-")
        || matches!(
            name.as_str(),
            "sig"
                | "signature"
                | "token"
                | "access_token"
                | "awsaccesskeyid"
                | "googleaccessid"
                | "key"
                | "api_key"
                | "apikey"
                | "password"
        )
}

/// `text` with stars for the user information of whatever looks like a URL, and for the values of parameters that look like signatures. Rather takes
/// away too much than too little. Works on JSON as well, where `/` and `&` may be escaped.
pub fn scrubbed(text: &str) -> String {
    without_signatures(&without_users(text))
}

fn without_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // `://`, and `:\/\/` as some writers of JSON have it.
    while let Some(at) = rest.find("://").into_iter().chain(rest.find(":\\/\\/")).min() {
        let begin = at + if rest[at..].starts_with("://") { 3 } else { 5 };
        out.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let token = &rest[..rest.find(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '<' | '>')).unwrap_or(rest.len())];
        let authority = &token[..token.find(['/', '?', '#', '\\']).unwrap_or(token.len())];
        let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
        // What is neither a port nor part of an address is a password, of which any character may have been left unescaped.
        let password = !port.bytes().all(|b| b.is_ascii_digit()) && !authority.ends_with(']');
        let hidden = match (authority.rfind('@'), token.rfind('@')) {
            (_, Some(last)) if password => last,
            (Some(last), _) => last,
            _ if password => authority.len(),
            _ => continue,
        };
        out.push_str(STARS);
        rest = &rest[hidden..];
    }
    out + rest
}

fn without_signatures(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let named = &rest[..at];
        let within = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '%' | '.');
        let begin = named.trim_end_matches(within).len();
        let name = percent_decode_str(&named[begin..]).decode_utf8_lossy();
        // Behind an `&` that is written `\u0026`.
        let secret = is_secret(&name) || name.get(5..).is_some_and(|short| name.starts_with("u0026") && is_secret(short));
        out.push_str(&rest[..=at]);
        rest = &rest[at + 1..];
        if secret {
            out.push_str(STARS);
            rest = &rest[rest.find(|c: char| c.is_whitespace() || matches!(c, '&' | '#' | '"' | '\\' | '<' | '>')).unwrap_or(rest.len())..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_and_signatures_become_stars_and_the_rest_stays() {
        for (text, expected) in [
            ("s3://user:pass@b/k", "s3://***@b/k"),
            ("see https://token@host/a@2x.jpg and s3://lake/a@2x.jpg", "see https://***@host/a@2x.jpg and s3://lake/a@2x.jpg"),
            ("https://user:p/a@s?s@host/a", "https://***@host/a"),
            ("https://user:cut-off", "https://***"),
            ("http://[::1]:80/a http://h:80/b", "http://[::1]:80/a http://h:80/b"),
            (r#"{"uri":"https:\/\/u:p@h\/a?sig=x\u0026Token=y&w=2"}"#, r#"{"uri":"https:\/\/***@h\/a?sig=***\u0026Token=***&w=2"}"#),
            ("https://h/a?X-Amz-Signature=ab12&w=5&X-Amz%2dCredential=c#f", "https://h/a?X-Amz-Signature=***&w=5&X-Amz%2dCredential=***#f"),
            ("nothing = to hide: a=b", "nothing = to hide: a=b"),
            // A character of several bytes before the name.
            ("http://h/?\u{830ce}sig=hunter2&é=1", "http://h/?\u{830ce}sig=***&é=1"),
        ] {
            assert_eq!(scrubbed(text), expected);
        }
    }

    proptest! {
        #[test]
        fn no_secret_gets_through(before in "[a-z \"{,]{0,8}", user in "[a-z]{1,4}", name in "(sig|token|X-Amz-Signature|x-goog-signature)", after in "[^@]{0,10}") {
            let text = format!("{before}https://{user}:hunter2@host/a?w=1&{name}=hunter2&x={after}");
            let shown = scrubbed(&text);
            prop_assert!(!shown.contains("hunter2") && shown.contains("@host/a?w=1"), "{}", shown);
        }

        #[test]
        fn no_text_panics(text in "([:/@?&=#\\\\\"]|://|sig=|u0026|é|[a-z0-9]){0,40}") {
            let shown = scrubbed(&text);
            prop_assert!(shown == text || text.contains('=') || text.contains("://") || text.contains(":\\/\\/"), "{}", shown);
        }
    }
}
