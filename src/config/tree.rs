//! YAML as a tree that remembers where everything stood, with `${NAME}` replaced inside scalars after parsing, so that text from outside never
//! changes the structure.

use saphyr::{MarkedYaml, ScalarStyle, YamlData, YamlLoader};
use saphyr_parser::Parser;

use super::diagnose::{Diagnostics, Place};

/// Deepest nesting that is read; ours needs six.
const MAX_DEPTH: usize = 32;

/// A node and where it begins.
#[derive(Debug, Clone)]
pub struct Node {
    /// Line and column, from 1.
    pub place: Place,
    /// The contents.
    pub value: Value,
}

/// The contents of a node.
#[derive(Debug, Clone)]
pub enum Value {
    /// A scalar as text.
    Scalar {
        /// The text, variables replaced.
        text: String,
        /// Written without quotes: may be a number, a truth value or null.
        plain: bool,
        /// Partly or wholly from the environment.
        secret: bool,
    },
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the file.
    Mapping(Vec<(String, Place, Node)>),
}

impl Node {
    /// Whether it is YAML's null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true, .. } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    /// The place of the node at `path` (`sinks[0].kafka.labels`), or of the deepest node on the way that exists.
    pub fn locate(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = self.place;
        for step in path.split(['.', '[']).filter(|step| !step.is_empty()) {
            let next = match &node.value {
                Value::Mapping(entries) => entries.iter().find(|(key, ..)| key == step).map(|(_, place, node)| (*place, node)),
                Value::Sequence(list) => {
                    step.trim_end_matches(']').parse().ok().and_then(|n: usize| list.get(n)).map(|node| (node.place, node))
                }
                Value::Scalar { .. } => None,
            };
            match next {
                Some((at, child)) => (place, node) = (at, child),
                None => break,
            }
        }
        place
    }
}

/// Reads a text with one YAML document.
pub fn parse(text: &str, file: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Node, Diagnostics> {
    let mut problems = Diagnostics::new(file);
    let mut loader = YamlLoader::<MarkedYaml>::default();
    loader.early_parse(false);
    let mut parser = Parser::new_from_str(text);
    let loaded = parser.load(&mut loader, true);
    if let Some(error) = loaded.as_ref().err().or(loader.error()) {
        let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
        problems.add(place, "", format!("not YAML: {}", error.info()));
        return Err(problems);
    }
    let documents = loader.into_documents();
    let [document] = &documents[..] else {
        problems.add(Place::default(), "", format!("{} YAML documents, one is wanted", documents.len()));
        return Err(problems);
    };
    let node = convert(document, &mut problems, env, 0);
    if problems.is_empty() { Ok(node) } else { Err(problems) }
}

fn convert(yaml: &MarkedYaml, problems: &mut Diagnostics, env: &dyn Fn(&str) -> Option<String>, depth: usize) -> Node {
    let place = Place { line: yaml.span.start.line(), column: yaml.span.start.col() + 1 };
    let mut wrong = |message: String| {
        problems.add(place, "", message);
        Value::Scalar { text: String::new(), plain: true, secret: false }
    };
    let value = match &yaml.data {
        _ if depth > MAX_DEPTH => wrong(format!("nested more than {MAX_DEPTH} deep")),
        YamlData::Representation(text, style, _) => match substitute(text, env) {
            Ok((text, secret)) => Value::Scalar { text, plain: *style == ScalarStyle::Plain, secret },
            Err(message) => wrong(message),
        },
        YamlData::Sequence(list) => Value::Sequence(list.iter().map(|n| convert(n, problems, env, depth + 1)).collect()),
        YamlData::Mapping(map) => {
            let mut entries = Vec::new();
            for (key, node) in map {
                let at = Place { line: key.span.start.line(), column: key.span.start.col() + 1 };
                match &key.data {
                    YamlData::Representation(name, ..) => {
                        entries.push((name.to_string(), at, convert(node, problems, env, depth + 1)));
                    }
                    _ => problems.add(at, "", "the name of a field is plain text"),
                }
            }
            Value::Mapping(entries)
        }
        YamlData::Tagged(tag, _) => wrong(format!("the tag {tag} means nothing here")),
        _ => wrong("this kind of value is not understood".into()),
    };
    Node { place, value }
}

/// Replaces `${NAME}`, `${NAME:-default}` and `$$`; says whether anything came from the environment.
fn substitute(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<(String, bool), String> {
    let (mut out, mut rest, mut secret) = (String::with_capacity(text.len()), text, false);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let Some(inner) = rest.strip_prefix('{') else {
            return Err("a `$` stands alone; write ${NAME} for a variable, $$ for a dollar".into());
        };
        let end = inner.find('}').ok_or("`${` has no `}`")?;
        let (name, default) = match inner[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&inner[..end], None),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("`${{{name}}}` is not the name of a variable"));
        }
        match (env(name).filter(|value| default.is_none() || !value.is_empty()), default) {
            (Some(value), _) => {
                secret = true;
                out.push_str(&value);
            }
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err(format!("the variable {name} is not set; set it, or write ${{{name}:-default}}")),
        }
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok((out, secret))
}
