//! Holds a tree against a JSON Schema: finds every mistake at once, and makes of each scalar what its place wants.

use std::str::FromStr;

use serde_json::{Map, Number, Value};

use super::diagnose::{Mark, Report, shown};
use super::read::{Body, Node, Scalar};
use super::units::{ByteSize, Moment, Pixels, Span};

/// Turns `node` into the value that `schema` describes, reporting what does not fit. What is wrong is left out of the value.
pub(super) fn walk(node: &Node, schema: &Value, report: &mut Report) -> Option<Value> {
    Walk { root: schema, report }.node(node, schema, "", false)
}

struct Walk<'a> {
    root: &'a Value,
    report: &'a mut Report,
}

/// What may stand in one place: the alternatives of a schema taken together.
#[derive(Default)]
struct Wanted<'s> {
    object: Option<&'s Value>,
    array: Option<&'s Value>,
    /// Schemas of scalars.
    scalars: Vec<&'s Value>,
    /// Words of an enumeration.
    words: Vec<&'s str>,
    null: bool,
}

impl<'a> Walk<'a> {
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        schema["$ref"].as_str().and_then(|r| self.root.pointer(r.trim_start_matches('#'))).unwrap_or(schema)
    }

    fn wanted(&self, schema: &'a Value, wanted: &mut Wanted<'a>) {
        let schema = self.resolve(schema);
        for alternatives in ["anyOf", "oneOf"] {
            for one in schema[alternatives].as_array().into_iter().flatten() {
                self.wanted(one, wanted);
            }
        }
        wanted.words.extend(schema["const"].as_str());
        wanted.words.extend(schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str));
        if schema.get("const").is_some() || schema.get("enum").is_some() {
            wanted.null |= schema["enum"].as_array().is_some_and(|e| e.contains(&Value::Null));
            return;
        }
        for kind in types(schema) {
            match kind {
                "object" => wanted.object = Some(schema),
                "array" => wanted.array = Some(schema),
                "null" => wanted.null = true,
                _ if wanted.scalars.last().is_some_and(|s| std::ptr::eq(*s, schema)) => {}
                _ => wanted.scalars.push(schema),
            }
        }
    }

    fn node(&mut self, node: &Node, schema: &'a Value, path: &str, secret: bool) -> Option<Value> {
        let mut wanted = Wanted::default();
        self.wanted(schema, &mut wanted);
        if matches!(&node.body, Body::Scalar(s) if s.from_env) {
            self.report.secrets.insert(path.into());
        }
        match (&node.body, &wanted) {
            (Body::Map(pairs), Wanted { object: Some(schema), .. }) => Some(self.object(node.mark, pairs, schema, path)),
            (Body::List(nodes), Wanted { array: Some(schema), .. }) => self.array(node, nodes, schema, path, secret),
            (Body::Scalar(s), Wanted { null: true, .. }) if s.is_null() => Some(Value::Null),
            // `batch:` with nothing behind it, or with all fields in comments, is a mapping without fields.
            (Body::Scalar(s), Wanted { object: Some(schema), .. }) if s.is_null() => Some(self.object(node.mark, &[], schema, path)),
            (Body::Scalar(s), _) => match scalar(s, &wanted, secret || s.from_env) {
                Ok((value, None)) => Some(value),
                // A value stays, so that the rest of the file can still be checked.
                Ok((value, Some(message))) => self.wrong(node.mark, path, message).or(Some(value)),
                Err(message) => self.wrong(node.mark, path, message),
            },
            (Body::Map(_), _) => self.wrong(node.mark, path, format!("expected {}, found a mapping", wanted.describe())),
            (Body::List(_), _) => self.wrong(node.mark, path, format!("expected {}, found a list", wanted.describe())),
        }
    }

    fn wrong(&mut self, mark: Mark, path: &str, message: String) -> Option<Value> {
        self.report.error_at(mark, path, message);
        None
    }

    fn object(&mut self, mark: Mark, pairs: &[(String, Mark, Node)], schema: &'a Value, path: &str) -> Value {
        let none = Map::new();
        let fields = schema["properties"].as_object();
        let free = schema.get("additionalProperties").filter(|s| s.is_object());
        let mut value = Map::new();
        for (name, at, child) in pairs {
            let below = join(path, name);
            let known = fields.and_then(|f| f.get(name)).or(free);
            let Some(known) = known else {
                self.report.error_at(*at, &below, unknown(name, fields.unwrap_or(&none)));
                continue;
            };
            self.report.marks.insert(below.clone(), child.mark);
            // A free mapping is `properties` of a client: passwords go there.
            if let Some(child) = self.node(child, known, &below, free.is_some()) {
                value.insert(name.clone(), child);
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !pairs.iter().any(|(n, ..)| n == name) {
                self.report.error_at(mark, &join(path, name), format!("the field `{name}` is missing"));
            }
            if !value.contains_key(name)
                && let Some(stand_in) = fields.and_then(|f| f.get(name)).and_then(|schema| self.stand_in(schema))
            {
                value.insert(name.to_owned(), stand_in);
            }
        }
        Value::Object(value)
    }

    fn array(&mut self, node: &Node, nodes: &[Node], schema: &'a Value, path: &str, secret: bool) -> Option<Value> {
        let count = |bound: &str| schema[bound].as_u64();
        if count("minItems").is_some_and(|n| (nodes.len() as u64) < n) || count("maxItems").is_some_and(|n| nodes.len() as u64 > n) {
            let bound = count("minItems").or(count("maxItems")).unwrap_or(0);
            return self.wrong(node.mark, path, format!("expected {bound} entries, found {}", nodes.len()));
        }
        let items = &schema["items"];
        let mut values = Vec::new();
        for (i, child) in nodes.iter().enumerate() {
            let below = format!("{path}[{i}]");
            self.report.marks.insert(below.clone(), child.mark);
            // A shorter list would be another list.
            values.push(self.node(child, items, &below, secret).or_else(|| self.stand_in(items))?);
        }
        Some(Value::Array(values))
    }

    /// Something in the place of what is wrong or missing and cannot be left out, so that the rest of the file can still be checked.
    fn stand_in(&self, schema: &'a Value) -> Option<Value> {
        let mut wanted = Wanted::default();
        self.wanted(schema, &mut wanted);
        Some(match wanted {
            Wanted { object: Some(_), .. } => Value::Object(Map::new()),
            Wanted { array: Some(schema), .. } if schema.get("minItems").is_none() => Value::Array(Vec::new()),
            Wanted { scalars, .. } if scalars.iter().any(|s| types(s).contains(&"string") && s.get("format").is_none()) => "".into(),
            Wanted { scalars, .. } => scalars.first()?["minimum"].as_u64()?.into(),
        })
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => shown(name),
        _ => format!("{path}.{}", shown(name)),
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn unknown(name: &str, fields: &Map<String, Value>) -> String {
    if name == "<<" {
        return "merge keys (`<<`) are not YAML 1.2; write the fields out".into();
    }
    match nearest(name, fields.keys().map(String::as_str)) {
        Some(near) => format!("unknown field; did you mean `{near}`?"),
        None => format!("unknown field; known here: {}", fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// The nearest of some names, if it is near enough to be meant.
fn nearest<'n>(name: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Longer than any name there is; the distance takes time with the square of the length.
    if name.len() > 64 {
        return None;
    }
    let plain = |n: &str| n.to_lowercase().replace(['-', ' '], "_");
    let distance = |n: &&str| strsim::damerau_levenshtein(&plain(name), &plain(n));
    let near = names.min_by_key(distance)?;
    (distance(&near) <= 1 + near.len() / 4).then_some(near)
}

impl Wanted<'_> {
    fn describe(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if !self.words.is_empty() {
            parts.push(self.words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "));
        }
        for schema in &self.scalars {
            let example = schema["examples"][0].as_str().unwrap_or_default();
            match schema["format"].as_str() {
                Some("duration") => parts.push(format!("a length of time like {example}")),
                Some("bytes") => parts.push(format!("a size in bytes like {example}")),
                Some("date-time") => parts.push(format!("a point in time like {example}")),
                Some("pixels") => parts.push(format!("a number of pixels like {example}")),
                _ => parts.extend(types(schema).into_iter().filter_map(|kind| match kind {
                    "string" => Some("text".to_owned()),
                    "integer" => Some("a whole number".to_owned()),
                    "number" => Some("a number".to_owned()),
                    "boolean" => Some("true or false".to_owned()),
                    _ => None,
                })),
            }
        }
        if self.object.is_some() {
            parts.push("a mapping".into());
        }
        if self.array.is_some() {
            parts.push("a list".into());
        }
        parts.join(" or ")
    }
}

/// What is made of a scalar; with what is wrong about its size, and then the nearest value that is allowed.
fn scalar(scalar: &Scalar, wanted: &Wanted, secret: bool) -> Result<(Value, Option<String>), String> {
    let found = match () {
        () if scalar.from_env => "another value (from the environment, not shown)".to_owned(),
        () if secret => "another value (not shown)".to_owned(),
        () if scalar.is_null() => "nothing; leave the field out for its default".to_owned(),
        () => format!("`{}`", shown(&scalar.text)),
    };
    if !scalar.is_null() {
        if wanted.words.contains(&scalar.text.as_str()) {
            return Ok((scalar.text.clone().into(), None));
        }
        for schema in &wanted.scalars {
            for kind in types(schema) {
                if let Some(value) = typed(scalar, schema, kind) {
                    return Ok(match out_of_range(&value, schema) {
                        None => (value, None),
                        Some((allowed, message)) => (allowed, Some(message)),
                    });
                }
            }
        }
    }
    let mut message = format!("expected {}, found {found}", wanted.describe());
    let text = scalar.text.as_str();
    if secret {
        return Err(message);
    }
    if let Some(near) = nearest(text, wanted.words.iter().copied()) {
        message = format!("{message}; did you mean `{near}`?");
    } else if wanted.scalars.iter().any(|s| types(s).contains(&"boolean")) && matches!(text, "yes" | "no" | "on" | "off") {
        message.push_str("; YAML 1.2 knows true and false only");
    } else if !scalar.plain && wanted.scalars.iter().any(|s| types(s).iter().any(|t| matches!(*t, "integer" | "number" | "boolean"))) {
        message.push_str(" in quotes, which is text; take the quotes off");
    }
    Err(message)
}

/// The scalar as `kind`, if it can be read so.
fn typed(scalar: &Scalar, schema: &Value, kind: &str) -> Option<Value> {
    let text = scalar.text.as_str();
    let unit = |fits: bool| fits.then(|| Value::from(text));
    match (kind, schema["format"].as_str()) {
        ("string", Some("duration")) => unit(Span::from_str(text).is_ok()),
        ("string", Some("bytes")) => unit(ByteSize::from_str(text).is_ok()),
        ("string", Some("pixels")) => unit(Pixels::from_str(text).is_ok()),
        ("string", Some("date-time")) => unit(Moment::from_str(text).is_ok()),
        (_, Some("duration" | "bytes" | "pixels" | "date-time")) => None,
        ("string", _) => Some(text.into()),
        ("boolean", _) if scalar.is_bare() => match text {
            "true" | "True" | "TRUE" => Some(true.into()),
            "false" | "False" | "FALSE" => Some(false.into()),
            _ => None,
        },
        ("integer", _) if scalar.is_bare() => {
            let text = text.replace('_', "");
            text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from)).ok().map(Value::from)
        }
        // Rust also reads `inf` and `nan`, which no field can use, and JSON cannot say.
        ("number", _) if scalar.is_bare() => text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::from),
        _ => None,
    }
}

/// The nearest value that is allowed, and a message, if `value` is not.
fn out_of_range(value: &Value, schema: &Value) -> Option<(Value, String)> {
    let number = value.as_f64()?;
    let allowed = if schema["minimum"].as_f64().is_some_and(|min| number < min) {
        schema["minimum"].clone()
    } else if schema["maximum"].as_f64().is_some_and(|max| number > max) {
        schema["maximum"].clone()
    } else if schema["format"] == "uint32" && number > u32::MAX.into() {
        // schemars says of small integers how far they go; of larger ones it need not.
        u32::MAX.into()
    } else if schema["format"] == "float" && !(number as f32).is_finite() {
        0.into()
    } else {
        return None;
    };
    let message = match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(min), Some(max)) if min == max => format!("out of range: only {min} is known"),
        (Some(min), Some(max)) => format!("out of range: {min} to {max} is allowed"),
        (Some(min), None) => format!("out of range: at least {min} is allowed"),
        (None, Some(max)) => format!("out of range: at most {max} is allowed"),
        (None, None) => "out of range".into(),
    };
    Some((allowed, message))
}
