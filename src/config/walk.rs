//! Holds a tree against a JSON Schema, collecting every mistake, and turns it into the JSON that the schema wants. Only the parts of JSON Schema that
//! our own types give rise to are understood.

use serde_json::{Map, Number, Value as Json};

use super::diagnose::Diagnostics;
use super::tree::{Node, Value};
use super::units::{ByteSize, Pixels, Span};

/// Checks `node` against `schema`; what comes back is whole only if no problem was added.
pub fn walk(node: &Node, schema: &Json, problems: &mut Diagnostics) -> Json {
    Walk { root: schema, problems }.any(node, schema, "")
}

struct Walk<'a> {
    root: &'a Json,
    problems: &'a mut Diagnostics,
}

impl<'a> Walk<'a> {
    fn wrong(&mut self, node: &Node, path: &str, message: impl Into<String>) -> Json {
        self.problems.add(node.place, path, message);
        Json::Null
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        match schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#')) {
            Some(pointer) => self.root.pointer(pointer).unwrap_or(schema),
            None => schema,
        }
    }

    fn any(&mut self, node: &Node, schema: &'a Json, path: &str) -> Json {
        let schema = self.resolve(schema);
        if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|k| schema.get(k)).and_then(Json::as_array) {
            return self.choice(node, choices, path);
        }
        match &node.value {
            _ if node.is_null() && allows(schema, "null") => Json::Null,
            // A field whose value is left out in YAML (`batch:`) is the same as no fields.
            _ if node.is_null() && allows(schema, "object") => self.object(node, &[], schema, path),
            Value::Mapping(entries) if allows(schema, "object") => self.object(node, entries, schema, path),
            Value::Sequence(list) if allows(schema, "array") => self.array(node, list, schema, path),
            Value::Scalar { text, plain, .. } if !node.is_null() => self.scalar(node, text, *plain, schema, path),
            _ => self.wrong(node, path, format!("{} is wanted here, this is {}", wanted(schema), node.kind())),
        }
    }

    /// Of several forms the one that the node looks like.
    fn choice(&mut self, node: &Node, choices: &'a [Json], path: &str) -> Json {
        let choices: Vec<&'a Json> = choices.iter().map(|c| self.resolve(c)).collect();
        if node.is_null() && choices.iter().any(|c| allows(c, "null")) {
            return Json::Null;
        }
        let words: Vec<&str> = choices.iter().flat_map(|c| constants(c)).collect();
        let fits = |c: &&Json| match &node.value {
            Value::Mapping(_) => allows(c, "object"),
            Value::Sequence(_) => allows(c, "array"),
            Value::Scalar { .. } => constants(c).is_empty() && ["string", "integer", "number", "boolean"].iter().any(|t| allows(c, t)),
        };
        if let Value::Scalar { text, .. } = &node.value
            && !words.is_empty()
        {
            return self.word(node, text, &words, path);
        }
        match choices.iter().find(|c| fits(c)).or_else(|| choices.iter().find(|c| !allows(c, "null"))) {
            Some(schema) => self.any(node, schema, path),
            None => self.wrong(node, path, "nothing fits here"),
        }
    }

    fn word(&mut self, node: &Node, text: &str, words: &[&str], path: &str) -> Json {
        if words.contains(&text) {
            return Json::String(text.to_owned());
        }
        let hint = nearest(text, words.iter().copied()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let shown = if matches!(&node.value, Value::Scalar { secret: true, .. }) { "***" } else { text };
        self.wrong(node, path, format!("`{shown}` is not one of {}{hint}", words.join(", ")))
    }

    fn object(&mut self, node: &Node, entries: &[(String, super::diagnose::Place, Node)], schema: &'a Json, path: &str) -> Json {
        let known = schema.get("properties").and_then(Json::as_object);
        let more = schema.get("additionalProperties").filter(|more| more.is_object());
        let mut out = Map::new();
        for (name, place, value) in entries {
            let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match known.and_then(|known| known.get(name)).or(more) {
                Some(schema) => {
                    // An empty value means the default, as if the field were not there.
                    let json = self.any(value, schema, &at);
                    if !(json.is_null() && value.is_null()) {
                        out.insert(name.clone(), json);
                    }
                }
                None => {
                    let names = known.into_iter().flat_map(Map::keys).map(String::as_str);
                    let hint = match nearest(name, names.clone()) {
                        Some(near) => format!("; did you mean `{near}`?"),
                        None => format!("; known are {}", names.collect::<Vec<_>>().join(", ")),
                    };
                    self.problems.add(*place, &at, format!("unknown field{hint}"));
                }
            }
        }
        for name in schema.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
            if !entries.iter().any(|(known, ..)| known == name) {
                self.wrong(node, path, format!("the field `{name}` is missing"));
            }
        }
        Json::Object(out)
    }

    fn array(&mut self, node: &Node, list: &[Node], schema: &'a Json, path: &str) -> Json {
        for (bound, over) in [("minItems", false), ("maxItems", true)] {
            if let Some(limit) = schema.get(bound).and_then(Json::as_u64)
                && if over { list.len() as u64 > limit } else { (list.len() as u64) < limit }
            {
                return self.wrong(
                    node,
                    path,
                    format!("{} entries, {} {limit} are wanted", list.len(), if over { "at most" } else { "at least" }),
                );
            }
        }
        let Some(item) = schema.get("items") else { return self.wrong(node, path, "a list without known entries") };
        Json::Array(list.iter().enumerate().map(|(n, entry)| self.any(entry, item, &format!("{path}[{n}]"))).collect())
    }

    fn scalar(&mut self, node: &Node, text: &str, plain: bool, schema: &'a Json, path: &str) -> Json {
        let words = constants(schema);
        if !words.is_empty() {
            return self.word(node, text, &words, path);
        }
        let unit = match schema.get("format").and_then(Json::as_str) {
            Some("duration") => Some(text.parse::<Span>().map(|_| ())),
            Some("bytes") => Some(text.parse::<ByteSize>().map(|_| ())),
            Some("pixels") => Some(text.parse::<Pixels>().map(|_| ())),
            _ => None,
        };
        match unit {
            Some(Ok(())) => return Json::String(text.to_owned()),
            Some(Err(message)) => return self.wrong(node, path, message),
            None => {}
        }
        // What came from the environment is text without quotes; the schema says what it is meant to be.
        let typed = plain || matches!(node.value, Value::Scalar { secret: true, .. });
        let json = match text {
            _ if allows(schema, "string") => Some(Json::String(text.to_owned())),
            "true" | "True" | "TRUE" if typed && allows(schema, "boolean") => Some(Json::Bool(true)),
            "false" | "False" | "FALSE" if typed && allows(schema, "boolean") => Some(Json::Bool(false)),
            _ if typed && allows(schema, "integer") => text.replace('_', "").parse::<i64>().ok().map(Json::from),
            _ if typed && allows(schema, "number") => text.parse().ok().and_then(Number::from_f64).map(Json::Number),
            _ => None,
        };
        let Some(json) = json else { return self.wrong(node, path, format!("{} is wanted here", wanted(schema))) };
        if let Some(number) = json.as_f64() {
            let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
            if bound("minimum").is_some_and(|least| number < least) || bound("maximum").is_some_and(|most| number > most) {
                let range = match (bound("minimum"), bound("maximum")) {
                    (Some(least), Some(most)) => format!("from {least} to {most}"),
                    (Some(least), None) => format!("{least} or more"),
                    (None, most) => format!("{} or less", most.unwrap_or(f64::INFINITY)),
                };
                return self.wrong(node, path, format!("{number} is out of range; a number {range} is wanted"));
            }
        }
        json
    }
}

fn allows(schema: &Json, kind: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(one)) => one == kind,
        Some(Json::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    }
}

/// The words that an enumeration allows.
fn constants(schema: &Json) -> Vec<&str> {
    let listed = schema.get("enum").and_then(Json::as_array).into_iter().flatten();
    listed.chain(schema.get("const")).filter_map(Json::as_str).collect()
}

fn wanted(schema: &Json) -> String {
    let words = constants(schema);
    if !words.is_empty() {
        return format!("one of {}", words.join(", "));
    }
    let names = [
        ("object", "a mapping"),
        ("array", "a list"),
        ("string", "text"),
        ("boolean", "true or false"),
        ("integer", "a whole number"),
        ("number", "a number"),
    ];
    let known: Vec<&str> = names.iter().filter(|(kind, _)| allows(schema, kind)).map(|(_, name)| *name).collect();
    if known.is_empty() { "something else".into() } else { known.join(" or ") }
}

/// The known name that a mistyped one is nearest to, if it is near at all.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(&name.to_lowercase(), candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}
