//! A pickle machine that can build a state dictionary and nothing else. It calls nothing: what a function would have made is made here.

use std::collections::HashMap;

use super::object::{Cut, Id, Name, Object, Objects, Storage};
use super::tensor::Kind;
use crate::telemetry::escape;

/// Longest pickle; a ResNet-152's has about 100 KB.
pub(super) const MAX_PICKLE: usize = 4 << 20;

/// A pickle that was read.
pub(super) struct Read {
    pub objects: Objects,
    pub root: Id,
    /// Where the next byte after it is.
    pub end: usize,
}

/// Reads one pickle from the beginning of `bytes`.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn read(bytes: &[u8]) -> Result<Read, String> {
    let mut machine = Machine { bytes, at: 0, objects: Objects::default(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = machine.at;
        let done = machine.step().map_err(|e| format!("byte {at} of its pickle: {e}"))?;
        if let Some(root) = done {
            return Ok(Read { objects: machine.objects, root, end: machine.at });
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Objects,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len()).ok_or("it ends too early")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "it ends too early".into())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let length = self.bytes[self.at..].iter().position(|b| *b == b'\n').ok_or("it ends too early")?;
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name is not UTF-8".into())
    }

    fn push(&mut self, object: Object) -> Result<(), String> {
        let id = self.objects.add(object)?;
        self.stack.push(id);
        Ok(())
    }

    fn pop(&mut self) -> Result<Id, String> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= bottom {
            return Err("its stack is empty".into());
        }
        self.stack.pop().ok_or_else(|| "its stack is empty".into())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "its stack is empty".into())
    }

    /// All above the last mark.
    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "text is not UTF-8")?.to_owned();
        self.push(Object::Text(text))
    }

    /// One instruction; the root when it was the last. Numbers of instructions as `pickletools` lists them.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let [code] = self.number()?;
        match code {
            b'.' => return self.pop().map(Some),
            0x80 => {
                let [version] = self.number()?;
                if version > 5 {
                    return Err(format!("pickles of version {version} are not known"));
                }
            }
            0x95 => drop(self.take(8)?), // a frame: only says how much could be read at once
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'N' => self.push(Object::None)?,
            0x88 => self.push(Object::Bool(true))?,
            0x89 => self.push(Object::Bool(false))?,
            b'J' => {
                let n = i32::from_le_bytes(self.number()?);
                self.push(Object::Int(n.into()))?;
            }
            b'K' => {
                let [n] = self.number()?;
                self.push(Object::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.number()?);
                self.push(Object::Int(n.into()))?;
            }
            0x8a => {
                let [length] = self.number()?;
                let number = long(self.take(length.into())?);
                self.push(number)?;
            }
            b'G' => {
                self.take(8)?;
                self.push(Object::OtherNumber)?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.number()?);
                self.text(length as usize)?;
            }
            0x8c => {
                let [length] = self.number()?;
                self.text(length.into())?;
            }
            // Python 2's text is bytes.
            b'U' => {
                let [length] = self.number()?;
                self.text(length.into())?;
            }
            b')' => self.push(Object::Tuple(Vec::new()))?,
            b't' => {
                let items = self.marked()?;
                self.push(Object::Tuple(items))?;
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                self.push(Object::Tuple(items))?;
            }
            b']' => self.push(Object::List(Vec::new()))?,
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.marked()?;
                self.append(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set(&items)?;
            }
            b'q' => {
                let [n] = self.number()?;
                self.remember(n.into())?;
            }
            b'r' => {
                let n = u32::from_le_bytes(self.number()?);
                self.remember(n)?;
            }
            0x94 => self.remember(self.memo.len() as u32)?,
            b'h' => {
                let [n] = self.number()?;
                self.recall(n.into())?;
            }
            b'j' => {
                let n = u32::from_le_bytes(self.number()?);
                self.recall(n)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let name = named(module, name)?;
                self.push(Object::Name(name))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let name = named(self.objects.text(module)?, self.objects.text(name)?)?;
                self.push(Object::Name(name))?;
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Object::Storage(storage))?;
            }
            b'R' => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = self.call(function, arguments)?;
                self.stack.push(made);
            }
            // The attributes of a state dictionary say which version of a layer wrote it; nothing here needs them.
            b'b' => {
                self.pop()?;
                let what = self.objects.get(self.top()?);
                if !matches!(what, Object::Dict(_)) {
                    return Err(format!("attributes are set on {}, which is not done here", what.what()));
                }
            }
            other => return Err(format!("the instruction 0x{other:02x} is none that a state dictionary needs, and is not run")),
        }
        Ok(None)
    }

    fn append(&mut self, items: &[Id]) -> Result<(), String> {
        match self.objects.get_mut(self.top()?) {
            Some(Object::List(list)) => list.extend_from_slice(items),
            _ => return Err("something is appended to what is no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a key has no value".into());
        }
        match self.objects.get_mut(self.top()?) {
            Some(Object::Dict(dict)) => dict.extend(pairs.iter().map(|[key, value]| (*key, *value))),
            _ => return Err("an entry is set in what is no dictionary".into()),
        }
        Ok(())
    }

    fn remember(&mut self, number: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn recall(&mut self, number: u32) -> Result<(), String> {
        let id = *self.memo.get(&number).ok_or("it names an object that it did not store")?;
        self.stack.push(id);
        Ok(())
    }

    /// `('storage', type, key, where it was, elements)`, and in the old form a sixth, which has been `None` for years.
    fn storage(&self, id: Id) -> Result<Storage, String> {
        let items = self.objects.items(id)?;
        let (&[kind, class, key, _, length], rest) = items.split_first_chunk().ok_or("a storage has too few parts")?;
        if self.objects.text(kind)? != "storage" {
            return Err("it refers to something outside of it that is no storage".into());
        }
        let &Object::Name(Name::Storage(kind)) = self.objects.get(class) else {
            return Err(format!("the type of a storage is {}", self.objects.get(class).what()));
        };
        if rest.iter().any(|id| *self.objects.get(*id) != Object::None) {
            return Err("a storage is a view of another one, as only torch 0.3 and older wrote; save it again with a newer one".into());
        }
        Ok(Storage { kind, key: self.objects.text(key)?.to_owned(), length: self.objects.size(length)? })
    }

    fn call(&mut self, function: Id, arguments: Id) -> Result<Id, String> {
        let &Object::Name(function) = self.objects.get(function) else {
            return Err(format!("{} is called", self.objects.get(function).what()));
        };
        let arguments = self.objects.items(arguments)?;
        let made = match (function, arguments) {
            (Name::OrderedDict, []) => Object::Dict(Vec::new()),
            (Name::OrderedDict, [pairs]) => {
                let pair = |id: &Id| match self.objects.items(*id)? {
                    [key, value] => Ok((*key, *value)),
                    _ => Err("an entry of an OrderedDict is no pair".to_owned()),
                };
                Object::Dict(self.objects.items(*pairs)?.iter().map(pair).collect::<Result<_, _>>()?)
            }
            (Name::RebuildTensor, [storage, offset, dims, strides, ..]) => {
                if !matches!(self.objects.get(*storage), Object::Storage(_)) {
                    return Err(format!("a tensor is cut from {}", self.objects.get(*storage).what()));
                }
                let sizes = |id: &Id| self.objects.items(*id)?.iter().map(|n| self.objects.size(*n)).collect::<Result<Vec<_>, _>>();
                Object::Tensor(Cut { storage: *storage, offset: self.objects.size(*offset)?, dims: sizes(dims)?, strides: sizes(strides)? })
            }
            (Name::RebuildParameter, [tensor, ..]) if matches!(self.objects.get(*tensor), Object::Tensor(_)) => return Ok(*tensor),
            (function, arguments) => {
                return Err(format!("{function:?} is called with {} arguments that it does not take", arguments.len()));
            }
        };
        self.objects.add(made)
    }
}

/// A whole number of any length.
fn long(bytes: &[u8]) -> Object {
    if bytes.len() > 8 {
        return Object::OtherNumber;
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut all = if negative { [0xff; 8] } else { [0; 8] };
    all[..bytes.len()].copy_from_slice(bytes);
    Object::Int(i64::from_le_bytes(all))
}

/// The few names that a state dictionary needs.
fn named(module: &str, name: &str) -> Result<Name, String> {
    match (module, name) {
        ("collections", "OrderedDict") => return Ok(Name::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => return Ok(Name::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => return Ok(Name::RebuildParameter),
        _ => {}
    }
    let kind = name.strip_suffix("Storage").filter(|_| module == "torch" || module == "torch.storage").and_then(Kind::named);
    kind.map(Name::Storage).ok_or_else(|| {
        let shown: String = escape(&format!("{module}.{name}")).chars().take(120).collect();
        format!("it asks for {shown}, which is not run: only plain state dictionaries are read; save `network.state_dict()`")
    })
}
