//! YAML as a tree that knows where each node stood, with `${NAME}` replaced.
//!
//! The replacement is done scalar by scalar after parsing, so text from outside can never become structure.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnose::{Mark, Report, shown};

/// Largest file: a pipeline is a page of text.
pub(super) const MAX_FILE: usize = 1 << 20;
/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// Most that a tree may take with its aliases followed, in bytes of text and a flat price a node: stops a file that unfolds itself.
const MAX_COST: usize = 4 << 20;
const NODE_COST: usize = 64;

/// A variable's value by its name.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub mark: Mark,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<(String, Mark, Node)>),
}

#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub text: String,
    /// Without quotes: YAML then lets it be a number, a boolean or null.
    pub plain: bool,
    /// Wholly or partly a variable: never shown, and typed by what is wanted in its place.
    pub from_env: bool,
}

impl Scalar {
    /// Nothing, as YAML writes it.
    pub fn is_null(&self) -> bool {
        self.plain && !self.from_env && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// Whether YAML or its place may read it as other than text.
    pub fn is_bare(&self) -> bool {
        self.plain || self.from_env
    }
}

impl Node {
    /// Bytes that the tree takes, roughly, and how deep it is. Both are bounded while the tree is built, so the recursion is.
    fn measure(&self) -> (usize, usize) {
        let (cost, depth) = match &self.body {
            Body::Scalar(s) => (s.text.len(), 0),
            Body::List(nodes) => sum(nodes.iter().map(Node::measure)),
            Body::Map(pairs) => {
                let (cost, depth) = sum(pairs.iter().map(|(_, _, n)| n.measure()));
                (cost + pairs.iter().map(|(k, ..)| k.len()).sum::<usize>(), depth)
            }
        };
        (cost + NODE_COST, depth + 1)
    }
}

fn sum(parts: impl Iterator<Item = (usize, usize)>) -> (usize, usize) {
    parts.fold((0, 0), |(cost, depth), (c, d)| (cost + c, depth.max(d)))
}

/// A list or mapping that is not closed yet.
struct Open {
    mark: Mark,
    anchor: usize,
    body: Body,
    /// The keys of a mapping so far.
    keys: HashSet<String>,
    /// The key that waits for its value; `Some(None)` for one that was refused.
    key: Option<Option<(String, Mark)>>,
}

/// Reads one document. Mistakes go to `report`; `None` if there is no tree at all.
pub(super) fn read(text: &str, env: Env, report: &mut Report) -> Option<Node> {
    if text.len() > MAX_FILE {
        report.error_at(Mark::START, "", format!("the file is larger than {MAX_FILE} bytes"));
        return None;
    }
    let mut builder = Builder { env, report, open: Vec::new(), anchors: HashMap::new(), cost: 0, root: None };
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    while let Some(event) = parser.next_event() {
        let result = match event {
            Ok((event, span)) => builder.event(event, span),
            // The message is the parser's own; it repeats nothing of the file but names of anchors and tags.
            Err(e) => Err(match tab(text, e.marker().line()) {
                Some(mark) => (mark, "indented with a tab, which YAML refuses; use spaces".into()),
                None => (mark(e.marker()), format!("not YAML: {}", shown(e.info()))),
            }),
        };
        if let Err((mark, message)) = result {
            builder.report.error_at(mark, "", message);
            return None;
        }
    }
    let root = builder.root;
    if root.is_none() {
        report.error_at(Mark::START, "", "the file is empty".into());
    }
    root
}

/// Where a tab indents the line that the parser stumbled over, or the next: it may name the end of what stood before.
fn tab(text: &str, line: usize) -> Option<Mark> {
    let lines = text.lines().enumerate().skip(line.max(1) - 1).take(2);
    let indent = |line: &str| line.find(|c: char| c != ' ').filter(|at| line[*at..].starts_with('\t'));
    lines.filter_map(|(n, text)| Some(Mark { line: n + 1, column: indent(text)? + 1 })).next()
}

struct Builder<'a, 'e> {
    env: Env<'e>,
    report: &'a mut Report,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    cost: usize,
    root: Option<Node>,
}

type Step = Result<(), (Mark, String)>;

impl Builder<'_, '_> {
    fn event(&mut self, event: Event, span: Span) -> Step {
        let mark = mark(&span.start);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err((mark, "a second document; one file is one document".into())),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => Ok(()),
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err((mark, "an alias within what it stands for".into()));
                };
                let (cost, depth) = node.measure();
                self.afford(cost, self.open.len() + depth, mark)?;
                self.place(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.untagged(tag.is_some(), mark);
                self.afford(NODE_COST + text.len(), self.open.len() + 1, mark)?;
                let is_key = matches!(self.open.last(), Some(Open { body: Body::Map(_), key: None, .. }));
                let scalar = match is_key {
                    true => Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain, from_env: false },
                    false => self.scalar(text, style, mark)?,
                };
                self.done(Node { mark, body: Body::Scalar(scalar) }, anchor)
            }
            Event::SequenceStart(anchor, tag) => self.begin(Body::List(Vec::new()), anchor, tag.is_some(), mark),
            Event::MappingStart(anchor, tag) => self.begin(Body::Map(Vec::new()), anchor, tag.is_some(), mark),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.done(Node { mark: open.mark, body: open.body }, open.anchor),
                None => Ok(()),
            },
        }
    }

    fn untagged(&mut self, tagged: bool, mark: Mark) {
        if tagged {
            self.report.error_at(mark, "", "a tag (`!...`) means nothing here; remove it".into());
        }
    }

    fn begin(&mut self, body: Body, anchor: usize, tagged: bool, mark: Mark) -> Step {
        self.untagged(tagged, mark);
        self.afford(NODE_COST, self.open.len() + 1, mark)?;
        self.open.push(Open { mark, anchor, body, keys: HashSet::new(), key: None });
        Ok(())
    }

    fn afford(&mut self, cost: usize, depth: usize, mark: Mark) -> Step {
        self.cost += cost;
        if self.cost > MAX_COST {
            return Err((mark, "the file is too large once its aliases are followed".into()));
        }
        if depth > MAX_DEPTH {
            return Err((mark, format!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }

    fn scalar(&mut self, text: Cow<str>, style: ScalarStyle, mark: Mark) -> Result<Scalar, (Mark, String)> {
        let plain = style == ScalarStyle::Plain;
        match substitute(&text, self.env) {
            Ok(None) => Ok(Scalar { text: text.into_owned(), plain, from_env: false }),
            Ok(Some((text, from_env))) => {
                self.afford(text.len(), 0, mark)?;
                Ok(Scalar { text, plain, from_env })
            }
            Err(message) => {
                self.report.error_at(mark, "", message);
                // Stands for a value that is unknown, so nothing more is said of it.
                self.report.silence(mark);
                Ok(Scalar { text: String::new(), plain, from_env: true })
            }
        }
    }

    fn done(&mut self, node: Node, anchor: usize) -> Step {
        if anchor != 0 {
            let (cost, depth) = node.measure();
            self.afford(cost, self.open.len() + depth, node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node)
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node) -> Step {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.body {
            Body::List(nodes) => nodes.push(node),
            Body::Map(pairs) => match open.key.take() {
                Some(Some((key, mark))) => pairs.push((key, mark, node)),
                Some(None) => {}
                None => {
                    open.key = Some(match node.body {
                        Body::Scalar(s) if !open.keys.insert(s.text.clone()) => {
                            let message = format!("`{}` stands twice; remove one", shown(&s.text));
                            self.report.error_at(node.mark, "", message);
                            None
                        }
                        Body::Scalar(s) => Some((s.text, node.mark)),
                        Body::List(_) | Body::Map(_) => {
                            self.report.error_at(node.mark, "", "a field's name must be text".into());
                            None
                        }
                    });
                }
            },
            Body::Scalar(_) => {}
        }
        Ok(())
    }
}

fn mark(marker: &saphyr_parser::Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

/// Replaces `${NAME}`, `${NAME:-default}` and `$$`. As in a shell, the default also stands for an empty value. `None` if there was nothing to
/// replace, else the text and whether a variable was in it. A `$` before anything else is refused: it may be a slip for either.
fn substitute(text: &str, env: Env) -> Result<Option<(String, bool)>, String> {
    if !text.contains('$') {
        return Ok(None);
    }
    let (mut out, mut rest, mut from_env) = (String::new(), text, false);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (inside, after) = after.split_once('}').ok_or("`${` without `}`; write `$${` for the characters themselves")?;
            let (name, default) = inside.split_once(":-").map_or((inside, None), |(n, d)| (n, Some(d)));
            let legal =
                name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
            if !legal {
                return Err("`${...}` takes a variable's name, or a name and a default: `${NAME:-default}`".into());
            }
            match (env(name), default) {
                (Some(value), None) => out.push_str(&value),
                (Some(value), Some(_)) if !value.is_empty() => out.push_str(&value),
                (_, Some(default)) => out.push_str(default),
                (None, None) => {
                    return Err(format!("the environment variable {name} is not set; set it, or give a default: `${{{name}:-...}}`"));
                }
            }
            from_env = true;
            rest = after;
        } else {
            return Err("a `$` stands alone; write `${NAME}` for a variable, `$$` for a dollar".into());
        }
    }
    out.push_str(rest);
    Ok(Some((out, from_env)))
}
